"""The 20 simulated persons of the night's proof: hidden tastes over true attributes, grades by gold quantile.

8 single-peak, 6 with a hidden liked region of base probability at most 0.5 %, 3 whose every fourth grade is any grade,
3 whose taste drifts while they grade. A taste is a function of an attribute table (N, C): one-hot rows for images the
attribute reader read, probabilities for embeddings nobody drew. UR is the best 3 % of the base model's own images,
SSR the next 7, SR 15, R 25, N 50.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from konomi_starter.data.captions import ATTRIBUTES, TASTE_ATTRIBUTES
from tests.benchmarks.rater.persons import COLUMNS

KINDS = ("single peak",) * 8 + ("hidden region",) * 6 + ("noisy",) * 3 + ("drifting",) * 3
CUTS = (0.50, 0.75, 0.90, 0.97)
SSR, UR = 4, 5
WRONG = 0.25
"""Share of a noisy person's grades that are any grade."""
BLUR = 0.15
"""Deviation of everybody's grading noise, the utility's spread being 1."""
DRIFT = np.pi / 4
"""Angle a drifting taste turns by over DRIFT_LABELS grades; the truth is where it ends."""
DRIFT_LABELS = 200
RAREST, RARE = 0.0015, 0.005
BONUS = 3.5
"""What a hidden region adds, in spreads of the utility: enough to make most of it UR."""


@dataclass(frozen=True)
class NightPerson:
    """One person.

    Attributes:
        number: place among the 20.
        kind: one of KINDS.
        weights: (C,) additive part.
        earlier: (C,) where a drifting taste begins.
        ideal: columns of the peak; each that is matched counts more than the last.
        hidden: columns that together make the hidden region; empty without one.
        cuts: where R, SR, SSR and UR begin.
        spread: standard deviation of the utility on the base model's images.
    """

    number: int
    kind: str
    weights: np.ndarray
    earlier: np.ndarray
    ideal: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    cuts: np.ndarray = field(default_factory=lambda: np.zeros(4))
    spread: float = 1.0

    def utility(self, table: np.ndarray) -> np.ndarray:
        """Returns the true utility (N,) of images with attributes (N, C)."""
        return self._at(table, self.weights)

    def grades(self, utility: np.ndarray) -> np.ndarray:
        """Returns the true grades 1..5 of utilities (N,)."""
        return 1 + np.searchsorted(self.cuts, utility)

    def say(self, table: np.ndarray, before: int, rng: np.random.Generator) -> np.ndarray:
        """Returns what the person says of images (N, C), having graded so many before: 1..5."""
        if self.kind == "drifting":
            turned = DRIFT * min(1.0, before / DRIFT_LABELS)
            utility = self._at(table, np.cos(DRIFT - turned) * self.weights + np.sin(DRIFT - turned) * self.earlier)
        else:
            utility = self.utility(table)
        said = self.grades(utility + BLUR * self.spread * rng.standard_normal(len(utility)))
        if self.kind == "noisy":
            said = np.where(rng.random(len(said)) < WRONG, rng.integers(1, 6, len(said)), said)
        return said

    def inside(self, table: np.ndarray) -> np.ndarray:
        """Returns how far images (N, C) are in the hidden region: (N,) 0..1."""
        return table[:, list(self.hidden)].prod(axis=1) if self.hidden else np.zeros(len(table))

    def _at(self, table: np.ndarray, weights: np.ndarray) -> np.ndarray:
        value = table @ weights
        if self.ideal:
            value = value + 0.6 * table[:, list(self.ideal)].sum(axis=1) ** 1.7
        return value + BONUS * self.inside(table)


def persons(table: np.ndarray, count: int = 20) -> list[NightPerson]:
    """Returns the first `count` persons, by kinds in turn; their tiers lie on the base model's images (N, C)."""
    order = sorted(range(20), key=lambda number: (sum(KINDS[n] == KINDS[number] for n in range(number)), number))
    return [_person(number, table) for number in order[:count]]


def table_of(records: Sequence[dict[str, str]]) -> np.ndarray:
    """Returns one-hot attributes (N, C) of attribute records."""
    return np.array([[record[name] == value for name, value in COLUMNS] for record in records], float)


def groups() -> list[slice]:
    """Returns the columns of each attribute a person may like."""
    found, start = [], 0
    for name in TASTE_ATTRIBUTES:
        found.append(slice(start, start + len(ATTRIBUTES[name])))
        start += len(ATTRIBUTES[name])
    return found


def _person(number: int, table: np.ndarray) -> NightPerson:
    rng = np.random.default_rng((11, number))
    kind = KINDS[number]
    weights, earlier = (_unit(table, rng.standard_normal(table.shape[1])) for _ in range(2))
    ideal: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    if kind == "single peak":
        weights = 0.4 * weights
        ideal = tuple(int(rng.integers(part.start, part.stop)) for part in groups())
    if kind == "hidden region":
        hidden = _hide(table, weights, rng)
    bare = NightPerson(number, kind, weights, earlier, ideal, hidden)
    utility = bare.utility(table)
    return NightPerson(number, kind, weights, earlier, ideal, hidden, np.quantile(utility, CUTS), float(utility.std()))


def _hide(table: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> tuple[int, ...]:
    """Draws three attribute values rarely seen together, whose images the rest of the taste likes less than most."""
    utility = table @ weights
    parts = groups()
    while True:
        chosen = rng.choice(len(parts), 3, replace=False)
        columns = tuple(int(rng.integers(parts[part].start, parts[part].stop)) for part in chosen)
        inside = table[:, list(columns)].prod(axis=1) > 0
        if RAREST <= inside.mean() <= RARE and utility[inside].mean() < np.median(utility):
            return columns


def _unit(table: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights / (table @ weights).std()
