"""Time limits of calls that nobody else ends: one thread that ends what has run too long."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

import structlog


class DeadlineWatch:
    """Calls a function once its time has come, unless it was cancelled before."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._actions: dict[int, Callable[[], object]] = {}  # what was cancelled keeps nothing of its call alive
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
        self._thread.start()

    def after(self, seconds: float, action: Callable[[], object]) -> Callable[[], None]:
        """Schedules an action; returns the function that cancels it."""
        number, due = next(self._ids), time.monotonic() + seconds
        with self._changed:
            self._actions[number] = action
            soonest = not self._heap or due < self._heap[0][0]
            heapq.heappush(self._heap, (due, number))
            if soonest:
                self._changed.notify()

        def cancel() -> None:
            self._actions.pop(number, None)

        return cancel

    def close(self) -> None:
        """Ends the thread; what is still scheduled never happens."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._heap and self._heap[0][1] not in self._actions:
                    heapq.heappop(self._heap)
                if self._closed:
                    return
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                action = self._actions.pop(heapq.heappop(self._heap)[1], None)
            if action is None:
                continue
            try:
                action()
            except Exception as error:  # noqa: BLE001  one call's end must not leave the others without theirs
                structlog.get_logger("konomi.deadlines").error("deadline action failed", error=type(error).__name__)
