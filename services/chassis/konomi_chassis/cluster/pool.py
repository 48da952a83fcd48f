"""Actors that are there while there is work: started with the first, ended some seconds after the last.

An actor that stays for ever holds its GPU and cores for ever, and whatever else runs on the cluster waits for them. The
cluster itself is left with the last actor, and joined anew where its head was lost.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Generic, Protocol, TypeVar


class Joined(Protocol):
    """A place in a cluster; see `ClusterConnection`."""

    lost: bool

    def in_use(self) -> AbstractContextManager[None]:
        """Stays in it meanwhile."""

    def end(self, actor: Any) -> None:
        """Ends an actor."""

    def close(self) -> None:
        """Leaves it."""


Cluster = TypeVar("Cluster", bound=Joined)


class ActorPool(Generic[Cluster]):
    """Actors that several requests share; safe to use from many threads.

    Args:
        join: joins the cluster.
        start: starts an actor and returns its handle at once, before the actor is there.
        idle_seconds: without any request, after which all are ended.
    """

    def __init__(
        self,
        join: Callable[[], Cluster],
        start: Callable[[Cluster], Any],
        idle_seconds: float,
    ) -> None:
        self._join, self._start, self._idle_seconds = join, start, idle_seconds
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
            Unavailable: its head was lost a moment ago (reason CLUSTER_AWAY).
        """
        with self._lock:
            if self._cluster is not None and self._cluster.lost and not self._users:
                self._end_all()
            cluster = self._cluster = self._cluster or self._join()
            self._users, self._uses = self._users + 1, self._uses + 1
        try:
            with cluster.in_use():
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
        if self._cluster is None:
            return
        while self._handles:
            self._cluster.end(self._handles.pop())
        self._cluster.close()
        self._cluster = None
