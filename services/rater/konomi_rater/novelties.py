"""How novel the images of a taste are among each other, measured once for all pages of a listing."""

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from konomi_rater.archive import ArchiveView
from konomi_rater.memory import View
from konomi_rater.tastes import TasteRow

CHUNK = 2048
"""Images measured at a time: whoever scores an image waits for one chunk at most, not for a library."""
FEW = 4096
"""No more images than these are measured anew each time."""
KEPT = 4


class Novelties:
    """Mean cosine distances of a taste's own images to their nearest others, kept for the views asked for last."""

    def __init__(self, archive: Callable[[TasteRow, View], ArchiveView]) -> None:
        """Takes what returns the index of a taste's images as seen from a view."""
        self._archive = archive
        self._lock = threading.Lock()
        self._measuring: dict[tuple[str, str, int, int], threading.Lock] = {}
        self._kept: OrderedDict[tuple[str, str, int, int], np.ndarray] = OrderedDict()

    def of(self, taste: TasteRow, view: View, positions: np.ndarray) -> np.ndarray:
        """Returns the novelty of images at positions (Q,) of the view: (Q,) in 0..2."""
        if len(positions) <= FEW:
            return self._measured(taste, view, positions)
        key = (taste.uid, taste.embedder, view.generation, len(view))
        with self._lock:
            mine = self._measuring.setdefault(key, threading.Lock())
        with mine:  # pages asked for at once wait for one measurement
            with self._lock:
                whole = self._kept.get(key)
            if whole is None:
                whole = self._measured(taste, view, np.arange(len(view)))
                with self._lock:
                    self._kept[key] = whole
                    while len(self._kept) > KEPT:
                        self._measuring.pop(self._kept.popitem(last=False)[0], None)
        return np.asarray(whole[positions])

    def _measured(self, taste: TasteRow, view: View, positions: np.ndarray) -> np.ndarray:
        archive = self._archive(taste, view)
        parts = [positions[start : start + CHUNK] for start in range(0, len(positions), CHUNK)]
        return np.concatenate([np.zeros(0), *(archive.distance(view.embeddings[part], part) for part in parts)])
