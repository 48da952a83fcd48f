"""Nearest neighbours by cosine: novelty against an archive and typicality against a reference.

Novelty is the mean cosine distance to the k nearest in an archive (Lehman & Stanley 2011); typicality compares the
same distance with what the reference's own members have among themselves (deep kNN, Sun et al. 2022).
"""

from dataclasses import dataclass

import faiss
import numpy as np

NEIGHBOURS = 15
BLAS_THRESHOLD = 1300
"""faiss hands products of at least this many queries x dimensions to BLAS; its own default is seven times slower."""
DECIMALS = 6
"""Distances are rounded to it: the last bits of a float32 product depend on the rows beside."""
BLOCK = 4096


class NeighbourIndex:
    """An exact cosine index with stable ids; a cache, always rebuilt from the database."""

    def __init__(self, dimensions: int) -> None:
        faiss.cvar.distance_compute_blas_threshold = max(1, BLAS_THRESHOLD // dimensions)
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimensions))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, ids: np.ndarray, embeddings: np.ndarray) -> None:
        """Adds unit rows (N, D) under ids (N,) int64."""
        if len(ids):
            self._index.add_with_ids(np.ascontiguousarray(embeddings, np.float32), np.asarray(ids, np.int64))

    def remove(self, ids: np.ndarray) -> int:
        """Removes ids and returns how many there were."""
        return int(self._index.remove_ids(np.asarray(ids, np.int64)))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns similarities (Q, k) and ids (Q, k) of the nearest first; k is cut to what there is."""
        k = min(k, len(self))
        if not k or not len(queries):
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        parts = [
            self._index.search(np.ascontiguousarray(queries[start : start + BLOCK], np.float32), k)
            for start in range(0, len(queries), BLOCK)
        ]
        return np.concatenate([found for found, _ in parts]), np.concatenate([ids for _, ids in parts])

    def distance(self, queries: np.ndarray, own: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
        """Returns the mean cosine distance to the k nearest other rows: (Q,) in 0..2.

        Args:
            queries: (Q, D) unit rows.
            own: (Q,) id of the query itself where it is in the index, else -1: it is not its own neighbour.
            k: neighbours; fewer when the index is smaller. 0.0 where there is none.
        """
        similarities, ids = self.search(queries, k + 1)
        if not similarities.shape[1]:
            return np.zeros(len(queries))
        usable = ids != own[:, None]
        usable &= np.cumsum(usable, axis=1) <= k
        total = np.where(usable, 1.0 - similarities, 0.0).sum(axis=1)
        return (total / usable.sum(axis=1).clip(1)).clip(0.0, 2.0).round(DECIMALS)


@dataclass(frozen=True)
class Reference:
    """Images whose mutual distances say what is ordinary.

    Attributes:
        index: their index; ids are whatever the caller uses.
        distances: (N,) sorted leave-one-out distances.
    """

    index: NeighbourIndex
    distances: np.ndarray

    def cut(self, percentile: float) -> float:
        """Returns the distance that `percentile` of the members do not exceed; 100 means no cut."""
        if percentile >= 100 or len(self.distances) < 2:
            return np.inf
        return float(np.quantile(self.distances, percentile / 100))

    def typicality(self, distances: np.ndarray) -> np.ndarray:
        """Maps distances (Q,) to 1 at or below the members' median, falling to 0 at their 99th percentile."""
        near, far = self.cut(50), self.cut(99)
        if not np.isfinite(far):
            return np.ones(len(distances))
        return ((far - distances) / max(far - near, 1e-9)).clip(0.0, 1.0)


def reference_of(ids: np.ndarray, embeddings: np.ndarray, k: int = NEIGHBOURS) -> Reference:
    """Builds a reference from unit rows (N, D) under ids (N,)."""
    index = NeighbourIndex(embeddings.shape[1] or 1)
    index.add(ids, embeddings)
    return Reference(index, np.sort(index.distance(embeddings, np.asarray(ids), k)))
