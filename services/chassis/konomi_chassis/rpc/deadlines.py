"""A server-side deadline for calls whose client set none: one thread that ends what has run too long."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

import structlog


class DeadlineWatch:
    """Calls a function once its time has come, unless it was cancelled before."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._live: set[int] = set()
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
        self._thread.start()

    def after(self, seconds: float, action: Callable[[], object]) -> Callable[[], None]:
        """Schedules an action; returns the function that cancels it."""
        number = next(self._ids)
        with self._changed:
            self._live.add(number)
            heapq.heappush(self._heap, (time.monotonic() + seconds, number, action))
            self._changed.notify()
        return lambda: self._live.discard(number)

    def close(self) -> None:
        """Ends the thread; what is still scheduled never happens."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._heap and self._heap[0][1] not in self._live:
                    heapq.heappop(self._heap)
                if self._closed:
                    return
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                _, number, action = heapq.heappop(self._heap)
                self._live.discard(number)
            try:
                action()
            except Exception as error:  # noqa: BLE001  one call's end must not leave the others without theirs
                structlog.get_logger("konomi.deadlines").error("deadline action failed", error=type(error).__name__)
