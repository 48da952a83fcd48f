"""Cells of the image space: k-means regions of the base model's own images, which a quota refers to."""

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans

MOST_ROWS = 10_000


@dataclass(frozen=True)
class Cells:
    """A division of the space.

    Attributes:
        centres: (C, D) float32.
        shares: (C,) share of the base images in each cell, sums to 1.
    """

    centres: np.ndarray
    shares: np.ndarray

    def of(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns the nearest cell of each row of embeddings (N, D): (N,) int64."""
        halves = 0.5 * np.einsum("ij,ij->i", self.centres, self.centres)
        return np.argmax(embeddings @ self.centres.T - halves, axis=1)


def divide(base: np.ndarray, count: int, seed: int) -> Cells:
    """Divides the space by the base images (N, D) into at most `count` cells."""
    rows = base[:: max(1, len(base) // MOST_ROWS)]
    count = max(1, min(count, len(np.unique(rows, axis=0))))
    fitted = KMeans(count, n_init=2, random_state=seed % 2**32).fit(rows)
    centres = fitted.cluster_centers_.astype(np.float32)
    members = Cells(centres, np.full(count, 1.0 / count)).of(base)
    return Cells(centres, np.bincount(members, minlength=count) / len(base))
