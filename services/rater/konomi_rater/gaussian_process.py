"""A Gaussian process with an additive linear + RBF kernel, its four numbers set by penalised marginal likelihood.

Rasmussen & Williams (2006), algorithm 2.1 and equation 5.9. k(x, y) = c + a x.y + b exp(-|x - y|^2 / (2 l^2)).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

CONSTANT = 0.25
"""Prior variance of the overall level, in squared latent units."""
LEAST_NOISE = 0.05
"""Smallest label noise, of a latent variance of 1: nobody repeats every grade (retest correlation .95 at best)."""
PENALTY = 0.5 / 1.0**2
"""Weight of the log-normal prior about the starting values: one unit of log is one standard deviation."""


@dataclass(frozen=True)
class Kernel:
    """The numbers of the kernel.

    Attributes:
        linear: variance of the linear part.
        rbf: variance of the RBF part; 0 leaves it out.
        length: length scale of the RBF part, in feature units (images are about sqrt(2) apart).
        noise: variance of a label.
    """

    linear: float = 0.5
    rbf: float = 0.3
    length: float = 1.0
    noise: float = 0.4

    def __call__(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Returns the covariance of features (N, P) and (M, P): (N, M)."""
        products = left @ right.T
        covariance = CONSTANT + self.linear * products
        if self.rbf:
            covariance += self.rbf * np.exp(-_squares(left, right, products) / (2 * self.length**2))
        return covariance

    def diagonal(self, features: np.ndarray) -> np.ndarray:
        """Returns the prior variance of each row of features (N, P): (N,)."""
        return CONSTANT + self.linear * np.einsum("ij,ij->i", features, features) + self.rbf


@dataclass(frozen=True)
class Process:
    """A conditioned process.

    Attributes:
        kernel: its numbers.
        inputs: (n, P) features of the labelled images.
        factor: (n, n) lower Cholesky factor of K + noise I.
        weights: (n,) (K + noise I)^-1 y.
    """

    kernel: Kernel
    inputs: np.ndarray
    factor: np.ndarray
    weights: np.ndarray

    def mean(self, features: np.ndarray) -> np.ndarray:
        """Returns the posterior mean of features (N, P): (N,)."""
        return self.kernel(features, self.inputs) @ self.weights

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns posterior mean and variance, without label noise, of features (N, P): two of (N,)."""
        cross = self.kernel(features, self.inputs)
        half = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        variance = self.kernel.diagonal(features) - np.einsum("ij,ij->j", half, half)
        return cross @ self.weights, variance.clip(1e-9)

    def covariance(self, features: np.ndarray) -> np.ndarray:
        """Returns the joint posterior covariance of features (N, P): (N, N)."""
        half = solve_triangular(self.factor, self.kernel(self.inputs, features), lower=True, check_finite=False)
        return self.kernel(features, features) - half.T @ half


def condition(kernel: Kernel, inputs: np.ndarray, targets: np.ndarray) -> Process:
    """Conditions a process on features (n, P) and latent targets (n,)."""
    covariance = kernel(inputs, inputs) + kernel.noise * np.eye(len(inputs))
    factor = cholesky(covariance, lower=True, check_finite=False)
    return Process(kernel, inputs, factor, cho_solve((factor, True), targets, check_finite=False))


def optimise(start: Kernel, inputs: np.ndarray, targets: np.ndarray, *, steps: int = 40) -> Kernel:
    """Returns the kernel of the greatest penalised marginal likelihood near `start`.

    Args:
        start: where to begin and what the penalty pulls towards; a part that is 0 stays out.
        inputs: (n, P) features.
        targets: (n,) latent targets.
        steps: at most this many L-BFGS iterations.
    """
    names = ("linear", "rbf", "length", "noise") if start.rbf else ("linear", "noise")
    origin = np.log([getattr(start, name) for name in names])
    products = inputs @ inputs.T
    squares = _squares(inputs, inputs, products)

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        kernel = replace(start, **dict(zip(names, np.exp(point), strict=True)))
        value, gradient = _evidence(kernel, products, squares, targets)
        offset = point - origin
        picked = np.array([gradient[name] for name in names])
        return value + PENALTY * offset @ offset, picked + 2 * PENALTY * offset

    bounds = [(low - 5.0, low + 5.0) for low in origin]
    bounds[-1] = (math.log(LEAST_NOISE), bounds[-1][1])
    found = minimize(loss, origin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
    return replace(start, **dict(zip(names, np.exp(found.x).tolist(), strict=True)))


def _evidence(
    kernel: Kernel, products: np.ndarray, squares: np.ndarray, targets: np.ndarray
) -> tuple[float, dict[str, float]]:
    """Returns the negative log marginal likelihood and its gradient by the log of each number."""
    eye = np.eye(len(targets))
    bumps = kernel.rbf * np.exp(-squares / (2 * kernel.length**2)) if kernel.rbf else np.zeros_like(squares)
    factor = cholesky(CONSTANT + kernel.linear * products + bumps + kernel.noise * eye, lower=True, check_finite=False)
    weights = cho_solve((factor, True), targets, check_finite=False)
    inner = cho_solve((factor, True), eye, check_finite=False) - np.outer(weights, weights)
    value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum()
    gradient = {
        "linear": 0.5 * kernel.linear * (inner * products).sum(),
        "rbf": 0.5 * (inner * bumps).sum(),
        "length": 0.5 * (inner * bumps * squares).sum() / kernel.length**2,
        "noise": 0.5 * kernel.noise * np.trace(inner),
    }
    return float(value), {name: float(number) for name, number in gradient.items()}


def _squares(left: np.ndarray, right: np.ndarray, products: np.ndarray) -> np.ndarray:
    norms = np.einsum("ij,ij->i", left, left)[:, None] + np.einsum("ij,ij->i", right, right)[None]
    return (norms - 2 * products).clip(0.0)
