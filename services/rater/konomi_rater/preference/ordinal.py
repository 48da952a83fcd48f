"""Five ordered grades on one latent scale: normal scores, cut-points, their likelihood, the way back to grades."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve, solve
from scipy.special import ndtr, ndtri

GRADES = 5
PRIOR = np.array([0.40, 0.30, 0.18, 0.08, 0.04])
"""How grades fall when nothing is known: keeps the cut of a grade nobody gave yet finite."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
NEWTON_STEPS, TOLERANCE = 30, 1e-7
LEAST_CURVATURE = 1e-2
"""Keeps a grade that says nothing at the mode (far inside its interval) a finite target."""


Check = Callable[[], None]
"""What a long computation calls between two steps; it raises where nobody waits for the result any more."""


Likelihood = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Latent values (n,) to the slope and the negative curvature, above 0, of each one's log likelihood: two of (n,)."""


def never() -> None:
    """The check of whoever waits to the end."""


@dataclass(frozen=True)
class Scale:
    """A latent scale cut into grades.

    Attributes:
        cuts: (4,) float64, increasing: below the first is N, above the last is UR.
        targets: (5,) float64, the mean of a standard normal inside each grade's interval.
    """

    cuts: np.ndarray
    targets: np.ndarray


def scale_of(grades: np.ndarray) -> Scale:
    """Cuts a standard normal so that its parts are as frequent as the grades given.

    Args:
        grades: (n,) integers 1..5.
    """
    shares = np.bincount(grades, minlength=GRADES + 1)[1:] + PRIOR
    shares = shares / shares.sum()
    cuts = ndtri(np.cumsum(shares)[:-1])
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    density = np.exp(-0.5 * edges**2) / np.sqrt(2 * np.pi)
    return Scale(cuts, (density[:-1] - density[1:]) / shares)


def grade_probabilities(mean: np.ndarray, variance: np.ndarray, scale: Scale) -> np.ndarray:
    """Returns P(grade) for latent means (N,) and predictive variances (N,): (N, 5), rows sum to 1."""
    below = ndtr((scale.cuts[None] - mean[:, None]) / np.sqrt(variance)[:, None])
    edges = np.concatenate([np.zeros((len(mean), 1)), below, np.ones((len(mean), 1))], axis=1)
    return np.diff(edges, axis=1).clip(0.0)


def utility(mean: np.ndarray, doubt: np.ndarray, noise: float, scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """Returns the expected grade and its standard deviation, 1..5.

    The expected grade given the latent f is 1 + sum_k P(grade > k | f). Over f ~ N(mean, doubt) its mean has a closed
    form; its spread is taken by Gauss-Hermite quadrature, and is the doubt of the model alone, without the owner's own
    label noise.

    Args:
        mean: (N,) latent mean.
        doubt: (N,) latent posterior variance.
        noise: latent variance of the labels.
        scale: the cuts.
    """
    latent = mean[:, None] + np.sqrt(doubt)[:, None] * NODES  # (N, 9)
    expected = np.ones_like(latent)
    for cut in scale.cuts:
        expected += ndtr((latent - cut) / np.sqrt(noise))
    second = ((expected - (expected @ WEIGHTS)[:, None]) ** 2) @ WEIGHTS
    first = 1.0 + ndtr((mean[:, None] - scale.cuts) / np.sqrt(doubt + noise)[:, None]).sum(axis=1)
    return first, np.sqrt(second.clip(0.0))


def quantisation(scale: Scale, grades: np.ndarray) -> float:
    """Returns the latent variance that is lost when a standard normal is cut into these grades (n,): 0..1."""
    return float((1.0 - np.mean(scale.targets[grades - 1] ** 2)).clip(0.0, 1.0))


def sites(
    covariance: np.ndarray,
    prior: np.ndarray,
    grades: np.ndarray,
    scale: Scale,
    noise: float,
    check: Check = never,
) -> tuple[np.ndarray, np.ndarray]:
    """Replaces each grade's probit likelihood by a Gaussian that agrees with it at the posterior mode.

    Laplace's method as in Rasmussen & Williams (2006), algorithm 3.1, for the ordinal likelihood
    P(g | f) = Phi((c_g - f) / s) - Phi((c_(g-1) - f) / s) of Chu & Ghahramani (2005): the cumulative
    model, with a probit link.

    Args:
        covariance: (n, n) prior covariance.
        prior: (n,) prior mean.
        grades: (n,) integers 1..5.
        scale: the cuts.
        noise: latent variance of the labels.
        check: asked before every step whether anybody waits.

    Returns:
        Targets and variances: two of (n,).
    """
    return laplace(covariance, prior, grade_likelihood(grades, scale, noise), check)


def grade_likelihood(grades: np.ndarray, scale: Scale, noise: float) -> Likelihood:
    """Returns the ordinal likelihood of grades (n,)."""
    edges = np.concatenate([[-np.inf], scale.cuts, [np.inf]])
    low, high, width = edges[grades - 1], edges[grades], float(np.sqrt(noise))
    return lambda mode: _derivatives(mode, low, high, width)


def laplace(
    covariance: np.ndarray, prior: np.ndarray, likelihood: Likelihood, check: Check = never
) -> tuple[np.ndarray, np.ndarray]:
    """Replaces likelihoods by Gaussians that agree with them at the posterior mode.

    Args:
        covariance: (n, n) prior covariance of what is observed.
        prior: (n,) prior mean.
        likelihood: of each, log-concave.
        check: asked before every step whether anybody waits.

    Returns:
        Targets and variances: two of (n,).
    """
    mode = prior.copy()
    targets, variances = mode, np.ones(len(prior))
    for _ in range(NEWTON_STEPS):
        check()
        slope, curvature = likelihood(mode)
        targets, variances = mode + slope / curvature, 1.0 / curvature
        factor = cho_factor(covariance + np.diag(variances), lower=True, check_finite=False)
        moved = prior + covariance @ cho_solve(factor, targets - prior, check_finite=False)
        step = np.abs(moved - mode).max()
        mode = moved
        if step < TOLERANCE:
            break
    return targets, variances


def laplace_on_images(
    covariance: np.ndarray, prior: np.ndarray, seen: sparse.csr_array, likelihood: Likelihood, check: Check = never
) -> tuple[np.ndarray, np.ndarray]:
    """Does what `laplace` does where the observations are many and of few images: a step costs the images' cube.

    With W = A' C A of the observations' curvatures C, a Newton step is f = m + K (I + W K)^-1 A' C (y - A m), which is
    R&W algorithm 3.1 without W's square root, as W is not diagonal here.

    Args:
        covariance: (n, n) prior covariance K of the images' latent values.
        prior: (n,) their prior mean m.
        seen: (o, n) A, each observation as a sum of latent values.
        likelihood: of the o observations, log-concave.
        check: asked before every step whether anybody waits.

    Returns:
        Targets and variances of the observations: two of (o,).
    """
    expected = seen @ prior
    mode, eye = expected, np.eye(len(prior))
    targets, variances = mode, np.ones(len(mode))
    for _ in range(NEWTON_STEPS):
        check()
        slope, curvature = likelihood(mode)
        targets, variances = mode + slope / curvature, 1.0 / curvature
        pulls = seen.T @ (curvature * (targets - expected))
        precision = seen.T @ seen.multiply(curvature[:, None]).tocsr()
        moved = seen @ (prior + covariance @ solve(eye + precision @ covariance, pulls, check_finite=False))
        step = np.abs(moved - mode).max()
        mode = moved
        if step < TOLERANCE:
            break
    return targets, variances


def _derivatives(mode: np.ndarray, low: np.ndarray, high: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the slope and the negative curvature of the log likelihood at latent values (n,)."""
    below, above = (low - mode) / width, (high - mode) / width
    mass = (ndtr(above) - ndtr(below)).clip(1e-12)
    dense_below, dense_above = (np.exp(-0.5 * edge**2) / np.sqrt(2 * np.pi) for edge in (below, above))
    slope = (dense_below - dense_above) / mass / width
    tilt_below = np.where(np.isfinite(below), below, 0.0) * dense_below
    tilt_above = np.where(np.isfinite(above), above, 0.0) * dense_above
    curvature = slope**2 + (tilt_above - tilt_below) / mass / width**2
    return slope, curvature.clip(LEAST_CURVATURE)
