"""The space a taste is learnt in: embeddings centred and partly whitened with what all of its images have in common.

A frozen encoder gives most of its variance to a few directions (for portraits: the style). Dividing by a power of the
standard deviation along each principal direction, learnt from unlabelled images, lets few labels speak about the rest.
"""

from dataclasses import dataclass

import numpy as np

MAX_BACKGROUND = 20_000
"""Rows that the principal directions are learnt from; more change nothing but the time."""


@dataclass(frozen=True)
class Features:
    """An affine map from embeddings to features of mean square length 1.

    Attributes:
        mean: (D,) float64, the centre of the taste's images.
        basis: (D, P) float64, principal directions, scaled.
    """

    mean: np.ndarray
    basis: np.ndarray

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Maps embeddings (N, D) to features (N, P) float64."""
        return (embeddings.astype(np.float64) - self.mean) @ self.basis


def learn_features(background: np.ndarray, *, power: float, keep: float = 0.995) -> Features:
    """Learns the map from unlabelled embeddings.

    Args:
        background: (N, D) unit embeddings of all images of the taste.
        power: 0 keeps the encoder's own metric, 1 whitens fully.
        keep: share of the variance that is kept, 0..1.

    Returns:
        The map; with fewer than two rows, the identity about the mean.
    """
    rows = background[:: max(1, len(background) // MAX_BACKGROUND)].astype(np.float64)
    mean = rows.mean(axis=0)
    centred = rows - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / max(1, len(rows)))
    values, vectors = values[::-1].clip(0.0), vectors[:, ::-1]
    if values[0] <= 1e-12:
        return Features(mean, np.eye(rows.shape[1]))
    count = int(np.searchsorted(np.cumsum(values) / values.sum(), keep)) + 1
    scales = values[:count] ** (-power / 2)
    basis = vectors[:, :count] * scales
    length = np.sqrt((values[:count] * scales**2).sum())
    return Features(mean, basis / length)
