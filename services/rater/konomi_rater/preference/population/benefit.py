"""Whether a population helps: the owner's own held-out labels decide, cross-validated with it in the fit and without.

A population is used where these labels are the likelier with it (by LEAST_NATS of log density in all, a proper score)
and their order is no worse. The order alone would be a lottery: of 20 labels its figure varies more than most priors
could add.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from konomi_rater.preference.features import Features, with_population
from konomi_rater.preference.gaussian_process import Process, held_out
from konomi_rater.preference.head import fit_head, kind_for
from konomi_rater.preference.metrics import Estimate, spearman
from konomi_rater.preference.ordinal import Check, grade_probabilities, never
from konomi_rater.preference.population.file import Population

MOST_LABELS = 300
"""Labels that decide at most, spread evenly: a prior matters while there are few."""
LEAST_NATS = 1.0
"""What all held-out labels together must gain. On 40 simulated worlds, none of them the benchmark's, this kept 80 % of
right priors at 20 labels and 12 % of wrong ones, and 62 % and 10 % at 10; 0.5 kept 20 % and 25 % of the wrong, 2 only
68 % and 35 % of the right."""
DRAWS = 200


@dataclass(frozen=True)
class Benefit:
    """What a population adds to one person's rater.

    Attributes:
        name: of the population.
        digest: of its file.
        used: whether the fit stands on it.
        srcc: cross-validated rank agreement of the owner's labels with it in the fit.
        srcc_without: the same without it.
        gain: the first less the second, with its paired bootstrap interval.
        nats: what all held-out labels together gain in log density.
    """

    name: str
    digest: str
    used: bool
    srcc: float
    srcc_without: float
    gain: Estimate
    nats: float


@dataclass(frozen=True)
class Labels:
    """What decides.

    Attributes:
        embeddings: (n, D) unit rows of the graded images.
        grades: (n,) integers 1..5.
        folds: rows of each fold.
        background: (N, D) unit rows of all images of the taste.
    """

    embeddings: np.ndarray
    grades: np.ndarray
    folds: Sequence[np.ndarray]
    background: np.ndarray


@dataclass(frozen=True)
class _Said:
    """What a head says of every label without its fold: the level (n,), and the log density of the grade (n,)."""

    level: np.ndarray
    density: np.ndarray


def benefits(
    populations: Sequence[Population], labels: Labels, plain: Features, seed: int, check: Check = never
) -> list[Benefit]:
    """Returns what each population adds by itself.

    Args:
        populations: of the embedder of the labels.
        labels: of the owner, MOST_LABELS at most.
        plain: the map without population scores, of the recipe that decides.
        seed: of the bootstrap.
        check: asked before every fit whether anybody waits.
    """
    without = _said(labels, plain, check)
    found = []
    for population in populations:
        said = _said(labels, with_population(plain, labels.background, population), check)
        srcc, before = (spearman(labels.grades, one.level) for one in (said, without))
        srcc, before = (value if np.isfinite(value) else 0.0 for value in (srcc, before))
        gain = _gain(labels.grades, said.level, without.level, srcc - before, seed)
        nats = float((said.density - without.density).sum())
        used = nats > LEAST_NATS and gain.value >= 0
        found.append(Benefit(population.name, population.digest, used, srcc, before, gain, nats))
    return found


def _said(labels: Labels, features: Features, check: Check) -> _Said:
    check()
    head = fit_head(kind_for(len(labels.grades)), features, labels.embeddings, labels.grades, check=check)
    if len(labels.folds) < 2 or not isinstance(head.process, Process):
        return _Said(np.zeros(len(labels.grades)), np.zeros(len(labels.grades)))
    level, variance = held_out(head.process, head.sites.targets, labels.folds)
    spread = (variance - head.sites.noise).clip(1e-9) + head.process.kernel.noise
    shares = grade_probabilities(level, spread, head.scale)
    chance = shares[np.arange(len(level)), labels.grades - 1]
    return _Said(level, np.log(chance.clip(1e-6)))


def _gain(grades: np.ndarray, with_: np.ndarray, without: np.ndarray, value: float, seed: int) -> Estimate:
    picks = np.random.default_rng(seed).integers(0, len(grades), (DRAWS, len(grades)))
    draws = np.array([spearman(grades[pick], with_[pick]) - spearman(grades[pick], without[pick]) for pick in picks])
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, [0.025, 0.975]) if len(draws) else (-1.0, 1.0)
    return Estimate(value, float(low), float(high), len(grades))
