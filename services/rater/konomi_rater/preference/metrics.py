"""Measures of a rater on labels it has not seen, each with its 95 % interval."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its statistics are loaded at their first use: they take a second

from konomi_rater.preference.ordinal import Check, never

SSR, UR = 4, 5
Z95 = 1.959964
"""The normal quantile of a 95 % interval."""
Measure = Callable[[np.ndarray, "Predictions"], float]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval and the number of items it rests on."""

    value: float
    low: float
    high: float
    n: int


def wilson(hits: float, n: int) -> Estimate:
    """Returns hits / n with the score interval of Wilson (1927); 0 to 1 where n is 0."""
    if not n:
        return Estimate(0.0, 0.0, 1.0, 0)
    p, z2 = hits / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half), n)


@dataclass(frozen=True)
class Predictions:
    """What a rater said about n images.

    Attributes:
        utility: (n,) expected grade.
        probabilities: (n, 5) P(grade).
    """

    utility: np.ndarray
    probabilities: np.ndarray

    def take(self, index: np.ndarray) -> "Predictions":
        """Returns the rows of `index`."""
        return Predictions(self.utility[index], self.probabilities[index])


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    """Returns Spearman's rank correlation, ties averaged; nan where one side is constant."""
    a, b = scipy.stats.rankdata(left) - (len(left) + 1) / 2, scipy.stats.rankdata(right) - (len(right) + 1) / 2
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread > 0 else float("nan")


def auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Returns the area under the ROC curve; nan where one class is empty."""
    hits = int(positive.sum())
    misses = len(positive) - hits
    if not hits or not misses:
        return float("nan")
    return float((scipy.stats.rankdata(scores)[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """Returns the average precision; nan where there is no positive."""
    if not positive.any():
        return float("nan")
    hits = positive[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def quadratic_kappa(left: np.ndarray, right: np.ndarray) -> float:
    """Returns Cohen's kappa with quadratic weights of two gradings 1..5; nan where both are constant."""
    observed = np.zeros((5, 5))
    np.add.at(observed, (left - 1, right - 1), 1.0)
    expected = np.outer(observed.sum(1), observed.sum(0)) / len(left)
    weights = (np.arange(5)[:, None] - np.arange(5)[None]) ** 2
    scale = (weights * expected).sum()
    return float(1 - (weights * observed).sum() / scale) if scale > 0 else float("nan")


def brier(positive: np.ndarray, probability: np.ndarray) -> float:
    """Returns the mean squared error of a probability."""
    return float(np.mean((probability - positive) ** 2))


def calibration_error(positive: np.ndarray, probability: np.ndarray, bins: int = 10) -> float:
    """Returns the expected calibration error over equal-mass bins of at least five items."""
    order = np.argsort(probability, kind="stable")
    parts = np.array_split(order, max(1, min(bins, len(order) // 5)))
    gaps = [len(part) * abs(positive[part].mean() - probability[part].mean()) for part in parts]
    return float(sum(gaps) / len(order))


MEASURES: Mapping[str, Measure] = {
    "srcc": lambda grades, predictions: spearman(grades, predictions.utility),
    "auc_ssr": lambda grades, predictions: auc(grades >= SSR, predictions.utility),
    "ap_ssr": lambda grades, predictions: average_precision(grades >= SSR, predictions.utility),
    "ap_ur": lambda grades, predictions: average_precision(grades == UR, predictions.utility),
    "qwk": lambda grades, predictions: quadratic_kappa(grades, _likeliest(predictions)),
    "brier": lambda grades, predictions: brier(grades >= SSR, predictions.probabilities[:, 3:].sum(1)),
    "ece": lambda grades, predictions: calibration_error(grades >= SSR, predictions.probabilities[:, 3:].sum(1)),
}
"""Every measure a rater version reports. What is found is measured in the order lists are shown and images are chosen
by, the expected grade; by the chance of UR alone it would be that of another list."""


def estimates(
    grades: np.ndarray, predictions: Predictions, rng: np.random.Generator, draws: int = 200, check: Check = never
) -> dict[str, Estimate]:
    """Measures predictions with percentile-bootstrap intervals; measures that are undefined are left out.

    Args:
        grades: (n,) integers 1..5.
        predictions: the predictions of the same images.
        rng: source of the bootstrap draws.
        draws: bootstrap samples.
        check: asked before every measure whether anybody waits.
    """
    picks = rng.integers(0, len(grades), (draws, len(grades)))
    resampled = [(grades[pick], predictions.take(pick)) for pick in picks]
    figures = {}
    for name, measure in MEASURES.items():
        check()
        value = measure(grades, predictions)
        spread = np.array([measure(*sample) for sample in resampled])
        spread = spread[np.isfinite(spread)]
        if np.isfinite(value) and len(spread):
            low, high = np.quantile(spread, [0.025, 0.975])
            figures[name] = Estimate(value, float(low), float(high), len(grades))
    return figures


def _likeliest(predictions: Predictions) -> np.ndarray:
    return predictions.utility.round().astype(int).clip(1, 5)


LEAST_PAIRS = 5
DRAWS = 200


def reliability(pairs: Sequence[tuple[int, int]]) -> dict[str, Estimate]:
    """Returns "retest_qwk", the quadratic kappa of (first, repeated) grades 1..5 with its bootstrap interval.

    Nothing is returned below five pairs, or where every grade is the same.
    """
    if len(pairs) < LEAST_PAIRS:
        return {}
    first, second = np.array(pairs).T
    picks = np.random.default_rng(0).integers(0, len(pairs), (DRAWS, len(pairs)))
    draws = np.array([quadratic_kappa(first[pick], second[pick]) for pick in picks])
    finite, value = draws[np.isfinite(draws)], quadratic_kappa(first, second)
    if not np.isfinite(value) or not len(finite):
        return {}
    low, high = np.quantile(finite, [0.025, 0.975])
    return {"retest_qwk": Estimate(value, float(low), float(high), len(pairs))}
