"""Makes a head's probabilities honest: one factor on its predictive spread, fitted on predictions of unseen labels.

A temperature on the latent standard deviation (Guo et al. 2017, carried over to an ordinal probit) keeps the order of
the images and the coherence of the five probabilities; a log-normal prior about 1 holds it there while labels are few.
"""

import numpy as np

from konomi_rater.ordinal import Scale, grade_probabilities

GRID = np.exp(np.linspace(-0.7, 0.7, 29))
PRIOR_SPREAD = 0.25
LEAST_RANDOM = 30
"""Randomly drawn labels from which on they alone are used; below, every held-out label is."""


def temperature(mean: np.ndarray, variance: np.ndarray, grades: np.ndarray, drawn: np.ndarray, scale: Scale) -> float:
    """Returns the factor on the predictive standard deviation that makes held-out grades most probable.

    Args:
        mean: (n,) held-out latent means.
        variance: (n,) held-out predictive variances, label noise included.
        grades: (n,) integers 1..5.
        drawn: (n,) bool, labels of images that were shown at random.
        scale: the cuts.
    """
    use = drawn if drawn.sum() >= LEAST_RANDOM else np.ones(len(grades), dtype=bool)
    rows = np.arange(int(use.sum()))
    losses = [
        -np.log(grade_probabilities(mean[use], variance[use] * t**2, scale)[rows, grades[use] - 1].clip(1e-9)).sum()
        + 0.5 * (np.log(t) / PRIOR_SPREAD) ** 2
        for t in GRID
    ]
    return float(GRID[int(np.argmin(losses))])
