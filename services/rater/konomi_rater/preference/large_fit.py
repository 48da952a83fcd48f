"""Fits on more labels than every fold can be fitted anew for: one pass over all of them gives every fold and member.

The head is conditioned on all labels through inducing points chosen among a seeded sample of them. What labels add up
to is kept block by block, so that leaving a fold out is a subtraction and a bootstrap member a weighted sum (the
matrices of `sparse_gaussian_process`, summed as in the jackknife of Quenouille 1956 and the block bootstrap of Kuensch
1989). Held-out quality, calibration and trees rest on a sample of the labels.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from konomi_rater.preference.gaussian_process import Kernel
from konomi_rater.preference.ordinal import Check
from konomi_rater.preference.sparse_gaussian_process import JITTER, POINTS, SparseProcess, inducing

WHOLE = 5_000
"""Labels up to which every fold, member and figure is made of all labels, to the last bit as it always was."""
MEASURED = 4_000
"""Labels at most that quality is measured on and trees learn from; of more, a sample drawn by the fit's seed."""
CALIBRATED = 1_000
"""Randomly drawn labels at most that calibration rests on: its curves cost their square."""
PARTS = 4
"""Blocks a fold is divided into: a bootstrap member draws blocks, not labels."""
CHUNK = 8192
"""Labels whose covariance with the inducing points is held at a time: bounds the memory, not the result."""


@dataclass(frozen=True)
class Blocks:
    """What labels add up to under inducing points.

    Attributes:
        kernel: the kernel.
        points: (m, P) features of the inducing points.
        outer: (m, m) lower Cholesky factor L of K_mm.
        grams: (B, m, m) V V' of each block, where V = L^-1 K_mn / noise^1/2.
        moments: (B, m) V (y - prior mean) / noise^1/2 of each block.
    """

    kernel: Kernel
    points: np.ndarray
    outer: np.ndarray
    grams: np.ndarray
    moments: np.ndarray

    def process(self, times: np.ndarray) -> SparseProcess:
        """Returns the process conditioned on every block so many times (B,)."""
        gram = np.tensordot(times.astype(np.float64), self.grams, axes=1)
        inner = cholesky(np.eye(len(gram)) + gram, lower=True, check_finite=False)
        seen = cho_solve((inner, True), times @ self.moments, check_finite=False)
        weights = solve_triangular(self.outer, seen, lower=True, trans="T", check_finite=False)
        return SparseProcess(self.kernel, self.points, self.outer, inner, weights)


def add_up(
    kernel: Kernel,
    inputs: np.ndarray,
    targets: np.ndarray,
    blocks: Sequence[np.ndarray],
    points: np.ndarray,
    check: Check,
    threads: int = 1,
) -> Blocks:
    """Adds labels up, once.

    Args:
        kernel: its numbers; every label has its noise.
        inputs: (n, P) features.
        targets: (n,) latent targets.
        blocks: rows of each of B blocks.
        points: (m, P) features of the inducing points.
        check: asked between two chunks whether anybody waits.
        threads: blocks added up at once; the result is the same.
    """
    outer = cholesky(kernel(points, points) + JITTER * np.eye(len(points)), lower=True, check_finite=False)
    grams, moments = np.zeros((len(blocks), len(points), len(points))), np.zeros((len(blocks), len(points)))

    def add(number: int) -> None:
        for start in range(0, len(blocks[number]), CHUNK):
            check()
            rows = blocks[number][start : start + CHUNK]
            part = inputs[rows]
            projected = solve_triangular(outer, kernel(points, part), lower=True, check_finite=False)
            projected /= np.sqrt(kernel.noise)
            grams[number] += projected @ projected.T
            moments[number] += projected @ ((targets[rows] - kernel.mean(part)) / np.sqrt(kernel.noise))

    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(add, range(len(blocks))))
    return Blocks(kernel, points, outer, grams, moments)


def choose_points(inputs: np.ndarray, seed: int) -> np.ndarray:
    """Returns the inducing points, (m, P): far from each other among a sample of WHOLE labels of features (n, P)."""
    some = inputs[sample(len(inputs), WHOLE, seed)]
    return np.asarray(some[inducing(some, POINTS)])


def sample(count: int, most: int, seed: int) -> np.ndarray:
    """Returns up to `most` of `count` numbers, drawn by the seed, in order."""
    return np.sort(np.random.default_rng((seed % 2**63, count)).permutation(count)[:most])


def parts_of(folds: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Divides folds into blocks: the rows of each block, and the fold each is of, (B,)."""
    parts = [part for fold in folds for part in np.array_split(fold, PARTS)]
    return parts, np.repeat(np.arange(len(folds)), PARTS)


def measured_rows(drawn: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Chooses what quality and calibration rest on.

    Args:
        drawn: (n,) bool, graded when shown at random.
        seed: of the choice.

    Returns:
        The rows to predict (R,), in order, and which of them are measured (R,) bool; the others only calibrate.
    """
    measured = sample(len(drawn), MEASURED, seed)
    random = np.flatnonzero(drawn)
    more = random[sample(len(random), CALIBRATED, seed)]
    missing = max(0, CALIBRATED - int(drawn[measured].sum()))
    rows = np.union1d(measured, np.setdiff1d(more, measured)[:missing])
    return rows, np.isin(rows, measured)
