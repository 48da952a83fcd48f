"""Where to start: typical images of every region nothing was graded in yet (TypiClust, Hacohen et al. 2202.02794)."""

import numpy as np
from sklearn.cluster import KMeans

MOST_ROWS = 10_000
"""Images that are clustered; a larger pool is thinned out evenly."""
MOST_COVERED = 200
"""Graded images that are looked at; of more, the last."""
NEIGHBOURS = 20


def typical(embeddings: np.ndarray, covered: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the rows of `count` typical images, of the largest region without a graded one first.

    Pool and graded images are clustered together into as many regions as there will be graded images; of each region
    the image with the smallest mean distance to its neighbours there is taken.

    Args:
        embeddings: (N, D) the pool, any scale.
        covered: (L, D) the graded images, in the order they were graded.
        count: how many; cut to N.
        seed: of the clustering.
    """
    if count >= len(embeddings) or not count:
        return np.arange(min(count, len(embeddings)))
    covered = covered[-MOST_COVERED:]
    stride = max(1, min(len(embeddings) // MOST_ROWS, len(embeddings) // count))
    rows = np.arange(0, len(embeddings), stride)
    known = np.concatenate([embeddings[rows], covered.reshape(len(covered), embeddings.shape[1])])
    regions = min(count + len(covered), len(known))
    members = KMeans(regions, n_init=1, random_state=seed % 2**32).fit_predict(known)
    graded = np.bincount(members[len(rows) :], minlength=regions)
    members = members[: len(rows)]
    sizes = np.bincount(members, minlength=regions)
    order = [region for region in np.lexsort((-sizes, graded)) if sizes[region]]
    chosen = [rows[_densest(embeddings[rows], np.flatnonzero(members == region))] for region in order[:count]]
    return np.array(chosen, dtype=np.int64)


def _densest(embeddings: np.ndarray, rows: np.ndarray) -> int:
    """Returns which of `rows` lies nearest to its neighbours among them."""
    part = embeddings[rows].astype(np.float64)
    norms = np.einsum("ij,ij->i", part, part)
    distances = np.sqrt((norms[:, None] + norms[None] - 2 * part @ part.T).clip(0.0))
    near = np.sort(distances, axis=1)[:, 1 : NEIGHBOURS + 1]
    return int(rows[np.argmin(near.mean(axis=1))]) if near.size else int(rows[0])
