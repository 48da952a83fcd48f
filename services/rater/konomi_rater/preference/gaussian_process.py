"""A Gaussian process with an additive kernel, its numbers set by penalised marginal likelihood.

Rasmussen & Williams (2006), algorithm 2.1 and equations 5.9 and 5.12.
k(x, y) = c + a x.y + b exp(-|x - y|^2 / (2 l^2)) + p s.t, where s and t are the population scores of x and y.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from konomi_rater.preference.ordinal import Check, never

CONSTANT = 0.25
"""Prior variance of the overall level, in squared latent units."""
LEAST_NOISE = 0.05
"""Smallest label noise, of a latent variance of 1: nobody repeats every grade (retest correlation .95 at best)."""
PENALTY = 0.5 / 1.0**2
"""Weight of the log-normal prior about the starting values: one unit of log is one standard deviation."""


@dataclass(frozen=True)
class Kernel:
    """The numbers of the kernel, and of the mean before any label.

    Attributes:
        linear: variance of the linear part.
        rbf: variance of the RBF part; 0 leaves it out.
        length: length scale of the RBF part, in feature units (images are about sqrt(2) apart).
        noise: variance of a label.
        population: variance of the slope on each population score.
        slope: slope on each population score before any label.
        scores: how many population scores there are: the last columns of the features.
    """

    linear: float = 0.5
    rbf: float = 0.3
    length: float = 1.0
    noise: float = 0.4
    population: float = 0.1
    slope: float = 0.4
    scores: int = 0

    def __call__(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Returns the covariance of features (N, P + S) and (M, P + S): (N, M)."""
        (left_own, left_scores), (right_own, right_scores) = self._split(left), self._split(right)
        products = left_own @ right_own.T
        covariance = CONSTANT + self.linear * products
        if self.rbf:
            covariance += self.rbf * np.exp(-_squares(left_own, right_own, products) / (2 * self.length**2))
        return covariance + self.population * (left_scores @ right_scores.T) if self.scores else covariance

    def diagonal(self, features: np.ndarray) -> np.ndarray:
        """Returns the prior variance of each row of features (N, P + S): (N,)."""
        own, scores = self._split(features)
        linear = self.linear * np.einsum("ij,ij->i", own, own) + self.population * np.einsum("ij,ij->i", scores, scores)
        return CONSTANT + linear + self.rbf

    def mean(self, features: np.ndarray) -> np.ndarray:
        """Returns the prior mean of each row of features (N, P + S): (N,)."""
        return self.slope * self._split(features)[1].sum(axis=1)

    def _split(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = features.shape[1] - self.scores
        return features[:, :count], features[:, count:]


@dataclass(frozen=True)
class Process:
    """A conditioned process.

    Attributes:
        kernel: its numbers.
        inputs: (n, P) features of the labelled images.
        factor: (n, n) lower Cholesky factor of K + noise.
        weights: (n,) (K + noise)^-1 (y - prior mean).
        members: (n, B) the same of every bootstrap member (`head.with_members`).
    """

    kernel: Kernel
    inputs: np.ndarray
    factor: np.ndarray
    weights: np.ndarray
    members: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def mean(self, features: np.ndarray) -> np.ndarray:
        """Returns the posterior mean of features (N, P): (N,)."""
        return self.kernel.mean(features) + self.kernel(features, self.inputs) @ self.weights

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns posterior mean and variance, without label noise, of features (N, P): two of (N,).

        The variance is the greater of the posterior's and of the bootstrap members' disagreement.
        """
        cross = self.kernel(features, self.inputs)
        half = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        variance = self.kernel.diagonal(features) - np.einsum("ij,ij->j", half, half)
        if self.members.size:
            variance = np.maximum(variance, (cross @ self.members).var(axis=1, ddof=1))
        return self.kernel.mean(features) + cross @ self.weights, variance.clip(1e-9)

    def covariance(self, features: np.ndarray) -> np.ndarray:
        """Returns the joint posterior covariance of features (N, P): (N, N)."""
        half = solve_triangular(self.factor, self.kernel(self.inputs, features), lower=True, check_finite=False)
        return self.kernel(features, features) - half.T @ half


def condition(kernel: Kernel, inputs: np.ndarray, targets: np.ndarray, noise: np.ndarray | None = None) -> Process:
    """Conditions a process.

    Args:
        kernel: its numbers.
        inputs: (n, P) features.
        targets: (n,) latent targets.
        noise: (n,) variance of each target; the kernel's own where it is not given.
    """
    spread = np.full(len(inputs), kernel.noise) if noise is None else noise
    factor = cholesky(kernel(inputs, inputs) + np.diag(spread), lower=True, check_finite=False)
    weights = cho_solve((factor, True), targets - kernel.mean(inputs), check_finite=False)
    return Process(kernel, inputs, factor, weights)


def held_out(process: Process, targets: np.ndarray, folds: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the process would predict of every fold's targets without that fold, in closed form.

    R&W equation 5.12 for blocks: with A = (K + noise)^-1, fold F has the mean y - A_FF^-1 (A (y - m))_F and the
    covariance A_FF^-1. The kernel's numbers are those of all labels.

    Args:
        process: conditioned on all targets.
        targets: (n,) what it was conditioned on.
        folds: rows of each fold.

    Returns:
        Mean and variance, the targets' own noise included: two of (n,).
    """
    inverse = cho_solve((process.factor, True), np.eye(len(targets)), check_finite=False)
    mean, variance = np.zeros(len(targets)), np.zeros(len(targets))
    for fold in folds:
        spread = np.linalg.inv(inverse[np.ix_(fold, fold)])
        mean[fold] = targets[fold] - spread @ process.weights[fold]
        variance[fold] = np.diag(spread)
    return mean, variance


def optimise(
    start: Kernel, inputs: np.ndarray, targets: np.ndarray, *, steps: int = 40, check: Check = never
) -> Kernel:
    """Returns the kernel of the greatest penalised marginal likelihood near `start`.

    Args:
        start: where to begin and what the penalty pulls towards; a part that is 0 stays out.
        inputs: (n, P) features.
        targets: (n,) latent targets.
        steps: at most this many L-BFGS iterations.
        check: asked before every evaluation whether anybody waits.
    """
    names = ["linear", *(["rbf", "length"] if start.rbf else []), *(["population"] if start.scores else []), "noise"]
    origin = np.log([getattr(start, name) for name in names])
    own, scores = start._split(inputs)
    products, agreement = own @ own.T, scores @ scores.T
    squares = _squares(own, own, products)
    rest = targets - start.mean(inputs)

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        check()
        kernel = replace(start, **dict(zip(names, np.exp(point), strict=True)))
        value, gradient = _evidence(kernel, products, squares, agreement, rest)
        offset = point - origin
        picked = np.array([gradient[name] for name in names])
        return value + PENALTY * offset @ offset, picked + 2 * PENALTY * offset

    bounds = [(low - 5.0, low + 5.0) for low in origin]
    bounds[-1] = (math.log(LEAST_NOISE), bounds[-1][1])
    optimum = minimize(loss, origin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
    return replace(start, **dict(zip(names, np.exp(optimum.x).tolist(), strict=True)))


def _evidence(
    kernel: Kernel, products: np.ndarray, squares: np.ndarray, agreement: np.ndarray, targets: np.ndarray
) -> tuple[float, dict[str, float]]:
    """Returns the negative log marginal likelihood and its gradient by the log of each number."""
    eye = np.eye(len(targets))
    bumps = kernel.rbf * np.exp(-squares / (2 * kernel.length**2)) if kernel.rbf else np.zeros_like(squares)
    shared = kernel.population * agreement
    factor = cholesky(
        CONSTANT + kernel.linear * products + bumps + shared + kernel.noise * eye, lower=True, check_finite=False
    )
    weights = cho_solve((factor, True), targets, check_finite=False)
    inner = cho_solve((factor, True), eye, check_finite=False) - np.outer(weights, weights)
    value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum()
    gradient = {
        "linear": 0.5 * kernel.linear * np.vdot(inner, products),
        "rbf": 0.5 * np.vdot(inner, bumps),
        "length": 0.5 * np.vdot(inner, bumps * squares) / kernel.length**2 if kernel.rbf else 0.0,
        "population": 0.5 * np.vdot(inner, shared),
        "noise": 0.5 * kernel.noise * np.trace(inner),
    }
    return float(value), {name: float(number) for name, number in gradient.items()}


def _squares(left: np.ndarray, right: np.ndarray, products: np.ndarray) -> np.ndarray:
    norms = np.einsum("ij,ij->i", left, left)[:, None] + np.einsum("ij,ij->i", right, right)[None]
    return (norms - 2 * products).clip(0.0)
