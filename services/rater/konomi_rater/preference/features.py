"""The space a taste is learnt in: embeddings standardised and partly whitened by what all its images have in common.

An encoder's numbers are of unlike sizes, and a few directions have most of its variance (for portraits: the style).
Each number is divided by its own deviation, then each principal direction by a power of its deviation, both learnt from
unlabelled images: few labels can then speak about the rest.
Population scores, where a home has them (`population`), are further columns; so is how it was made (`provenance`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from konomi_rater.preference.population.file import Population
from konomi_rater.preference.provenance.origins import Origins
from konomi_rater.preference.provenance.parameters import Provenance

MAX_BACKGROUND = 5_000
"""Rows that the principal directions are learnt from; more change nothing but the time."""
WIDE, MAX_WIDE = 1024, 1024
"""Dimensions beyond which fewer rows do, and how many: directions then come from the products of rows, not columns."""
KEEP = 0.995
"""Share of the variance that is kept."""
POWER = 0.25
"""How far directions are whitened: 0 not at all, 1 fully."""
LEAST_SPREAD = 1e-9
"""Deviation of a number below which it says nothing, and is left as it is."""


@dataclass(frozen=True)
class Features:
    """An affine map from embeddings to features of mean square length 1, and to population scores of variance 1.

    Attributes:
        mean: (D,) float64, the centre of the taste's images.
        basis: (D, P + S) float64: principal directions, scaled; then the weights of the population scores.
        scores: S, how many of the columns are population scores.
        origins: the columns that say how an image was made, where several models made the labelled ones.
    """

    mean: np.ndarray
    basis: np.ndarray
    scores: int = 0
    origins: Origins = field(default_factory=Origins)

    def __call__(self, embeddings: np.ndarray, provenances: Sequence[Provenance | None] | None = None) -> np.ndarray:
        """Maps embeddings (N, D), and how each image was made, to features (N, P + S + O) float64.

        Without provenances, and at None, the O columns are 0: how an image was made then says nothing.
        """
        return self._beside((embeddings.astype(np.float64) - self.mean) @ self.basis, provenances)

    def _beside(self, features: np.ndarray, provenances: Sequence[Provenance | None] | None) -> np.ndarray:
        if not len(self.origins):
            return features
        return np.hstack([features, self.origins.table(provenances, len(features)).astype(features.dtype)])

    def with_unknown_origins(self) -> "Features":
        """Returns the map that takes every image for one of which nobody knows how it was made."""
        return self.with_origins(self.origins.unknown())

    def with_origins(self, origins: Origins) -> "Features":
        """Returns the map with these columns of how an image was made."""
        return replace(self, origins=origins)


def learn_features(
    background: np.ndarray, *, power: float = POWER, keep: float = KEEP, population: Population | None = None
) -> Features:
    """Learns the map from unlabelled embeddings.

    Args:
        background: (N, D) unit embeddings of all images of the taste.
        power: 0 keeps the metric of the standardised numbers, 1 whitens fully.
        keep: share of the variance that is kept, 0..1.
        population: what others liked, if anything is known.

    Returns:
        The map; with fewer than two rows, the identity about the mean.
    """
    rows = _some(background)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    spread[spread < LEAST_SPREAD] = 1.0
    centred = rows - mean
    values, vectors = _directions(centred / spread)
    if not len(values) or values[0] <= 1e-12:
        return Features(mean, np.eye(rows.shape[1]))
    count = int(np.searchsorted(np.cumsum(values) / values.sum(), keep)) + 1
    scales = values[:count] ** (-power / 2)
    length = np.sqrt((values[:count] * scales**2).sum())
    basis = vectors[:, :count] * scales / length / spread[:, None]
    population_scores = _standardised(population, centred)
    return Features(mean, np.hstack([basis, population_scores]), population_scores.shape[1])


def with_population(features: Features, background: np.ndarray, population: Population | None) -> Features:
    """Returns a map learnt without population scores with those of a population beside."""
    if population is None or np.array_equal(features.basis, np.eye(len(features.mean))):
        return features
    scores = _standardised(population, _some(background) - features.mean)
    return Features(features.mean, np.hstack([features.basis, scores]), scores.shape[1])


def _some(background: np.ndarray) -> np.ndarray:
    """Returns the rows (N, D) float64 a map is learnt from, of all images of a taste."""
    most = MAX_WIDE if background.shape[1] > WIDE else MAX_BACKGROUND
    return background[:: max(1, -(-len(background) // most))].astype(np.float64)


def _directions(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the variances (K,), falling, and principal directions (D, K) of centred rows (N, D)."""
    if centred.shape[1] <= WIDE:
        values, vectors = np.linalg.eigh(centred.T @ centred / max(1, len(centred)))
        return values[::-1].clip(0.0), vectors[:, ::-1]
    values, left = np.linalg.eigh(centred @ centred.T / max(1, len(centred)))
    kept = np.flatnonzero(values > 1e-12 * max(float(values[-1]), 1e-300))[::-1]
    vectors = centred.T @ left[:, kept]
    return values[kept].clip(0.0), vectors / np.linalg.norm(vectors, axis=0).clip(1e-300)


def _standardised(population: Population | None, centred: np.ndarray) -> np.ndarray:
    """Returns the weights (D, S) of population scores of variance 1 on centred rows (N, D)."""
    if population is None:
        return np.zeros((centred.shape[1], 0))
    spread = (centred @ population.weights).std(axis=0)
    return population.weights[:, spread > 1e-9] / spread[spread > 1e-9]
