"""Actors that are there while there is work: started with the first, ended some seconds after the last.

An actor that stays for ever holds its GPU and cores for ever, and whatever else runs on the cluster waits for them.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class ActorPool:
    """Actors that several requests share; safe to use from many threads.

    Args:
        start: starts an actor and returns its handle at once, before the actor is there.
        end: ends an actor by its handle.
        idle_seconds: without any request, after which all are ended.
    """

    def __init__(self, start: Callable[[], Any], end: Callable[[Any], None], idle_seconds: float) -> None:
        self._start, self._end, self._idle_seconds = start, end, idle_seconds
        self._lock = threading.Lock()
        self._handles: list[Any] = []
        self._users, self._uses = 0, 0
        self._timer: threading.Timer | None = None

    @contextmanager
    def at_work(self, count: int) -> Iterator[list[Any]]:
        """Gives the handles of so many actors, starting what lacks; none ends meanwhile."""
        with self._lock:
            self._users, self._uses = self._users + 1, self._uses + 1
            try:
                while len(self._handles) < count:
                    self._handles.append(self._start())
            except BaseException:
                self._users -= 1
                raise
            given = self._handles[:count]
        try:
            yield given
        finally:
            self._rest()

    def close(self) -> None:
        """Ends all actors, whatever they do."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._end_all()

    def _rest(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(self._idle_seconds, self._end_idle, [self._uses])
            self._timer.daemon = True
            self._timer.start()

    def _end_idle(self, uses: int) -> None:
        """Ends the actors unless somebody has used them since."""
        with self._lock:
            if uses == self._uses and not self._users:
                self._end_all()

    def _end_all(self) -> None:
        while self._handles:
            self._end(self._handles.pop())
