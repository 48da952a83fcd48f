"""A process's place in a Ray cluster, and what its actors answer, lost ones among them."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import ray
from ray import exceptions

from konomi.errors import FailedPrecondition, KonomiError, Unavailable
from konomi_chassis.cluster.exposure import check_common_store, check_exposure
from konomi_chassis.cluster.head_watch import HEAD_LOOK_SECONDS, HEAD_SECONDS, HeadWatch
from konomi_chassis.cluster.joining import Joining, asked
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.cluster.signals import handlers_kept
from konomi_chassis.settings import StoreSettings

LOST = (exceptions.RayActorError, exceptions.NodeDiedError, exceptions.ObjectLostError, exceptions.WorkerCrashedError)
"""What Ray raises for an answer that will never come, because its actor or its machine is gone."""
T = TypeVar("T")
LOOK_SECONDS = 0.1
"""After which it is looked whether the head is lost, while it is asked something."""
LISTENS_SECONDS = 10.0
"""For which the head of a cluster may take to accept a connection."""
PATIENT_SECONDS = 7 * 24 * 3600
"""After which Ray would end a process that has lost the head: konomi leaves by itself, long before."""
_membership = threading.Lock()
"""Held by whoever joins or leaves: a process is in one cluster at a time."""
_joining = Joining()
"""What this process has tried; used by whoever holds that lock."""


class ClusterConnection:
    """A joined cluster, which is left by itself where its head stays away: Ray would end the whole process for it.

    Args:
        settings: where it is.
        store: where the artifacts are, which every machine must reach.
        environment: of this process, for what it says of Ray's tokens and TLS.
        head_seconds: for which the head may be away.

    Attributes:
        lost: whether the head stayed away; nothing is asked of this connection any more.

    Raises:
        FailedPrecondition: there is no cluster, anybody could use it, or its machines have no store in common.
        Unavailable: its head went away while it was joined (reason CLUSTER_AWAY).
    """

    def __init__(
        self,
        settings: ScaleSettings,
        store: StoreSettings,
        environment: Mapping[str, str] = os.environ,
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        self.lost, self._users, self._lock = False, 0, threading.Lock()
        self._watch: HeadWatch | None = None
        self._joined, self._head, self._had = _join(settings.address, head_seconds), "", dict[str, float]()
        if self._joined:
            self._head = str(ray.get_runtime_context().gcs_address)
            self._watch = HeadWatch(partial(_check_listens, self._head, HEAD_LOOK_SECONDS), self._lose, head_seconds)
        try:
            self._had = self._told(ray.cluster_resources) if self._joined else {}
            nodes = [node["NodeManagerAddress"] for node in self._told(ray.nodes) if node["Alive"]]
            check_exposure(nodes, environment)
            check_common_store(nodes, is_local=not store.url or store.url.startswith("file:"))
        except KonomiError:
            self.close()
            raise

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Stays in the cluster meanwhile, so that whoever waits for an actor can first be told of a lost head.

        Raises:
            Unavailable: it is lost already (reason CLUSTER_AWAY).
        """
        with self._lock:
            self._users += 1
        try:
            self.check_head()
            yield
        finally:
            with self._lock:
                self._users -= 1
                leaves = self.lost and not self._users
            if leaves:
                self.close()

    def check_head(self) -> None:
        """Returns while the head of the cluster is there, or was a moment ago.

        Raises:
            Unavailable: it stayed away (reason CLUSTER_AWAY).
        """
        if self.lost:
            raise head_away()

    def started(self, start: Callable[[], T]) -> T:
        """Starts an actor once the head is there, which is told its class first and may come back in time.

        Raises:
            Unavailable: the head stayed away (reason CLUSTER_AWAY).
        """
        self.check_head()
        while not self._is_there():
            time.sleep(LOOK_SECONDS)
            self.check_head()
        return self._told(start)

    def end(self, actor: Any) -> None:
        """Ends an actor; where the head is away it ends when its last handle goes, or with its machine."""
        with suppress(Unavailable):
            if self._is_there():
                self._told(partial(ray.kill, actor))

    def _is_there(self) -> bool:
        """Says whether the head listens at this moment.

        What it is asked when it does not, Ray asks again and again, for days; and where another head comes to the same
        address meanwhile, that ends the whole process.
        """
        try:
            _check_listens(self._head, HEAD_LOOK_SECONDS)
        except OSError:
            return False
        return True

    def _told(self, question: Callable[[], T]) -> T:
        """Returns what Ray answers to a question for the head, which may die before it answers.

        Raises:
            Unavailable: it stayed away (reason CLUSTER_AWAY).
        """
        told = asked(question)
        while True:
            try:
                return told.result(LOOK_SECONDS)
            except TimeoutError:
                self.check_head()

    def _lose(self) -> None:
        with self._lock:
            self.lost, idle = True, not self._users
        if idle:
            self.close()

    def gpus(self) -> int:
        """Returns how many GPUs the cluster has by now, or had while its head was there.

        Raises:
            Unavailable: the head stayed away (reason CLUSTER_AWAY).
        """
        return int(self._resources().get("GPU", 0))

    def cores(self) -> int:
        """Returns how many cores the cluster has by now, or had while its head was there; 1 at least.

        Raises:
            Unavailable: the head stayed away (reason CLUSTER_AWAY).
        """
        return max(1, int(self._resources().get("CPU", 1)))

    def _resources(self) -> Mapping[str, float]:
        self.check_head()
        if self._is_there():
            self._had = self._told(ray.cluster_resources)
        return self._had

    def close(self) -> None:
        """Leaves the cluster, where it was this connection that joined it."""
        with _membership:
            if self._watch is not None:
                self._watch.end()
            if self._joined:
                with handlers_kept():
                    ray.shutdown()
                self._joined = False


def rejoined(settings: ScaleSettings, store: StoreSettings, environment: Mapping[str, str]) -> ClusterConnection:
    """Joins a cluster again whose head was lost.

    Raises:
        Unavailable: it is not back yet (reason CLUSTER_AWAY).
        FailedPrecondition: anybody could use it now, or its machines have no store in common.
    """
    try:
        return ClusterConnection(settings, store, environment)
    except FailedPrecondition as error:
        if error.reason != "CLUSTER_MISSING":
            raise
        raise head_away() from error


def head_away() -> Unavailable:
    """Returns what is said to whoever waits for a cluster whose head is gone."""
    return Unavailable(
        "The head of the Ray cluster is away. Start it with `ray start --head`, and the other machines with `ray start "
        "--address=HOST:6379`; what was made is kept, and the same work goes on from there.",
        reason="CLUSTER_AWAY",
        retry_after=60.0,
    )


def answer(ref: Any, timeout: float | None = None) -> Any:
    """Waits for what an actor answers; None where the actor was lost.

    Raises:
        FailedPrecondition: the actor cannot even start (reason ACTOR_FAILED).
        GetTimeoutError: Ray's own, where no answer came within `timeout` seconds.
    """
    try:
        return ray.get(ref, timeout=timeout)
    except exceptions.ActorDiedError as error:
        if "creation task" in str(error):
            raise FailedPrecondition(
                "No actor could be started on the Ray cluster: the same version of konomi, with the same home, is "
                "needed on each of its machines. Ray's logs there say what was missing.",
                reason="ACTOR_FAILED",
            ) from error
        return None
    except LOST:
        return None


def _check_listens(address: str, seconds: float = LISTENS_SECONDS) -> None:
    """Returns where anybody listens at an address, which Ray itself would await without an end.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition(":")
    if host:
        host = host.strip("[]")
        own = (ray.util.get_node_ip_address(),) if host in ("localhost", "127.0.0.1", "::1") else ()  # as Ray reads it
        for place in (*own, host):
            try:
                socket.create_connection((place, int(port)), seconds).close()
                return
            except OSError as error:
                last = error
        raise last


def first_answered(refs: Sequence[Any], seconds: float) -> list[Any]:
    """Returns the answer that came first, or none where none comes within so many seconds."""
    return list(ray.wait(list(refs), num_returns=1, timeout=seconds)[0])


def _join(address: str, head_seconds: float) -> bool:
    """Joins a cluster; returns False where this process had joined one already.

    Raises:
        FailedPrecondition: there is none, and never was one (reason CLUSTER_MISSING).
        Unavailable: its head went away, now or before (reason CLUSTER_AWAY).
    """
    try:
        with _membership:
            if ray.is_initialized() and not _joining.under_way:
                return False
            _check_listens(address)
            os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(PATIENT_SECONDS))
            try:
                _joining.join(
                    partial(_init, address), partial(_check_listens, address, HEAD_LOOK_SECONDS), head_seconds
                )
            except TimeoutError as error:
                _joining.seen.add(address)
                raise head_away() from error
            _joining.seen.add(address)
    except (OSError, RuntimeError, ValueError) as error:
        if address in _joining.seen:
            raise head_away() from error
        raise FailedPrecondition(
            f'There is no Ray cluster at "{address}". Start one with `ray start --head` on one machine and '
            "`ray start --address=HOST:6379` on the others, or set [scale] address.",
            reason="CLUSTER_MISSING",
        ) from error
    return True


def _init(address: str) -> None:
    with handlers_kept():
        ray.init(address=address, namespace="konomi", log_to_driver=False, configure_logging=False)
