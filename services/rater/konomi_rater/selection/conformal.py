"""Which images may be called good with the false-discovery rate bounded on average: conformal selection.

Jin & Candes (2210.01408): a conformal p-value against "not good" for every candidate, from random labels its scorer was
not fitted on, and the procedure of Benjamini & Hochberg (1995) over them. Finite sample, needs only exchangeability.
"""

from dataclasses import dataclass

import numpy as np

from konomi_rater.sentences import Sentence


def p_values(scores: np.ndarray, good: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Returns the p-value of each candidate against "not good": (M,) in (0, 1].

    Args:
        scores: (n,) scores of the random labels' images, larger is better.
        good: (n,) bool, graded good.
        candidates: (M,) scores of the candidates by the same scorer.
    """
    bad = np.sort(scores[~good])
    at_least = len(bad) - np.searchsorted(bad, candidates, side="left")
    return (1.0 + at_least) / (len(scores) + 1.0)


def benjamini_hochberg(p: np.ndarray, rate: float) -> np.ndarray:
    """Returns which hypotheses (M,) are rejected with the false-discovery rate at most `rate`: (M,) bool."""
    order = np.sort(p)
    passing = np.flatnonzero(order <= rate * np.arange(1, len(p) + 1) / max(1, len(p)))
    return p <= order[passing[-1]] if len(passing) else np.zeros(len(p), dtype=bool)


def least_share(labels: int, rate: float) -> float:
    """Returns the smallest share of the candidates that so many random labels can ever admit, 0..1."""
    return min(1.0, 1.0 / (rate * (labels + 1)))


@dataclass(frozen=True)
class Evidence:
    """What the labels show about M candidates.

    Attributes:
        order: rows that qualify, the strongest evidence first.
        labels: random labels that spoke.
        explanation: why nothing qualifies; None where something does.
    """

    order: list[int]
    labels: int
    explanation: Sentence | None


def promise(evidence: Evidence, count: int, rate: float) -> Sentence:
    """Returns what is promised of the first `count` images that qualify."""
    if evidence.explanation is not None:
        return evidence.explanation
    numbers = {"rate": rate, "n": evidence.labels, "count": count}
    if count >= len(evidence.order):
        return Sentence("evidence_all", numbers)
    return Sentence("evidence_cut", {**numbers, "admitted": len(evidence.order)})
