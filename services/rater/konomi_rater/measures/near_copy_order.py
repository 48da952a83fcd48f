"""The order among near-copies: a ridge on embeddings as they are, which sees the small differences a head smooths away.

A head learns in a space where each number of an embedding counts the same and the common directions less
(`preference.features`): right among unlike images, but light and sharpness, in which the frames of a burst differ, are
few strong numbers there and become weak ones. The ridge keeps their weight. Its penalty is the one whose leave-one-out
error is least (PRESS; Allen 1974), of the closed form with centred rows.
"""

from dataclasses import dataclass

import numpy as np

LEAST, MOST = 10, 1000
"""Graded images below which there is none, and how many it learns from at most, spread evenly over all."""
PENALTIES = np.logspace(-3, 3, 25)


@dataclass(frozen=True)
class NearCopyOrder:
    """A fitted ridge.

    Attributes:
        centre: (D,) mean embedding of what it learnt from.
        weights: (D,) grades per unit of an embedding.
        grade: mean grade of what it learnt from.
    """

    centre: np.ndarray
    weights: np.ndarray
    grade: float

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns what it expects of unit rows (N, D): (N,) grades, neither clipped nor calibrated."""
        return np.asarray(self.grade + (embeddings.astype(np.float64) - self.centre) @ self.weights)


def learn_near_copy_order(embeddings: np.ndarray, grades: np.ndarray) -> NearCopyOrder | None:
    """Returns the ridge of graded images, None where too few are graded or all alike.

    Args:
        embeddings: (n, D) unit rows.
        grades: (n,) integers 1..5; 0 for an image that was not graded, which is left out.
    """
    graded = np.flatnonzero(grades)
    graded = graded[np.linspace(0, len(graded) - 1, min(len(graded), MOST)).astype(int)]
    if len(graded) < LEAST or len(np.unique(grades[graded])) < 2:
        return None
    rows, said = embeddings[graded].astype(np.float64), grades[graded].astype(np.float64)
    centre, grade = rows.mean(0), float(said.mean())
    rows, said = rows - centre, said - grade
    values, vectors = np.linalg.eigh(rows @ rows.T)
    values, turned = values.clip(0.0), vectors.T @ said

    def press(penalty: float) -> float:
        kept = values / (values + penalty)
        free = 1.0 - 1.0 / len(said) - (vectors**2) @ kept
        return float((((said - vectors @ (kept * turned)) / free.clip(1e-9)) ** 2).sum())

    best = min(PENALTIES, key=press)
    return NearCopyOrder(centre, rows.T @ (vectors @ (turned / (values + best))), grade)
