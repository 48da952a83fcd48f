"""How a set of images lies to what was graded, held against how graded images lie to each other.

A set is never compared with its own maker's output here: a base model is always like itself. What is usual are the
leave-one-out distances of the graded images (deep kNN, Sun et al. 2022), so of a set like them 95 of 100 are within it.
"""

from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 5
"""Graded images whose mean distance says how typical an image is; one alone may be a near-copy in a series."""
USUAL = 0.95
"""Quantile of the graded images' own distances up to which a distance is usual."""
LEAST_GRADED, LEAST_LIKED = 20, 3
"""Fewer graded, or liked, images say nothing of how far they usually are."""
MOST = 2000
"""Graded images looked at most, drawn at random: their mutual distances are all held at once."""


@dataclass(frozen=True)
class GradedMeasures:
    """How a set lies to the graded images; the fields are the contract's."""

    graded_n: int
    typical: float
    liked_n: int
    near_liked: float
    liked_distance: float
    usual_distance: float


def graded_measures(rows: np.ndarray, graded: np.ndarray, likes: np.ndarray) -> GradedMeasures | None:
    """Returns how a set lies to what was graded; None while too little is graded to say.

    Args:
        rows: (N, D) unit rows of the set, N at least 1.
        graded: (G, D) unit rows of the graded images, whoever made them.
        likes: (G,) bool, graded SSR or better.
    """
    chosen = _some(len(graded))
    graded, likes = graded[chosen], likes[chosen]
    liked = np.flatnonzero(likes)
    if len(graded) < LEAST_GRADED or len(liked) < LEAST_LIKED:
        return None
    every = np.arange(len(graded))
    usual = np.quantile(_nearest(graded, graded, NEIGHBOURS, own=every), USUAL)
    theirs = np.full(len(graded), -1)
    theirs[liked] = np.arange(len(liked))
    among, nearest = _nearest(graded, graded[liked], 1, own=theirs), _nearest(rows, graded[liked], 1)
    return GradedMeasures(
        graded_n=len(graded),
        typical=float((_nearest(rows, graded, NEIGHBOURS) <= usual).mean()),
        liked_n=len(liked),
        near_liked=float((nearest <= np.quantile(among, USUAL)).mean()),
        liked_distance=float(np.median(nearest)),
        usual_distance=float(np.median(among)),
    )


def _some(count: int) -> np.ndarray:
    """Returns at most MOST of so many places, drawn the same way every time."""
    return np.sort(np.random.default_rng(0).permutation(count)[:MOST])


def _nearest(rows: np.ndarray, others: np.ndarray, k: int, *, own: np.ndarray | None = None) -> np.ndarray:
    """Returns the mean cosine distance of unit rows (N, D) to their k nearest of others (M, D): (N,) in 0..2.

    Args:
        rows: the rows.
        others: the others, at least k, and one more where rows are among them.
        k: neighbours.
        own: (N,) place of each row among the others, -1 for none: none is its own neighbour.
    """
    distances = 1.0 - rows @ others.T
    if own is not None:
        at = np.flatnonzero(own >= 0)
        distances[at, own[at]] = np.inf
    return np.asarray(np.sort(np.partition(distances, k - 1, axis=1)[:, :k], axis=1).mean(axis=1).round(6))
