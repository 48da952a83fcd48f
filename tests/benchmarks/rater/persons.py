"""Simulated persons of the rater's benchmarks: hidden utilities over a starter image's true attributes.

Three kinds by turns: additive taste; a single peak (an ideal, worth more than the sum of its parts); additive with a
hidden region (two attributes together). Label noise by turns .2, .35 and .5 of the utility's spread. Half of every
additive taste is shared by all, so that there is a population to have a prior about. Grades lie at the
30/60/82/94 % quantiles, as the demo's do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from konomi_starter.data.captions import ATTRIBUTES, TASTE_ATTRIBUTES
from konomi_starter.persons.utility import QUANTILES

KINDS = ("additive", "single peak", "hidden region")
NOISES = (0.2, 0.35, 0.5)
COLUMNS = [(name, value) for name in TASTE_ATTRIBUTES for value in ATTRIBUTES[name]]
SHARED = 0.5
CROWD = 100


@dataclass(frozen=True)
class Person:
    """What one person thinks of N images.

    Attributes:
        kind: one of KINDS.
        noise: standard deviation of a grade's noise, the utility's spread being 1.
        utility: (N,) hidden, standardised.
        said: (N,) grades 1..5 the person gives when asked.
        again: (N,) grades the person gives when asked another time.
    """

    kind: str
    noise: float
    utility: np.ndarray
    said: np.ndarray
    again: np.ndarray


def person(records: Sequence[dict[str, str]], seed: int) -> Person:
    """Draws a person and lets them grade every image twice."""
    rng = np.random.default_rng((7, seed))
    kind, noise = KINDS[seed % 3], NOISES[(seed // 3) % 3]
    utility = _additive(records, rng)
    if kind == "single peak":
        ideal = {name: rng.choice(ATTRIBUTES[name]) for name in TASTE_ATTRIBUTES}
        shared = np.array([sum(record[name] == ideal[name] for name in ideal) for record in records])
        utility = 0.6 * utility + 0.8 * _standard(shared**1.7)
    if kind == "hidden region":
        first, second = rng.choice(len(TASTE_ATTRIBUTES), 2, replace=False)
        wanted = {name: rng.choice(ATTRIBUTES[name]) for name in (TASTE_ATTRIBUTES[first], TASTE_ATTRIBUTES[second])}
        inside = [all(record[name] == value for name, value in wanted.items()) for record in records]
        utility = utility + 2.0 * np.array(inside)
    utility = _standard(utility)
    cuts = np.quantile(utility, QUANTILES)
    said, again = (1 + np.searchsorted(cuts, utility + noise * rng.standard_normal(len(utility))) for _ in range(2))
    return Person(kind, noise, utility, said, again)


def crowd_mean(records: Sequence[dict[str, str]]) -> np.ndarray:
    """Returns the mean utility (N,) of CROWD other people, none of whom is ever a person of the benchmark."""
    return np.mean([_additive(records, np.random.default_rng((8, seed))) for seed in range(CROWD)], axis=0)


def _additive(records: Sequence[dict[str, str]], rng: np.random.Generator) -> np.ndarray:
    common = np.random.default_rng(12345).standard_normal(len(COLUMNS))
    weights = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * rng.standard_normal(len(COLUMNS))
    table = np.array([[record[name] == value for name, value in COLUMNS] for record in records], float)
    return _standard(table @ weights)


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()
