"""Two rankings of the same graded images side by side.

A new rater version's and that of the one before say whether the new one may score; those of two embedders, which of
them serves a taste better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from konomi_rater.preference.metrics import Estimate, spearman

LEAST_PANEL = 20
"""Panel images below which nothing can be told."""
DRAWS = 400


class PromotionDecision(IntEnum):
    """What the comparison found; the numbers are the contract's."""

    TOO_FEW = 1
    WORSE = 2
    NOT_WORSE = 3
    BETTER = 4


@dataclass(frozen=True)
class Diff:
    """A new version against an earlier one.

    Attributes:
        against: number of the earlier version.
        verdict: what follows.
        labels_changed: labels the new version was fitted on and the earlier was not.
        srcc: rank agreement of the new one with the panel, None where it could not be measured.
        earlier_srcc: that of the earlier one.
        gain: the new less the earlier, paired image by image.
    """

    against: int
    verdict: PromotionDecision
    labels_changed: int
    srcc: Estimate | None = None
    earlier_srcc: Estimate | None = None
    gain: Estimate | None = None


@dataclass(frozen=True)
class EmbedderComparison:
    """A version's embedder beside a second one, each cross-validated on the same labels and folds.

    Attributes:
        embedder: the version's.
        second: the other.
        labels: sha256 of the grades it rests on.
        n: how many they are.
        srcc: rank agreement of the first with the held-out grades, None where it could not be measured.
        second_srcc: that of the second.
        gain: the second less the first, paired grade by grade.
    """

    embedder: str
    second: str
    labels: str
    n: int
    srcc: Estimate | None = None
    second_srcc: Estimate | None = None
    gain: Estimate | None = None


def compare(
    grades: np.ndarray,
    earlier: np.ndarray,
    new: np.ndarray,
    rng: np.random.Generator,
    groups: Sequence[str] | None = None,
) -> tuple[PromotionDecision, dict[str, Estimate]]:
    """Compares two predictions of the same graded images by a paired bootstrap of Spearman's correlation.

    Args:
        grades: (n,) integers 1..5 neither version was fitted on.
        earlier: (n,) expected grades by the earlier version.
        new: (n,) expected grades by the new version.
        rng: source of the bootstrap draws.
        groups: n group keys; near-duplicates share one and are drawn together. None: each image by itself.

    Returns:
        The verdict, and "srcc", "earlier_srcc" and "gain" where they can be measured.
    """
    n = len(grades)
    if n < LEAST_PANEL:
        return PromotionDecision.TOO_FEW, {}
    picks = rng.integers(0, n, (DRAWS, n)) if groups is None else _grouped(groups, rng)
    draws = np.array([_pair(grades[pick], earlier[pick], new[pick]) for pick in picks])
    draws = draws[np.isfinite(draws).all(axis=1)]
    before, after = _pair(grades, earlier, new)
    if not np.isfinite(before) or not np.isfinite(after) or not len(draws):
        return PromotionDecision.TOO_FEW, {}
    figures = {
        "srcc": _estimate(after, draws[:, 1], n),
        "earlier_srcc": _estimate(before, draws[:, 0], n),
        "gain": _estimate(after - before, draws[:, 1] - draws[:, 0], n),
    }
    if figures["gain"].high < 0:
        return PromotionDecision.WORSE, figures
    return (PromotionDecision.BETTER if figures["gain"].low > 0 else PromotionDecision.NOT_WORSE), figures


def _grouped(groups: Sequence[str], rng: np.random.Generator) -> list[np.ndarray]:
    """Returns the rows of each draw: whole groups, as many as there are, with replacement."""
    names, of = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(of == number) for number in range(len(names))]
    drawn = rng.integers(0, len(names), (DRAWS, len(names)))
    return [np.concatenate([members[number] for number in draw]) for draw in drawn]


def _pair(grades: np.ndarray, earlier: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    return spearman(grades, earlier), spearman(grades, new)


def _estimate(value: float, draws: np.ndarray, n: int) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), n)
