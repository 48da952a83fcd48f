"""Which of two images the owner prefers: labels of their own, on the latent value that the grades cut.

The pairwise probit of Chu & Ghahramani (2005, "Preference learning with Gaussian processes"): a is preferred to b with
probability Phi((f_a - f_b) / (2 s^2)^1/2), s^2 being the noise of a grade; a tie counts half either way. What follows
is an observation of a difference, so that contradictions and circles are noise and nothing else. Beside more grades
than a process is exact on, comparisons only shift targets inside a top grade, by Bradley-Terry strengths from choix.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import log_ndtr

from konomi_rater.preference.gaussian_process import NO_PAIRS
from konomi_rater.preference.metrics import Estimate, spearman, wilson
from konomi_rater.preference.ordinal import LEAST_CURVATURE, Likelihood, Scale, scale_of

TOP_GRADES = (4, 5)
REGULARISATION = 0.5
"""choix's alpha: keeps an image that always wins finite."""
REACH = 0.8
"""Largest part of the way from the middle of a grade to its cut that comparisons may move a target."""
UNBOUNDED = 1.0
"""Width a grade without an upper cut is taken to have, in latent units."""
MOST_PAIRS = 1500
"""Distinct pairs at most that a fit learns from: the newest. Each costs what a grade costs."""


LEAST_LABELS = 5
LEAST_COMPARED = 10
"""Comparisons that say which is preferred, below which nothing is fitted on them alone; a grade counts as two."""


@dataclass(frozen=True)
class Preference:
    """One comparison between rows of the labelled images."""

    winner: int
    loser: int
    tie: bool = False


@dataclass(frozen=True)
class Pairs:
    """What was compared, each two images once.

    Attributes:
        rows: (m, 2) int64, the smaller first, in rising order.
        wins: (m, 2) float64, how often the first and how often the second was preferred; a tie is half of each, one of
            the many pairs that a pick among several makes less than 1 (`weights`).
        times: (m,) int64, how often the two were compared.
    """

    rows: np.ndarray = field(default_factory=lambda: NO_PAIRS)
    wins: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    times: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.rows)


NONE = Pairs()


def pairs_of(preferences: Sequence[Preference], most: int = MOST_PAIRS) -> Pairs:
    """Collects comparisons, in the order they were made; one of an image with itself says nothing.

    Args:
        preferences: the comparisons.
        most: distinct pairs that are kept, those compared last.
    """
    found: dict[tuple[int, int], list[float]] = {}
    for one, weight in zip(preferences, weights(preferences), strict=True):
        if one.winner == one.loser:
            continue
        key = (min(one.winner, one.loser), max(one.winner, one.loser))
        sums = found.pop(key, [0.0, 0.0, 0.0])
        found[key] = sums  # the newest stands last
        first = 0.5 if one.tie else float(one.winner == key[0])
        sums[0] += weight * first
        sums[1] += weight * (1.0 - first)
        sums[2] += 1
    kept = sorted(list(found.items())[-most:]) if most else []
    if not kept:
        return NONE
    sums_kept = np.array([sums for _, sums in kept])
    return Pairs(np.array([key for key, _ in kept], np.int64), sums_kept[:, :2], sums_kept[:, 2].astype(np.int64))


def weights(preferences: Sequence[Preference]) -> list[float]:
    """Returns what each comparison counts: 1, and less where a pick of k among n was recorded as k (n - k) pairs.

    Whoever picks k of n says log2 C(n, k) bits, not k (n - k): that much is shared out evenly. A pick is recorded as
    its pairs in a row, the same losers for every winner.

    Args:
        preferences: the comparisons, in the order they were made.
    """
    runs: list[tuple[int, list[int]]] = []
    losers_of_last: set[int] = set()
    for one in preferences:
        if runs and not one.tie and runs[-1][0] == one.winner and one.loser not in losers_of_last:
            runs[-1][1].append(one.loser)
            losers_of_last.add(one.loser)
        else:
            runs.append((-1 if one.tie else one.winner, [one.loser]))
            losers_of_last = {one.loser}
    said: list[float] = []
    start = 0
    while start < len(runs):
        losers, end = runs[start][1], start + 1
        winners = {runs[start][0]}
        while end < len(runs) and runs[end][1] == losers and runs[end][0] not in {*winners, -1} and -1 not in winners:
            winners.add(runs[end][0])
            end += 1
        k, rest = len(winners), len(losers)
        said += [math.log2(math.comb(k + rest, k)) / (k * rest)] * (k * rest)
        start = end
    return said


def pair_likelihood(pairs: Pairs, noise: float) -> Likelihood:
    """Returns the likelihood of pairs, of the difference of each two latent values.

    Args:
        pairs: what was compared.
        noise: latent variance of a grade; a comparison has it twice.
    """
    width = math.sqrt(2.0 * noise)

    def likelihood(mode: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slope, curvature = np.zeros(len(mode)), np.zeros(len(mode))
        for wins, sign in ((pairs.wins[:, 0], 1.0), (pairs.wins[:, 1], -1.0)):
            level = sign * mode / width
            ratio = np.exp(-0.5 * level**2 - 0.5 * math.log(2 * math.pi) - log_ndtr(level))
            slope += wins * sign * ratio / width
            curvature += wins * ratio * (ratio + level) / width**2
        return slope, curvature.clip(LEAST_CURVATURE)

    return likelihood


def right(pairs: Pairs, gaps: np.ndarray) -> float:
    """Returns how much of what was compared lies on the side that differences (m,) say; an even one is half right."""
    return float(
        np.where(gaps > 0, pairs.wins[:, 0], np.where(gaps < 0, pairs.wins[:, 1], pairs.wins.mean(axis=1))).sum()
    )


def order(grades: np.ndarray, mean: np.ndarray, pairs: Pairs, gaps: np.ndarray) -> float:
    """Returns how well unseen labels are put in order, -1..1: of grades by SRCC, of pairs by those that are right.

    Where there are both, each counts by its number; two pairs count as a grade.

    Args:
        grades: (n,) integers, 0 for an image that was not graded.
        mean: (n,) what is predicted of each without its group.
        pairs: what was compared.
        gaps: (m,) the differences that are predicted (`accuracy`).
    """
    srcc = spearman(grades, mean) if len(grades) > 1 or not len(pairs) else float("nan")
    if not len(pairs) or not gaps.any():
        return srcc
    of_pairs, share, given = 2 * right(pairs, gaps) / pairs.wins.sum() - 1, pairs.wins.sum() / 2, (grades > 0).sum()
    return float(of_pairs if not np.isfinite(srcc) else (given * srcc + share * of_pairs) / (given + share))


def accuracy(pairs: Pairs, gaps: np.ndarray) -> dict[str, Estimate]:
    """Returns "pair_accuracy", the share of comparisons it orders as the owner did, where it was measured.

    The interval is Wilson's on what the comparisons count (`weights`).

    Args:
        pairs: what was compared.
        gaps: (m,) the differences that are predicted, without what is known of one of the two images.
    """
    counted = float(pairs.wins.sum())
    if counted < 1 or not gaps.any():
        return {}
    share = right(pairs, gaps) / counted
    of_whole = wilson(share * int(counted), int(counted))
    return {"pair_accuracy": replace(of_whole, value=share, n=int(pairs.times.sum()))}


def touching(fold: np.ndarray, graded: int, pairs: np.ndarray) -> np.ndarray:
    """Returns which observations touch an image of a fold: grades by its row, pairs after all grades."""
    if not len(pairs):
        return fold
    return np.concatenate([fold[fold < graded], graded + np.flatnonzero(np.isin(pairs, fold).any(axis=1))])


def enough(grades: np.ndarray, comparisons: Sequence[Preference]) -> bool:
    """Returns whether a rater can be fitted: on grades (n,) of two kinds, on comparisons, or on both together."""
    compared = clear(comparisons)
    if len(np.unique(grades)) < 2:
        return compared >= LEAST_COMPARED
    return len(grades) >= LEAST_LABELS or 2 * len(grades) + compared >= LEAST_COMPARED


def clear(comparisons: Sequence[Preference]) -> int:
    """Returns how many comparisons prefer one of two images."""
    return sum(not one.tie for one in comparisons)


def shifted(preferences: Sequence[Preference], grades: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns `shifts` (n,) by the comparisons between graded images, and how many of them shift anything."""
    between = [one for one in preferences if max(one.winner, one.loser) < len(grades)]
    if not between:
        return np.zeros(len(grades)), 0
    moved = shifts(between, grades, scale_of(grades))
    return moved, sum(bool(moved[one.winner] or moved[one.loser]) for one in between)


def shifts(preferences: Sequence[Preference], grades: np.ndarray, scale: Scale) -> np.ndarray:
    """Returns what to add to each latent target: (n,), 0 where nothing was compared.

    Args:
        preferences: comparisons; only those within one top grade count, a tie counts half either way.
        grades: (n,) integers 1..5.
        scale: the cuts.
    """
    moved = np.zeros(len(grades))
    for grade in TOP_GRADES:
        pairs = [p for p in preferences if grades[p.winner] == grade == grades[p.loser]]
        if not pairs:
            continue
        rows = sorted({row for pair in pairs for row in (pair.winner, pair.loser)})
        strengths = _strengths(pairs, {row: place for place, row in enumerate(rows)})
        low = scale.cuts[grade - 2]
        high = scale.cuts[grade - 1] if grade <= len(scale.cuts) else low + UNBOUNDED
        middle = scale.targets[grade - 1]
        up, down = REACH * max(high - middle, 0.0), REACH * (middle - low)
        pull = np.tanh(strengths)
        moved[rows] = np.where(pull > 0, pull * up, pull * down)
    return moved


def _strengths(pairs: Sequence[Preference], place: Mapping[int, int]) -> np.ndarray:
    """Returns Bradley-Terry strengths of mean 0; a tie is entered both ways, a clear answer twice."""
    import choix

    games = []
    for pair in pairs:
        winner, loser = place[pair.winner], place[pair.loser]
        games += [(winner, loser), (loser, winner) if pair.tie else (winner, loser)]
    strengths = np.asarray(choix.ilsr_pairwise(len(place), games, alpha=REGULARISATION))
    return strengths - strengths.mean()
