"""How far one set of images lies from another: KID, CMMD and the four figures of prdc, on frozen-embedder features.

KID and CMMD are squared maximum mean discrepancies, MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), here the unbiased
estimate (Gretton et al. 2012, eq. 3), which may fall below 0 and does not shift with the number of images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Kernel = Callable[[np.ndarray], np.ndarray]
"""Cosines of unit rows (N, M) to kernel values (N, M)."""

SCALE = 1000.0
"""KID and CMMD are reported times this, as their papers' tables do."""
BANDWIDTH = 10.0
"""sigma of CMMD's Gaussian kernel (Jayasumana et al. 2401.09603, section 4)."""
NEIGHBOURS = 5
"""k of prdc (Naeem et al. 2002.09797, section 4)."""
HALVES = 40
"""Random halves whose spread gives the interval of an MMD."""


@dataclass(frozen=True)
class Prdc:
    """Four figures of a set against a reference; with k-th nearest neighbour balls of radius NND_k.

    Attributes:
        precision: share of the set inside a ball of the reference (Kynkaanniemi et al. 1904.06991, eq. 2).
        recall: share of the reference inside a ball of the set.
        density: mean number of reference balls an image of the set lies in, over k (Naeem et al. 2002.09797, eq. 3).
        coverage: share of the reference's balls that hold an image of the set (the same, eq. 4).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def cubic(cosines: np.ndarray) -> np.ndarray:
    """KID's kernel (x.y / d + 1)^3 (Binkowski et al. 1801.01401, eq. 5) of rows of length sqrt(d): x.y / d is cos."""
    return (cosines + 1.0) ** 3


def gaussian(cosines: np.ndarray) -> np.ndarray:
    """CMMD's kernel exp(-|x - y|^2 / (2 sigma^2)) of unit rows, for which |x - y|^2 = 2 - 2 cos."""
    return np.exp(-(1.0 - cosines) / BANDWIDTH**2)


def mmd(first: np.ndarray, second: np.ndarray, kernel: Kernel) -> float:
    """Returns the unbiased squared MMD of unit rows (N, D) and (M, D), times SCALE; 0 where a side is below two."""
    n, m = len(first), len(second)
    if min(n, m) < 2:
        return 0.0
    own, others = kernel(first @ first.T), kernel(second @ second.T)
    inside = (own.sum() - np.trace(own)) / (n * (n - 1)) + (others.sum() - np.trace(others)) / (m * (m - 1))
    return float(SCALE * (inside - 2.0 * kernel(first @ second.T).mean()))


def mmd_interval(
    first: np.ndarray, second: np.ndarray, kernel: Kernel, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Returns the squared MMD with its 95 % interval.

    A random half without replacement strays from the whole about as much as the whole from the truth
    (1/(n/2) - 1/n = 1/n), so the spread of halves is the standard error.
    """
    whole = mmd(first, second, kernel)
    if min(len(first), len(second)) < 8:
        return whole, whole, whole
    halves = [
        mmd(rng.permutation(first)[: len(first) // 2], rng.permutation(second)[: len(second) // 2], kernel)
        for _ in range(HALVES)
    ]
    half = 1.959964 * float(np.sqrt(np.mean((np.array(halves) - whole) ** 2)))
    return whole, whole - half, whole + half


def prdc(generated: np.ndarray, reference: np.ndarray, k: int = NEIGHBOURS) -> Prdc:
    """Returns the four figures of unit rows (N, D) against reference rows (M, D); zeros where a side has k or fewer."""
    if min(len(generated), len(reference)) <= k:
        return Prdc(0.0, 0.0, 0.0, 0.0)
    between = 1.0 - reference @ generated.T
    near, own = _radii(reference, k)[:, None], _radii(generated, k)[None, :]
    inside = between <= near
    return Prdc(
        precision=float(inside.any(axis=0).mean()),
        recall=float((between <= own).any(axis=1).mean()),
        density=float(inside.sum(axis=0).mean() / k),
        coverage=float((between.min(axis=1) <= near[:, 0]).mean()),
    )


def _radii(rows: np.ndarray, k: int) -> np.ndarray:
    """Returns the cosine distance of each row to its k-th nearest other row: (N,)."""
    distances = 1.0 - rows @ rows.T
    np.fill_diagonal(distances, np.inf)
    return np.partition(distances, k - 1, axis=1)[:, k - 1]
