"""What a set of images reaches and what it copies: liked cells, shares of cells, near-copies of training sources."""

from dataclasses import dataclass

import numpy as np

NEAR_COPY = 0.95
"""Cosine above which an image is a near-copy of a training source."""
BLOCK = 2048


@dataclass(frozen=True)
class Spread:
    """How a set spreads over the cells.

    Attributes:
        largest: share of the largest cell, 0..1.
        entropy: entropy of the shares over that of equal shares, 0..1.
    """

    largest: float
    entropy: float


def covered(liked: np.ndarray, cells: np.ndarray) -> float:
    """Returns the share of the liked cells a set reaches; 1 where nothing is liked yet.

    Args:
        liked: (L,) cell of every liked image.
        cells: (N,) cell of every image of the set.
    """
    liked_cells = np.unique(liked)
    return float(np.isin(liked_cells, cells).mean()) if len(liked_cells) else 1.0


def spread(cells: np.ndarray, count: int) -> Spread:
    """Returns how images in cells (N,) spread over `count` cells."""
    shares = np.bincount(cells, minlength=count) / max(1, len(cells))
    filled = shares[shares > 0]
    entropy = float(-(filled * np.log(filled)).sum() / np.log(count)) if count > 1 else 0.0
    return Spread(float(shares.max(initial=0.0)), entropy)


def nearest_source(embeddings: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Returns the cosine of unit rows (N, D) to the nearest training source (S, D): (N,), -1 where there is none."""
    if not len(sources):
        return np.full(len(embeddings), -1.0)
    parts = [(embeddings[start : start + BLOCK] @ sources.T).max(axis=1) for start in range(0, len(embeddings), BLOCK)]
    return np.concatenate(parts) if parts else np.zeros(0)


def near_copies(
    embeddings: np.ndarray, order: np.ndarray, sources: np.ndarray, source_order: np.ndarray, cut: float
) -> np.ndarray:
    """Returns which candidates came after a training source and are almost the same: (N,) bool.

    An image that is a source itself was admitted before; one that is older than a source cannot be its copy.

    Args:
        embeddings: (N, D) unit rows of the candidates.
        order: (N,) when each became known, larger is later.
        sources: (S, D) unit rows of the training sources.
        source_order: (S,) when each became known.
        cut: cosine above which an image is a near-copy.
    """
    copies = np.zeros(len(embeddings), dtype=bool)
    if not len(sources):
        return copies
    for start in range(0, len(embeddings), BLOCK):
        part = slice(start, start + BLOCK)
        alike = (embeddings[part] @ sources.T > cut) & (order[part, None] > source_order[None, :])
        copies[part] = alike.any(axis=1)
    return copies & ~np.isin(order, source_order)
