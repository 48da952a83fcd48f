"""The Vendi score: the effective number of distinct images in a set (Friedman & Dieng 2022, 2210.02410)."""

import numpy as np


def vendi(embeddings: np.ndarray) -> float:
    """Returns exp of the entropy of the eigenvalues of the cosine kernel divided by n, 1..n.

    The kernel X X^T / n and the covariance X^T X / n share their non-zero eigenvalues, so the smaller is used.

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
