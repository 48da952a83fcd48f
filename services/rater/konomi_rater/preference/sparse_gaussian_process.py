"""A Gaussian process on thousands of labels through a few hundred inducing points.

The deterministic training conditional of Quinonero-Candela & Rasmussen (2005), equations 20 and 21: Nystroem's
approximation Q = K_nm K_mm^-1 K_mn in the likelihood, the exact prior for the variance of a new point. n m^2 work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from konomi_rater.preference.gaussian_process import Kernel
from konomi_rater.preference.ordinal import Check, never

POINTS = 400
JITTER = 1e-8


@dataclass(frozen=True)
class SparseProcess:
    """A process conditioned through inducing points.

    Attributes:
        kernel: its numbers.
        inputs: (m, P) features of the inducing points.
        outer: (m, m) lower Cholesky factor L of K_mm.
        inner: (m, m) lower Cholesky factor of I + V V', where V = L^-1 K_mn / noise^1/2.
        weights: (m,) so that the posterior mean is prior mean + K(x, inputs) weights.
        members: (m, B) the same of every bootstrap member.
    """

    kernel: Kernel
    inputs: np.ndarray
    outer: np.ndarray
    inner: np.ndarray
    weights: np.ndarray
    members: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def mean(self, features: np.ndarray) -> np.ndarray:
        """Returns the posterior mean of features (N, P): (N,)."""
        return self.kernel.mean(features) + self.kernel(features, self.inputs) @ self.weights

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns posterior mean and variance, without label noise, of features (N, P): two of (N,)."""
        cross = self.kernel(features, self.inputs)
        half = solve_triangular(self.outer, cross.T, lower=True, check_finite=False)
        seen = solve_triangular(self.inner, half, lower=True, check_finite=False)
        variance = self.kernel.diagonal(features)
        variance = variance - np.einsum("ij,ij->j", half, half) + np.einsum("ij,ij->j", seen, seen)
        if self.members.size:
            variance = np.maximum(variance, (cross @ self.members).var(axis=1, ddof=1))
        return self.kernel.mean(features) + cross @ self.weights, variance.clip(1e-9)

    def covariance(self, features: np.ndarray) -> np.ndarray:
        """Returns the joint posterior covariance of features (N, P): (N, N)."""
        half = solve_triangular(self.outer, self.kernel(self.inputs, features), lower=True, check_finite=False)
        seen = solve_triangular(self.inner, half, lower=True, check_finite=False)
        return self.kernel(features, features) - half.T @ half + seen.T @ seen


def condition_sparse(kernel: Kernel, inputs: np.ndarray, targets: np.ndarray, noise: np.ndarray) -> SparseProcess:
    """Conditions a process on many labels.

    Args:
        kernel: its numbers.
        inputs: (n, P) features.
        targets: (n,) latent targets.
        noise: (n,) variance of each target.
    """
    points = inputs[inducing(inputs, POINTS)]
    outer = cholesky(kernel(points, points) + JITTER * np.eye(len(points)), lower=True, check_finite=False)
    root = np.sqrt(noise)
    projected = solve_triangular(outer, kernel(points, inputs), lower=True, check_finite=False) / root
    inner = cholesky(np.eye(len(points)) + projected @ projected.T, lower=True, check_finite=False)
    seen = cho_solve((inner, True), projected @ ((targets - kernel.mean(inputs)) / root), check_finite=False)
    weights = solve_triangular(outer, seen, lower=True, trans="T", check_finite=False)
    return SparseProcess(kernel, points, outer, inner, weights)


def inducing(inputs: np.ndarray, count: int) -> np.ndarray:
    """Returns up to `count` rows of features (n, P), each the farthest from those before: (m,) indices."""
    chosen = [int(np.argmax(np.einsum("ij,ij->i", inputs - inputs.mean(axis=0), inputs - inputs.mean(axis=0))))]
    distance = np.full(len(inputs), np.inf)
    norms = np.einsum("ij,ij->i", inputs, inputs)
    while len(chosen) < min(count, len(inputs)):
        last = inputs[chosen[-1]]
        distance = np.minimum(distance, norms - 2 * inputs @ last + last @ last)
        distance[chosen[-1]] = -np.inf
        if distance.max() <= 1e-12:
            break
        chosen.append(int(np.argmax(distance)))
    return np.array(chosen)


def held_out_sparse(
    kernel: Kernel,
    inputs: np.ndarray,
    targets: np.ndarray,
    noise: np.ndarray,
    folds: Sequence[np.ndarray],
    check: Check = never,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the process predicts of every fold without it, noise included: mean and variance, two of (n,)."""
    mean, variance = np.zeros(len(targets)), np.zeros(len(targets))
    for fold in folds:
        check()
        rest = np.setdiff1d(np.arange(len(targets)), fold)
        process = condition_sparse(kernel, inputs[rest], targets[rest], noise[rest])
        mean[fold], doubt = process.predict(inputs[fold])
        variance[fold] = doubt + noise[fold]
    return mean, variance
