"""Cells of the image space: k-means regions of the base model's own images, which a quota refers to."""

from dataclasses import dataclass
from typing import Any

import numpy as np

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


def k_means(rows: np.ndarray, count: int, *, starts: int, seed: int, most_rounds: int = 300) -> Any:
    """Returns scikit-learn's k-means fitted to rows (N, D); loaded at its first use, because it brings pandas.

    Args:
        rows: what is clustered.
        count: clusters.
        starts: how often it begins anew; the best result counts.
        seed: any integer.
        most_rounds: of Lloyd's algorithm.
    """
    from sklearn.cluster import KMeans

    return KMeans(count, n_init=starts, max_iter=most_rounds, random_state=seed % 2**32).fit(rows)


def divide(base: np.ndarray, count: int, seed: int) -> Cells:
    """Divides the space by the base images (N, D) into at most `count` cells."""
    rows = base[:: max(1, len(base) // MOST_ROWS)]
    count = max(1, min(count, len(np.unique(rows, axis=0))))
    centres = k_means(rows, count, starts=2, seed=seed).cluster_centers_.astype(np.float32)
    members = Cells(centres, np.full(count, 1.0 / count)).of(base)
    return Cells(centres, np.bincount(members, minlength=count) / len(base))
