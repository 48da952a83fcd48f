"""Diversity of a set, and sets drawn for it: the Vendi score, farthest points, facility location."""

import numpy as np


def vendi(embeddings: np.ndarray) -> float:
    """Returns the effective number of distinct images, 1..n (Friedman & Dieng 2022, 2210.02410).

    It is exp of the entropy of the eigenvalues of the cosine kernel divided by n. The kernel X X^T / n and the
    covariance X^T X / n share their non-zero eigenvalues, so the smaller is used.

    Args:
        embeddings: (N, D) unit length.
    """
    count = len(embeddings)
    if not count:
        return 0.0
    rows = embeddings.astype(np.float64)
    gram = rows @ rows.T if count < rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh(gram / count)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def farthest_points(embeddings: np.ndarray, count: int, first: int = 0) -> list[int]:
    """Returns rows that lie far from each other, each the farthest from all before it (Gonzalez 1985).

    Its smallest mutual distance is at least half of the best possible.

    Args:
        embeddings: (N, D) unit length.
        count: rows wanted; cut to N.
        first: the row to begin with.
    """
    if not len(embeddings) or count < 1:
        return []
    picks = [first]
    distance = 1.0 - embeddings @ embeddings[first]
    distance[first] = -np.inf
    while len(picks) < min(count, len(embeddings)):
        row = int(np.argmax(distance))
        picks.append(row)
        distance = np.minimum(distance, 1.0 - embeddings @ embeddings[row])
        distance[row] = -np.inf
    return picks


def facility_location(embeddings: np.ndarray, count: int, weights: np.ndarray | None = None) -> list[int]:
    """Returns rows that stand for all rows, best first: each row has one of them near (Nemhauser et al. 1978).

    Greedy maximisation of sum_i w_i max_{j in S} (1 + cos(x_i, x_j)), at least 63 % of the best possible.

    Args:
        embeddings: (N, D) unit length.
        count: rows wanted; cut to N.
        weights: (N,) how much each row wants to be represented; 1 where None.
    """
    total = len(embeddings)
    importance = np.ones(total) if weights is None else np.asarray(weights, np.float64)
    served = np.zeros(total)
    similar = (1.0 + embeddings @ embeddings.T).astype(np.float32)
    bounds = importance @ similar  # gains only shrink, so an old gain bounds the new one (Minoux 1978)
    picks: list[int] = []
    while len(picks) < min(count, total):
        fresh: set[int] = set()
        while True:
            row = int(np.argmax(bounds))
            if row in fresh:
                break
            bounds[row] = importance @ np.maximum(similar[row] - served, 0.0)
            fresh.add(row)
        picks.append(row)
        served = np.maximum(served, similar[row])
        bounds[row] = -np.inf
    return picks
