"""A Gaussian process with an additive kernel, its numbers set by penalised marginal likelihood.

Rasmussen & Williams (2006), algorithm 2.1 and equations 5.9 and 5.12.
k(x, y) = c + a x.y + b exp(-|x - y|^2 / (2 l^2)) + p s.t + o u.v, where s and t are the population scores of x and y, u
and v how they were made (`provenance.origins`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from konomi_rater.preference.ordinal import Check, never

CONSTANT = 0.25
"""Prior variance of the overall level, in squared latent units."""
LEAST_NOISE = 0.05
"""Smallest label noise, of a latent variance of 1: nobody repeats every grade (retest correlation .95 at best)."""
PENALTY = 0.5 / 1.0**2
"""Weight of the log-normal prior about the starting values: one unit of log is one standard deviation."""


ORIGINS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Variances that the part of how an image was made may have, with log-normal weights about the kernel's own start."""
CARELESS = 0.95
"""How sure it is, before any label, that a person does not care how an image was made: the part then has no variance.
Tried from .5 to .95: at 20 labels it costs those who do not care under .01 of Spearman from .9 on (LOG.md)."""

NO_PAIRS = np.zeros((0, 2), np.int64)


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
        scores: how many population scores there are: the columns after the features' own.
        origin: variance of the part of how an image was made.
        origins: how many columns say that: the last.
    """

    linear: float = 0.5
    rbf: float = 0.3
    length: float = 1.0
    noise: float = 0.4
    population: float = 0.1
    slope: float = 0.4
    scores: int = 0
    origin: float = 0.1
    origins: int = 0

    def __call__(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Returns the covariance of features (N, P + S + O) and (M, P + S + O): (N, M)."""
        (left_own, left_scores, left_made), (right_own, right_scores, right_made) = self.split(left), self.split(right)
        products = left_own @ right_own.T
        covariance = CONSTANT + self.linear * products
        if self.rbf:
            covariance += self.rbf * np.exp(-_squares(left_own, right_own, products) / (2 * self.length**2))
        if self.scores:
            covariance = covariance + self.population * (left_scores @ right_scores.T)
        return covariance + self.origin * (left_made @ right_made.T) if self.origins else covariance

    def diagonal(self, features: np.ndarray) -> np.ndarray:
        """Returns the prior variance of each row of features (N, P + S + O): (N,)."""
        own, scores, made = self.split(features)
        linear = self.linear * np.einsum("ij,ij->i", own, own) + self.population * np.einsum("ij,ij->i", scores, scores)
        if self.origins:
            linear = linear + self.origin * np.einsum("ij,ij->i", made, made)
        return CONSTANT + linear + self.rbf

    def mean(self, features: np.ndarray) -> np.ndarray:
        """Returns the prior mean of each row of features (N, P + S + O): (N,)."""
        return self.slope * self.split(features)[1].sum(axis=1)

    def split(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the parts of features (N, P + S + O): their own (N, P), population scores, how it was made."""
        made = features.shape[1] - self.origins
        own = made - self.scores
        return features[:, :own], features[:, own:made], features[:, made:]


@dataclass(frozen=True)
class Process:
    """A conditioned process.

    Attributes:
        kernel: its numbers.
        inputs: (n, P) features of the labelled images.
        factor: (n, n) lower Cholesky factor of K + noise.
        weights: (n,) (K + noise)^-1 (y - prior mean).
        members: (n, B) the same of every bootstrap member (`head.with_members`).
        pairs: (m, 2) int64 rows; the last m observations are of the difference of two rows, not of a row of their own.
            The factor is then that of the covariance of all observations, and no row need have been observed alone.
    """

    kernel: Kernel
    inputs: np.ndarray
    factor: np.ndarray
    weights: np.ndarray
    members: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    pairs: np.ndarray = field(default_factory=lambda: NO_PAIRS)

    def mean(self, features: np.ndarray) -> np.ndarray:
        """Returns the posterior mean of features (N, P): (N,)."""
        return self.kernel.mean(features) + self.kernel(features, self.inputs) @ self.weights

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns posterior mean and variance, without label noise, of features (N, P): two of (N,).

        The variance is the greater of the posterior's and of the bootstrap members' disagreement.
        """
        cross = self.kernel(features, self.inputs)
        half = solve_triangular(self.factor, self._observed(cross).T, lower=True, check_finite=False)
        variance = self.kernel.diagonal(features) - np.einsum("ij,ij->j", half, half)
        if self.members.size:
            variance = np.maximum(variance, (cross @ self.members).var(axis=1, ddof=1))
        return self.kernel.mean(features) + cross @ self.weights, variance.clip(1e-9)

    def covariance(self, features: np.ndarray) -> np.ndarray:
        """Returns the joint posterior covariance of features (N, P): (N, N)."""
        cross = self.kernel(self.inputs, features).T
        half = solve_triangular(self.factor, self._observed(cross).T, lower=True, check_finite=False)
        return self.kernel(features, features) - half.T @ half

    def _observed(self, cross: np.ndarray) -> np.ndarray:
        """Returns the covariance (N, n + m) with what was observed, of that with the rows."""
        return observed(cross, len(self.factor) - len(self.pairs), self.pairs) if len(self.pairs) else cross


def observed(values: np.ndarray, alone: int, pairs: np.ndarray) -> np.ndarray:
    """Returns what was observed of rows: each of the first `alone` of the last axis, then the difference of each pair.

    Args:
        values: (..., N) of the rows.
        alone: how many of the rows were observed alone, the first.
        pairs: (m, 2) rows.
    """
    return np.concatenate([values[..., :alone], values[..., pairs[:, 0]] - values[..., pairs[:, 1]]], axis=-1)


def observations(rows: int, alone: int, pairs: np.ndarray) -> sparse.csr_array:
    """Returns what `observed` does of so many rows as a matrix, (alone + m, rows)."""
    number = np.arange(alone, alone + len(pairs))
    values = np.concatenate([np.ones(alone + len(pairs)), -np.ones(len(pairs))])
    places = np.concatenate([np.arange(alone), pairs[:, 0], pairs[:, 1]])
    return sparse.csr_array(
        (values, (np.concatenate([np.arange(alone), number, number]), places)), (alone + len(pairs), rows)
    )


def condition(
    kernel: Kernel,
    inputs: np.ndarray,
    targets: np.ndarray,
    noise: np.ndarray | None = None,
    pairs: np.ndarray = NO_PAIRS,
) -> Process:
    """Conditions a process.

    Args:
        kernel: its numbers.
        inputs: (n, P) features.
        targets: (n,) latent targets; with pairs (n' + m,): of the first rows, then of the pairs' differences.
        noise: variance of each target; the kernel's own where it is not given.
        pairs: (m, 2) rows whose difference is observed.
    """
    if len(pairs):
        return _condition_on_pairs(kernel, inputs, targets, noise, pairs)
    spread = np.full(len(inputs), kernel.noise) if noise is None else noise
    factor = cholesky(kernel(inputs, inputs) + np.diag(spread), lower=True, check_finite=False)
    weights = cho_solve((factor, True), targets - kernel.mean(inputs), check_finite=False)
    return Process(kernel, inputs, factor, weights)


def _condition_on_pairs(
    kernel: Kernel, inputs: np.ndarray, targets: np.ndarray, noise: np.ndarray | None, pairs: np.ndarray
) -> Process:
    alone = len(targets) - len(pairs)
    spread = np.full(len(targets), kernel.noise) if noise is None else noise
    factor = cholesky(covariance_of(kernel, inputs, alone, pairs) + np.diag(spread), lower=True, check_finite=False)
    solved = cho_solve((factor, True), targets - observed(kernel.mean(inputs), alone, pairs), check_finite=False)
    weights = np.zeros(len(inputs))
    weights[:alone] = solved[:alone]
    np.add.at(weights, pairs[:, 0], solved[alone:])
    np.subtract.at(weights, pairs[:, 1], solved[alone:])
    return Process(kernel, inputs, factor, weights, pairs=pairs)


def covariance_of(kernel: Kernel, inputs: np.ndarray, alone: int, pairs: np.ndarray) -> np.ndarray:
    """Returns the prior covariance of what is observed: (alone + m, alone + m)."""
    return observed(observed(kernel(inputs, inputs), alone, pairs).T, alone, pairs)


def held_out(process: Process, targets: np.ndarray, folds: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the process would predict of every fold's targets without that fold, in closed form.

    R&W equation 5.12 for blocks: with A = (K + noise)^-1, fold F has the mean y - A_FF^-1 (A (y - m))_F and the
    covariance A_FF^-1. The kernel's numbers are those of all labels.

    Args:
        process: conditioned on all targets.
        targets: (n,) what it was conditioned on.
        folds: rows of each fold; with pairs, observations. One that is of several folds has what the last predicts.

    Returns:
        Mean and variance, the targets' own noise included: two of (n,).
    """
    inverse = cho_solve((process.factor, True), np.eye(len(targets)), check_finite=False)
    weights = process.weights
    if len(process.pairs):
        prior = process.kernel.mean(process.inputs)
        weights = inverse @ (targets - observed(prior, len(targets) - len(process.pairs), process.pairs))
    mean, variance = np.zeros(len(targets)), np.zeros(len(targets))
    for fold in folds:
        spread = np.linalg.inv(inverse[np.ix_(fold, fold)])
        mean[fold] = targets[fold] - spread @ weights[fold]
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
    names = ["linear", *(["rbf", "length"] if start.rbf else []), *(["population"] if start.scores else [])]
    names += [*(["origin"] if start.origins else []), "noise"]
    origin = np.log([getattr(start, name) for name in names])
    own, scores, made = start.split(inputs)
    products, agreement, origins = own @ own.T, scores @ scores.T, made @ made.T if start.origins else None
    squares = _squares(own, own, products)
    rest = targets - start.mean(inputs)

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        check()
        kernel = replace(start, **dict(zip(names, np.exp(point), strict=True)))
        value, gradient = _evidence(kernel, products, squares, agreement, rest, origins)
        offset = point - origin
        picked = np.array([gradient[name] for name in names])
        return value + PENALTY * offset @ offset, picked + 2 * PENALTY * offset

    bounds = [(low - 5.0, low + 5.0) for low in origin]
    bounds[-1] = (math.log(LEAST_NOISE), bounds[-1][1])
    optimum = minimize(loss, origin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
    found = replace(start, **dict(zip(names, np.exp(optimum.x).tolist(), strict=True)))
    if not start.origins:
        return found

    def evidence(variance: float) -> float:
        check()
        return -_evidence(replace(found, origin=variance), products, squares, agreement, rest, origins)[0]

    return replace(found, origin=_expected_origin(start.origin, evidence))


def _expected_origin(usual: float, evidence: Callable[[float], float]) -> float:
    """Returns the posterior mean of the variance of how images were made, of a spike at 0 and a slab.

    The likeliest variance follows a few labels' chance: at 20 labels it took .04 of Spearman from those who do not care
    (LOG.md). The mean over what it may be (Mitchell & Beauchamp 1988) is near 0 until the labels say otherwise, and
    needs no threshold that their number would have to move.

    Args:
        usual: what the slab is about.
        evidence: the log marginal likelihood at a variance.
    """
    variances = np.array([0.0, *ORIGINS])
    slab = np.exp(-PENALTY * np.log(variances[1:] / usual) ** 2)
    prior = np.append(CARELESS, (1.0 - CARELESS) * slab / slab.sum())
    likelihood = np.array([evidence(float(variance)) for variance in variances])
    weights = prior * np.exp(likelihood - likelihood.max())
    return float(weights @ variances / weights.sum())


def _evidence(
    kernel: Kernel,
    products: np.ndarray,
    squares: np.ndarray,
    agreement: np.ndarray,
    targets: np.ndarray,
    origins: np.ndarray | None = None,
) -> tuple[float, dict[str, float]]:
    """Returns the negative log marginal likelihood and its gradient by the log of each number."""
    eye = np.eye(len(targets))
    bumps = kernel.rbf * np.exp(-squares / (2 * kernel.length**2)) if kernel.rbf else np.zeros_like(squares)
    shared = kernel.population * agreement
    parts = CONSTANT + kernel.linear * products + bumps + shared
    if origins is not None:
        parts = parts + kernel.origin * origins
    factor = cholesky(parts + kernel.noise * eye, lower=True, check_finite=False)
    weights = cho_solve((factor, True), targets, check_finite=False)
    inner = cho_solve((factor, True), eye, check_finite=False) - np.outer(weights, weights)
    value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum()
    gradient = {
        "linear": 0.5 * kernel.linear * np.vdot(inner, products),
        "rbf": 0.5 * np.vdot(inner, bumps),
        "length": 0.5 * np.vdot(inner, bumps * squares) / kernel.length**2 if kernel.rbf else 0.0,
        "population": 0.5 * np.vdot(inner, shared),
        "origin": 0.0 if origins is None else 0.5 * kernel.origin * np.vdot(inner, origins),
        "noise": 0.5 * kernel.noise * np.trace(inner),
    }
    return float(value), {name: float(number) for name, number in gradient.items()}


def _squares(left: np.ndarray, right: np.ndarray, products: np.ndarray) -> np.ndarray:
    norms = np.einsum("ij,ij->i", left, left)[:, None] + np.einsum("ij,ij->i", right, right)[None]
    return (norms - 2 * products).clip(0.0)
