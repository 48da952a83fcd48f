"""The directions in which a taste's images differ most: principal component analysis (Pearson 1901; Hotelling 1933).

Linear, without seed or parameters, and its explained variance says how much of the differences a picture leaves out.
Neighbour embeddings such as UMAP show clusters more sharply, but also where there are none, they turn with every
seed, and nothing says what they lost: McInnes, Healy & Melville 2018 (1802.03426), Chari & Pachter 2023.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

CHUNK = 4096
"""Rows that are in float64 at a time: (CHUNK, D) is all the memory it takes beyond a (D, D) matrix."""
LEAST_SHARE = 1e-9
"""Share of all variance below which a direction is rounding and no direction."""


@dataclass(frozen=True)
class PrincipalAxes:
    """The main directions of some unit rows.

    Attributes:
        mean: (D,) their mean.
        basis: (D, A) orthonormal directions, the widest first; zeros where the rows differ in fewer.
        spread: (A,) standard deviation along each.
        explained: (A,) share of all variance along each, 0..1.
    """

    mean: np.ndarray
    basis: np.ndarray
    spread: np.ndarray
    explained: np.ndarray

    def __call__(self, embeddings: np.ndarray, axes: int = 2) -> np.ndarray:
        """Returns the places of unit rows (N, D) along the first axes: (N, axes) float32."""
        basis = self.basis[:, :axes].astype(np.float32)
        return np.asarray(embeddings @ basis - (self.mean @ basis).astype(np.float32), np.float32)


def principal_axes(embeddings: np.ndarray, rows: np.ndarray, count: int) -> PrincipalAxes:
    """Finds the main directions of some rows, chunk by chunk.

    The sign of each direction is such that its largest coordinate is positive, so that the same rows in any order give
    the same picture.

    Args:
        embeddings: (N, D) unit rows.
        rows: (K,) which of them, at least one.
        count: how many directions.
    """
    width = embeddings.shape[1]
    mean = sum((part.sum(axis=0) for part in _parts(embeddings, rows)), np.zeros(width)) / len(rows)
    scatter = np.zeros((width, width))
    for part in _parts(embeddings, rows):
        centred = part - mean
        scatter += centred.T @ centred
    values, vectors = np.linalg.eigh(scatter / len(rows))
    values, vectors = values[::-1][:count].clip(0), vectors[:, ::-1][:, :count]
    total = float(np.trace(scatter)) / len(rows)
    real = values > LEAST_SHARE * max(total, LEAST_SHARE)  # unit rows: a total as small is one picture many times
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    basis, spread, explained = np.zeros((width, count)), np.zeros(count), np.zeros(count)
    found = np.flatnonzero(real)
    basis[:, found] = (vectors * signs)[:, found]
    spread[found] = np.sqrt(values[found])
    explained[found] = values[found] / max(total, LEAST_SHARE)
    return PrincipalAxes(mean, basis, spread, explained)


def _parts(embeddings: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CHUNK):
        yield embeddings[rows[start : start + CHUNK]].astype(np.float64)
