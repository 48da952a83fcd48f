"""Five ordered grades on one latent scale: normal scores, cut-points and the way back to probabilities."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

GRADES = 5
PRIOR = np.array([0.40, 0.30, 0.18, 0.08, 0.04])
"""How grades fall when nothing is known (taste.md, section 4): keeps the cut of a grade nobody gave yet finite."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


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

    The expected grade given the latent f is 1 + sum_k P(grade > k | f); its mean and spread over
    f ~ N(mean, doubt) are taken by Gauss-Hermite quadrature, so the spread is the doubt of the
    model alone, without the owner's own label noise.

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
    first = expected @ WEIGHTS
    second = ((expected - first[:, None]) ** 2) @ WEIGHTS
    return first, np.sqrt(second.clip(0.0))
