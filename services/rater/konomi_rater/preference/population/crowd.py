"""Learns what people in general like from ratings of many: the mean over people as a linear score of an embedding.

Everybody's ratings become normal scores first (Blom 1958), so that neither a scale nor a strict hand counts; the mean
of an image weighs the more, the more people rated it; the strength of the ridge is the one of the least generalised
cross-validation (Golub, Heath & Wahba 1979).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its statistics are loaded at their first use: they take a second
from scipy.special import ndtri

from konomi_rater.preference.features import learn_features
from konomi_rater.preference.metrics import Estimate, spearman

LEAST_RATINGS = 5
"""Ratings below which a person is not heard."""
LEAST_RATERS = 3
"""People below whom a mean would tell what one of them likes."""
LEAST_IMAGES = 20
"""Rated images below which nothing is learnt."""
POWER = 0.25
"""Whitening of the features, that of the recipes for few labels."""
STRENGTHS = np.logspace(-4, 2, 25)
"""Ridge strengths that are tried, of a mean square feature length of 1."""
ALONE = 2.0
"""Ratings of an image at which its mean weighs half of what it could."""
FOLDS, DRAWS = 10, 200


@dataclass(frozen=True)
class Ratings:
    """What one person said.

    Attributes:
        images: (m,) int64, rows of the embeddings; a row that comes twice counts as it was said last.
        values: (m,) float64, on any scale, larger is better.
    """

    images: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class MeanRatings:
    """What all say of the images that anybody rated.

    Attributes:
        images: (k,) rows of the embeddings, rising.
        mean: (k,) mean normal score.
        counts: (k,) how many people rated each.
        raters: people who were heard; the others rated too little, or all the same.
    """

    images: np.ndarray
    mean: np.ndarray
    counts: np.ndarray
    raters: int


@dataclass(frozen=True)
class CrowdFit:
    """What was learnt.

    Attributes:
        weights: (D, 1) float64.
        srcc: rank agreement with the mean on images left out, with its bootstrap interval; None where undefined.
    """

    weights: np.ndarray
    srcc: Estimate | None


def mean_ratings(people: Sequence[Ratings]) -> MeanRatings:
    """Returns what all people say, each on an own scale of mean 0 and variance 1."""
    size = max((int(person.images.max()) + 1 for person in people if len(person.images)), default=0)
    total, counts, heard = np.zeros(size), np.zeros(size, np.int64), 0
    for person in people:
        last = {int(image): float(value) for image, value in zip(person.images, person.values, strict=True)}
        values = np.array(list(last.values()))
        if len(values) < LEAST_RATINGS or np.ptp(values) == 0:
            continue
        scores = ndtri((scipy.stats.rankdata(values) - 0.375) / (len(values) + 0.25))
        rows = np.array(list(last), np.int64)
        total[rows] += (scores - scores.mean()) / scores.std()
        counts[rows] += 1
        heard += 1
    rated = np.flatnonzero(counts)
    return MeanRatings(rated, total[rated] / counts[rated], counts[rated], heard)


def fit_crowd(embeddings: np.ndarray, ratings: MeanRatings, background: np.ndarray, seed: int = 0) -> CrowdFit:
    """Learns the score.

    Args:
        embeddings: (k, D) unit rows of `ratings.images`, in their order.
        ratings: what all say, of LEAST_IMAGES images at least.
        background: (M, D) unit rows of the images it will be asked about.
        seed: of folds and bootstrap.
    """
    features = learn_features(background, power=POWER)
    inputs = features(embeddings)
    weights = ratings.counts / (ratings.counts + ALONE)
    rng = np.random.default_rng(seed)
    said = np.zeros(len(inputs))
    folds = np.array_split(rng.permutation(len(inputs)), FOLDS)
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(inputs)), fold)
        slopes, level = _ridge(inputs[rest], ratings.mean[rest], weights[rest])
        said[fold] = inputs[fold] @ slopes + level
    slopes, _ = _ridge(inputs, ratings.mean, weights)
    return CrowdFit((features.basis @ slopes)[:, None], _agreement(ratings.mean, said, rng))


def _ridge(inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns slopes (P,) and level of the weighted ridge regression of the least generalised cross-validation."""
    share = weights / weights.sum()
    centre, level = share @ inputs, float(share @ targets)
    root = np.sqrt(weights / weights.mean())
    rows, values = (inputs - centre) * root[:, None], (targets - level) * root
    sizes, right = _directions(rows)
    along, count = (right @ (rows.T @ values)) / sizes, len(values)
    best, least = STRENGTHS[-1], np.inf
    for strength in STRENGTHS:
        kept = sizes**2 / (sizes**2 + strength * count)
        error = values @ values - along @ ((2 * kept - kept**2) * along)
        score = error / max(count - 1 - kept.sum(), 1e-9) ** 2
        if score < least:
            best, least = strength, score
    slopes = right.T @ (sizes / (sizes**2 + best * count) * along)
    return slopes, level - float(centre @ slopes)


def _directions(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the singular values (K,) above 0 and right singular vectors (K, P) of rows (N, P), by the shorter way."""
    if len(rows) < rows.shape[1]:
        _, sizes, right = np.linalg.svd(rows, full_matrices=False)
    else:
        squares, vectors = np.linalg.eigh(rows.T @ rows)
        sizes, right = np.sqrt(squares.clip(0.0))[::-1], vectors.T[::-1]
    kept = sizes > 1e-6 * max(float(sizes[0]), 1e-300)
    return sizes[kept], right[kept]


def _agreement(mean: np.ndarray, said: np.ndarray, rng: np.random.Generator) -> Estimate | None:
    value = spearman(mean, said)
    picks = rng.integers(0, len(mean), (DRAWS, len(mean)))
    draws = np.array([spearman(mean[pick], said[pick]) for pick in picks])
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(draws):
        return None
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), len(mean))
