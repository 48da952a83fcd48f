"""Nearest neighbours by cosine: novelty against an archive and typicality against a reference.

Novelty is the mean cosine distance to the k nearest in an archive (Lehman & Stanley 2011); typicality compares the
same distance with what the reference's own members have among themselves (deep kNN, Sun et al. 2022).
"""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from konomi.errors import FailedPrecondition

NEIGHBOURS = 15
BLAS_THRESHOLD = 1300
"""faiss hands products of at least this many queries x dimensions to BLAS; its own 128,000 is many times slower."""
BLAS_ROWS = 16_384
"""Rows a BLAS product takes at once; faiss's own 1,024 spends more on merging results than on multiplying."""
BLAS_QUERIES = 256
DECIMALS = 6
"""Distances are rounded to it: the last bits of a float32 product depend on the rows beside."""
BLOCK = 4096
EXACT_ROWS = 1_000_000
RECALL = 0.97
"""Share of the true ten nearest an approximate index must find for its own rows; it probes more cells until it does."""
CHECKED = 256
"""Rows asked to measure that share."""


@cache
def faiss() -> Any:
    """Returns the library, loaded when it is first needed: whoever scores nothing runs without it.

    Raises:
        FailedPrecondition: it is not installed (EXTRA_MISSING).
    """
    try:
        import faiss as library
    except ImportError as error:
        raise FailedPrecondition(
            "expected the library faiss, which finds the nearest images, found none; pip install faiss-cpu",
            reason="EXTRA_MISSING",
        ) from error
    library.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD
    library.cvar.distance_compute_blas_query_bs = BLAS_QUERIES
    library.cvar.distance_compute_blas_database_bs = BLAS_ROWS
    return library


class NeighbourIndex:
    """A cosine index with stable ids; a cache, always rebuilt from the database.

    Exact while it holds at most `exact_rows`; beyond, an inverted file of half-precision rows, whose cells are learnt
    from its own rows (IVF,SQfp16: Jegou et al. 2011, "Product quantization for nearest neighbor search", section IV).

    Args:
        dimensions: of the rows.
        exact_rows: rows up to which every search is exact.
    """

    def __init__(self, dimensions: int, exact_rows: int = EXACT_ROWS) -> None:
        self._dimensions, self._exact_rows = dimensions, exact_rows
        self._index = faiss().IndexIDMap2(faiss().IndexFlatIP(dimensions))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def exact(self) -> bool:
        """Whether every search returns the true neighbours."""
        return isinstance(self._index, faiss().IndexIDMap2)

    def ids(self) -> np.ndarray:
        """Returns the ids it holds: (N,) int64, in no particular order."""
        if self.exact:
            return faiss().vector_to_array(self._index.id_map)
        lists = self._index.invlists
        parts = [
            faiss().rev_swig_ptr(lists.get_ids(cell), lists.list_size(cell)).copy()
            for cell in range(self._index.nlist)
            if lists.list_size(cell)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def add(self, ids: np.ndarray, embeddings: np.ndarray) -> None:
        """Adds unit rows (N, D) under ids (N,) int64; past `exact_rows` the index becomes approximate."""
        if len(ids):
            self._index.add_with_ids(np.ascontiguousarray(embeddings, np.float32), np.asarray(ids, np.int64))
        if self.exact and len(self) > self._exact_rows:
            self._index = _approximate(self._index, self._dimensions)

    def remove(self, ids: np.ndarray) -> int:
        """Removes ids and returns how many there were."""
        return int(self._index.remove_ids(np.asarray(ids, np.int64)))

    def save(self, path: Path) -> None:
        """Writes the index beside a file that names its sha256, complete or not at all; only an approximate one."""
        if self.exact:
            raise ValueError("an exact index is rebuilt faster than it is read")
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}.part")
        faiss().write_index(self._index, str(scratch))
        facts = {"sha256": _sha256(scratch), "dimensions": self._dimensions, "faiss": faiss().__version__}
        path.with_suffix(".json").unlink(missing_ok=True)
        scratch.replace(path)
        path.with_suffix(".json").write_text(json.dumps(facts), "utf-8")

    @classmethod
    def load(cls, path: Path, dimensions: int, exact_rows: int = EXACT_ROWS) -> "NeighbourIndex | None":
        """Returns a saved index, or None where it is lost, damaged or of another kind: it is only a cache."""
        try:
            facts = json.loads(path.with_suffix(".json").read_text("utf-8"))
            expected = {"sha256": _sha256(path), "dimensions": dimensions, "faiss": faiss().__version__}
        except (OSError, ValueError):
            return None
        if facts != expected:
            return None
        index = cls(dimensions, exact_rows)
        index._index = faiss().read_index(str(path))
        index._index.set_direct_map_type(faiss().DirectMap.Hashtable)
        return index

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns similarities (Q, k) and ids (Q, k) of the nearest first; k is cut to what there is.

        Where an approximate index finds fewer than k, the rest are similarity -1 and id -1.
        """
        k = min(k, len(self))
        if not k or not len(queries):
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        parts = [
            self._index.search(np.ascontiguousarray(queries[start : start + BLOCK], np.float32), k)
            for start in range(0, len(queries), BLOCK)
        ]
        similarities = np.concatenate([cosines for cosines, _ in parts])
        return similarities.clip(-1.0, None), np.concatenate([ids for _, ids in parts])

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
        usable = (ids != own[:, None]) & (ids >= 0)
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


def _approximate(exact: Any, dimensions: int) -> Any:
    """Turns an exact index into an inverted file that finds RECALL of the true neighbours of its own rows."""
    rows = faiss().rev_swig_ptr(faiss().downcast_index(exact.index).get_xb(), exact.ntotal * dimensions)
    rows, ids = rows.reshape(-1, dimensions), faiss().vector_to_array(exact.id_map)
    cells = int(2 ** np.clip(np.round(np.log2(np.sqrt(len(rows)))), 2, 16))
    coarse = faiss().IndexFlatIP(dimensions)
    index = faiss().IndexIVFScalarQuantizer(
        coarse, dimensions, cells, faiss().ScalarQuantizer.QT_fp16, faiss().METRIC_INNER_PRODUCT
    )
    index.referenced_objects = [coarse]  # faiss holds a bare pointer to it
    rng = np.random.default_rng(0)
    index.cp.niter, index.by_residual = 10, False
    index.train(rows[np.sort(rng.permutation(len(rows))[: 64 * cells])])
    index.set_direct_map_type(faiss().DirectMap.Hashtable)
    index.add_with_ids(rows, ids)
    queries = rows[np.sort(rng.permutation(len(rows))[:CHECKED])]
    k = min(10, len(rows))
    _, truth = exact.search(queries, k)
    index.nprobe = 1
    while index.nprobe < cells and _recall(index.search(queries, k)[1], truth) < RECALL:
        index.nprobe = min(cells, index.nprobe * 2)
    return index


def _recall(retrieved: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(retrieved, truth, strict=True)]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
