"""Actors that are there while there is work: started with the first, ended some seconds after the last.

An actor that stays for ever holds its GPU and cores for ever, and whatever else runs on the cluster waits for them. The
cluster itself is left with the last actor: Ray ends the process of whoever is in it a minute after its head is lost.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar


class Joined(Protocol):
    """A place in a cluster."""

    def close(self) -> None:
        """Leaves it."""


Cluster = TypeVar("Cluster", bound=Joined)


class ActorPool(Generic[Cluster]):
    """Actors that several requests share; safe to use from many threads.

    Args:
        join: joins the cluster.
        start: starts an actor and returns its handle at once, before the actor is there.
        end: ends an actor by its handle.
        idle_seconds: without any request, after which all are ended.
    """

    def __init__(
        self,
        join: Callable[[], Cluster],
        start: Callable[[Cluster], Any],
        end: Callable[[Any], None],
        idle_seconds: float,
    ) -> None:
        self._join, self._start, self._end, self._idle_seconds = join, start, end, idle_seconds
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None
        self._handles: list[Any] = []
        self._users, self._uses = 0, 0
        self._timer: threading.Timer | None = None

    @contextmanager
    def at_work(self) -> Iterator[Cluster]:
        """Gives the cluster, joined now where it is not; it is not left, and no actor ends, meanwhile.

        Raises:
            FailedPrecondition: what joining raises.
        """
        with self._lock:
            cluster = self._cluster = self._cluster or self._join()
            self._users, self._uses = self._users + 1, self._uses + 1
        try:
            yield cluster
        finally:
            self._rest()

    def actors(self, count: int) -> list[Any]:
        """Returns the handles of so many actors, starting what lacks; call it at work."""
        with self._lock:
            while self._cluster is not None and len(self._handles) < count:
                self._handles.append(self._start(self._cluster))
            return self._handles[:count]

    def close(self) -> None:
        """Ends all actors, whatever they do, and leaves the cluster."""
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
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
