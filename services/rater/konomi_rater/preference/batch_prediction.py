"""Scores a whole library with a head in one pass over the matrix of its embeddings: blocks side by side, in float32.

A library's order needs three digits, not nine. In single precision the same operations move half the bytes; what an
owner is shown of one image is still computed in double precision.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits

from konomi_rater.preference.features import Features
from konomi_rater.preference.gaussian_process import CONSTANT, Kernel, Process
from konomi_rater.preference.head import Head, Prediction
from konomi_rater.preference.ordinal import Check, never
from konomi_rater.preference.provenance.parameters import Provenance
from konomi_rater.preference.sparse_gaussian_process import SparseProcess

BLOCK = 4096
"""Rows a thread works on at a time: small enough for its intermediate results to stay near the processor."""
CACHED = 512
"""Rows whose covariance with the inducing points stays in a core's own cache."""
LIBRARY = 20_000
"""Rows from which on a library is scored this way; below, double precision costs nothing worth saving."""
TOLERANCE = 2e-3
"""How far a utility may be from the one in double precision: where a calibration curve is steep."""

LEAST_SHARE = 1e-6
"""Eigenvalues of the covariance of inducing points, as a share of the largest, below which single precision fails."""

_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class SingleFeatures(Features):
    """The same map in float32, with the mean taken off after the product."""

    def __call__(self, embeddings: np.ndarray, provenances: Sequence[Provenance | None] | None = None) -> np.ndarray:
        """Maps embeddings (N, D), and how each image was made, to features (N, P + S + O) float32."""
        own = embeddings.astype(np.float32, copy=False) @ self.basis - self.mean @ self.basis
        return self._beside(own, provenances)


def rescore(
    head: Head,
    embeddings: np.ndarray,
    provenances: Sequence[Provenance | None],
    threads: int,
    earlier: Prediction | None = None,
    check: Check = never,
) -> Prediction:
    """Predicts every row of a library.

    Blocks begin at multiples of BLOCK and the last is filled up with zeros, so that a row's numbers depend neither on
    how many rows follow nor on when they came: a library that grew is scored like one that was there at once.

    Args:
        head: the rater that scores.
        embeddings: (N, D) float32 unit rows.
        provenances: how each of the N images was made.
        threads: blocks worked on at once.
        earlier: what this function said of the first rows; whole blocks of it are taken as they are.
        check: asked before every block whether anybody waits.

    Returns:
        What `head.predict` says, within TOLERANCE.
    """
    fast = single(head)
    done = 0 if earlier is None else len(earlier.utility) // BLOCK * BLOCK

    def block(start: int) -> Prediction:
        check()
        rows, count = _filled(embeddings[start : start + BLOCK])
        mean, variance = fast.latent(rows, [*provenances[start : start + count], *[None] * (BLOCK - count)])
        prediction = fast.judge(mean.astype(np.float64), variance.astype(np.float64))
        return Prediction(*(getattr(prediction, f.name)[:count] for f in fields(Prediction)))

    parts = _side_by_side(block, range(done, len(embeddings), BLOCK), threads)
    if earlier is not None:
        parts.insert(0, Prediction(*(getattr(earlier, f.name)[:done] for f in fields(Prediction))))
    return Prediction(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Prediction)))


def _filled(rows: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns (BLOCK, D) rows, zeros at the end, and how many came."""
    missing = BLOCK - len(rows)
    return (np.concatenate([rows, np.zeros((missing, rows.shape[1]), rows.dtype)]) if missing else rows), len(rows)


@dataclass(frozen=True)
class SingleProcess:
    """A process on inducing points in float32: two products and an exponential instead of two triangular solves.

    The covariance of the points is cut to its directions above LEAST_SHARE, in which single precision suffices; what a
    dropped direction knew makes the doubt greater, never smaller. The linear parts of the kernel go straight to what
    they are multiplied by, and |x - y|^2 is one product of features with their squares beside them.

    Attributes:
        kernel: its numbers.
        points: (P + 2, m) float32, the inducing points' side of the exponent.
        product: (m, 1 + B + r) float32: weights of the mean, of every member, and the root of what labels settled.
        straight: (P + S + O, 1 + B + r) float32, the linear parts of the kernel times the product.
        level: (1 + B + r,) float32, the constant part.
        members: B.
    """

    kernel: Kernel
    points: np.ndarray
    product: np.ndarray
    straight: np.ndarray
    level: np.ndarray
    members: int

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns posterior mean and variance, without label noise, of features (N, P): two of (N,)."""
        mean, variance = self.kernel.mean(features), self.kernel.diagonal(features)
        for start in range(0, len(features), CACHED):
            rows = slice(start, start + CACHED)
            parts = self._parts(features[rows])
            settled = parts[:, 1 + self.members :]
            mean[rows] += parts[:, 0]
            variance[rows] -= np.einsum("ij,ij->i", settled, settled)
            if self.members:
                disagreement = parts[:, 1 : 1 + self.members].var(axis=1, ddof=1)
                variance[rows] = np.maximum(variance[rows], disagreement)
        return mean, variance.clip(1e-9)

    def _parts(self, features: np.ndarray) -> np.ndarray:
        """Returns the covariance with the points times the product: (N, 1 + B + r)."""
        parts = features @ self.straight + self.level
        if self.kernel.rbf:
            exponent = _beside_squares(features[:, : len(self.points) - 2], self.kernel.length)[0] @ self.points
            parts += np.exp(exponent, out=exponent) @ (self.product * np.float32(self.kernel.rbf))
        return np.asarray(parts)


def _beside_squares(own: np.ndarray, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns both sides (N, P + 2) of a product that is -|x - y|^2 / (2 length^2) for features (N, P)."""
    scaled = own / length
    halves = -0.5 * np.einsum("ij,ij->i", scaled, scaled)[:, None]
    ones = np.ones_like(halves)
    return np.hstack([scaled, halves, ones]), np.hstack([scaled, ones, halves])


def single(head: Head) -> Head:
    """Returns a head that computes in float32."""
    process = head.process
    fast = Process(**_arrays(process)) if isinstance(process, Process) else _joined(process)
    return replace(head, features=SingleFeatures(**_arrays(head.features)), process=fast)  # type: ignore[arg-type]


def _joined(process: SparseProcess) -> SingleProcess:
    values, vectors = np.linalg.eigh(process.outer @ process.outer.T)
    kept = values > LEAST_SHARE * values[-1]
    root = vectors[:, kept] / np.sqrt(values[kept])  # cross @ root has the prior's covariance I
    turn = root.T @ process.outer  # from there to the factor's own coordinates
    solved = solve_triangular(process.inner, turn.T, lower=True, check_finite=False)
    settled, directions = np.linalg.eigh(turn @ turn.T - solved.T @ solved)
    halves = root @ (directions * np.sqrt(settled.clip(0.0)))
    columns = np.column_stack([process.weights, process.members]) if process.members.size else process.weights[:, None]
    product = np.column_stack([root @ (turn @ (process.outer.T @ columns)), halves])
    kernel = process.kernel
    own, scores, made = kernel.split(process.inputs)
    parts = [kernel.linear * own.T, kernel.population * scores.T, kernel.origin * made.T]
    straight = np.vstack([part @ product for part in parts])
    level = CONSTANT * product.sum(axis=0)
    points = _beside_squares(own, kernel.length)[1].T
    solid = [np.ascontiguousarray(part, np.float32) for part in (points, product, straight, level)]
    return SingleProcess(kernel, solid[0], solid[1], solid[2], solid[3], columns.shape[1] - 1)


def linear(embeddings: np.ndarray, weights: np.ndarray, bias: float, threads: int) -> np.ndarray:
    """Returns embeddings @ weights + bias of a whole matrix: (N,) float32, read once, from as many threads.

    Args:
        embeddings: (N, D) float32.
        weights: (D,).
        bias: added to every row.
        threads: parts worked on at once.
    """
    scores = np.empty(len(embeddings), np.float32)
    single_weights = np.ascontiguousarray(weights, np.float32)

    def part(start: int) -> None:
        rows = slice(start, start + 8 * BLOCK)
        np.dot(embeddings[rows], single_weights, out=scores[rows])

    _side_by_side(part, range(0, len(embeddings), 8 * BLOCK), threads)
    scores += np.float32(bias)
    return scores


def _side_by_side(work: Any, starts: range, threads: int) -> list[Any]:
    with _ONE_AT_A_TIME, threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(max(1, threads)) as pool:
        return list(pool.map(work, starts))


def _arrays(holder: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass with its arrays in float32."""
    values = {f.name: getattr(holder, f.name) for f in fields(holder)}
    return {
        name: v.astype(np.float32) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
        for name, v in values.items()
    }
