"""Notices that the step under way makes no progress: a service that lives and hangs is as bad as a dead one."""

import threading
import time
from collections.abc import Callable


class Watchdog:
    """The time of the last progress; `beat` and `overdue` may be called from different threads.

    Args:
        limit: seconds without progress that are too long; 0 means for ever.
        clock: monotonic seconds.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._last = clock()

    def beat(self) -> None:
        """Notes progress."""
        with self._lock:
            self._last = self._clock()

    def overdue(self) -> bool:
        """Says whether the last progress is too long ago."""
        with self._lock:
            return bool(self._limit) and self._clock() - self._last > self._limit
