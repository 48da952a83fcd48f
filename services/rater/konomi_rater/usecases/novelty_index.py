"""All images of a taste as one neighbour index that follows the database: rows come, rows go, ids stay."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cachetools import LRUCache

from konomi_rater.measures.novelty import EXACT_ROWS, NEIGHBOURS, NeighbourIndex
from konomi_rater.storage.embeddings import MatrixView
from konomi_rater.storage.tastes import TasteRow

GROWTH = 1.2
"""An approximate index is learnt anew for its file when it has grown by this factor since."""


class Archive:
    """The index of one taste under one embedder; ids are row numbers, which no later image is ever given.

    Args:
        exact_rows: rows up to which every search is exact.
        file: where an approximate index is kept; None keeps it in memory only. A lost or damaged file costs the time
            to learn it again, never an answer.
    """

    def __init__(self, exact_rows: int = EXACT_ROWS, file: Path | None = None) -> None:
        self._exact_rows, self._file = exact_rows, file
        self._lock = threading.Lock()
        self._index: NeighbourIndex | None = None
        self._held = np.zeros(0, np.int64)
        self._saved, self._generation = 0, 0

    def at(self, view: MatrixView) -> "ArchiveView":
        """Brings the index up to the view and returns it for that view's positions."""
        with self._lock:
            self._follow(view)
        return ArchiveView(self, view)

    def distance(self, view: MatrixView, embeddings: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
        """Returns mean cosine distances to the k nearest other images, as `NeighbourIndex.distance` does: (Q,)."""
        own = np.asarray(own, np.int64)
        rows = np.where(own >= 0, view.rows[own.clip(0)] if len(view) else -1, -1)
        with self._lock:
            return np.zeros(len(embeddings)) if self._index is None else self._index.distance(embeddings, rows, k)

    def search(self, view: MatrixView, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns similarities (Q, k) and positions (Q, k) in the view, nearest first; -1 where fewer were found."""
        with self._lock:
            if self._index is None:
                return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
            last = int(view.rows[-1]) if len(view) else -1
            younger = len(self._held) - int(np.searchsorted(self._held, last, side="right"))
            similarities, rows = self._index.search(queries, k + younger)
        positions = np.searchsorted(view.rows, rows).clip(0, max(0, len(view) - 1))
        inside = (rows >= 0) & (view.rows[positions] == rows) if len(view) else np.zeros(rows.shape, bool)
        order = np.argsort(~inside, axis=1, kind="stable")[:, :k]
        positions = np.where(inside, positions, -1)
        return np.take_along_axis(similarities, order, 1), np.take_along_axis(positions, order, 1)

    def _follow(self, view: MatrixView) -> None:
        if not len(view):
            return
        if self._index is None:
            self._index = self._load(view.embeddings.shape[1])
            self._held = np.sort(self._index.ids())
            self._saved = len(self._held)
        last = int(self._held[-1]) if len(self._held) else -1
        if len(self._held) == len(view) and last == int(view.rows[-1]):
            return
        # Rows past the view's last came later, unless images were forgotten since: then the view says what is left.
        forgotten, self._generation = view.generation > self._generation, max(self._generation, view.generation)
        gone = self._held[~np.isin(self._held, view.rows) & ((self._held <= int(view.rows[-1])) | forgotten)]
        if len(gone):
            self._index.remove(gone)
        new = np.flatnonzero(~np.isin(view.rows, self._held))
        self._index.add(view.rows[new], view.embeddings[new])
        self._held = np.sort(np.concatenate([np.setdiff1d(self._held, gone), view.rows[new]]))
        if self._file is not None and not self._index.exact and len(self._held) >= GROWTH * self._saved:
            self._index.save(self._file)
            self._saved = len(self._held)

    def _load(self, dimensions: int) -> NeighbourIndex:
        stored = NeighbourIndex.load(self._file, dimensions, self._exact_rows) if self._file is not None else None
        return stored if stored is not None else NeighbourIndex(dimensions, self._exact_rows)


@dataclass(frozen=True)
class ArchiveView:
    """The index as seen from one view: every id that goes in or out is a position of the view, -1 is none."""

    archive: Archive
    view: MatrixView

    def distance(self, embeddings: np.ndarray, own: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
        """Returns the mean cosine distance of unit rows (Q, D) to the k nearest other images: (Q,) in 0..2.

        Args:
            embeddings: (Q, D) unit rows.
            own: (Q,) position of each row in the view, -1 for a stranger.
            k: neighbours; fewer when there are fewer images.
        """
        return self.archive.distance(self.view, embeddings, own, k)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns similarities (Q, k) and positions (Q, k), nearest first; -1 where fewer were found."""
        return self.archive.search(self.view, queries, k)


EXACT_GRADED = 20_000
"""Graded images up to which the distance to them is exact; beyond, as an inverted file finds it."""


class GradedIndex:
    """The graded images of one taste as a neighbour index: what is graded comes, what is cleared goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._index: NeighbourIndex | None = None
        self._held = np.zeros(0, np.int64)

    def distance(self, view: MatrixView, graded: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
        """Returns the mean cosine distance of unit rows (Q, D) to the k nearest graded images: (Q,) in 0..2.

        Args:
            view: the images of the taste.
            graded: (L,) positions of the graded images in the view.
            queries: (Q, D) unit rows; an image is its own neighbour where it is graded.
            k: neighbours; fewer when there are fewer.
        """
        with self._lock:
            self._follow(view, view.rows[graded])
            assert self._index is not None, "a taste without grades has no such index"
            return self._index.distance(queries, np.full(len(queries), -1), k)

    def _follow(self, view: MatrixView, rows: np.ndarray) -> None:
        if self._index is None:
            self._index = NeighbourIndex(view.embeddings.shape[1], EXACT_GRADED)
        rows = np.sort(rows)
        if np.array_equal(rows, self._held):
            return
        gone = np.setdiff1d(self._held, rows, assume_unique=True)
        new = np.setdiff1d(rows, self._held, assume_unique=True)
        if len(gone):
            self._index.remove(gone)
        if len(new):
            self._index.add(new, view.embeddings[view.indices(new)])
        self._held = rows


CHUNK = 2048
"""Images measured at a time: whoever scores an image waits for one chunk at most, not for a library."""
FEW = 4096
"""No more images than these are measured anew each time."""
KEPT = 4
"""Views whose measurement is kept at most."""


@dataclass
class _Measurement:
    """The novelty of every image of a view, (N,), once its first caller has measured it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    novelty: np.ndarray | None = None


class Novelties:
    """Mean cosine distances of a taste's own images to their nearest others, kept for the views asked for last."""

    def __init__(self, archive: Callable[[TasteRow, MatrixView], ArchiveView]) -> None:
        """Takes what returns the index of a taste's images as seen from a view."""
        self._archive = archive
        self._lock = threading.Lock()
        self._measurements: LRUCache[tuple[str, str, int, int], _Measurement] = LRUCache(KEPT)

    def of(self, taste: TasteRow, view: MatrixView, positions: np.ndarray) -> np.ndarray:
        """Returns the novelty of images at positions (Q,) of the view: (Q,) in 0..2."""
        if len(positions) <= FEW:
            return self._measured(taste, view, positions)
        key = (taste.uid, taste.embedder, view.generation, len(view))
        with self._lock:
            measurement = self._measurements.setdefault(key, _Measurement())
        with measurement.lock:  # pages asked for at once wait for one measurement
            if measurement.novelty is None:
                measurement.novelty = self._measured(taste, view, np.arange(len(view)))
            return np.asarray(measurement.novelty[positions])

    def _measured(self, taste: TasteRow, view: MatrixView, positions: np.ndarray) -> np.ndarray:
        archive = self._archive(taste, view)
        parts = [positions[start : start + CHUNK] for start in range(0, len(positions), CHUNK)]
        return np.concatenate([np.zeros(0), *(archive.distance(view.embeddings[part], part) for part in parts)])
