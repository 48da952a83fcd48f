"""A process's place in a Ray cluster, and what its actors answer, lost ones among them."""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import exceptions

from konomi.errors import FailedPrecondition, KonomiError
from konomi_chassis.cluster.exposure import check_common_store, check_exposure
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.settings import StoreSettings

LOST = (exceptions.RayActorError, exceptions.NodeDiedError, exceptions.ObjectLostError, exceptions.WorkerCrashedError)
"""What Ray raises for an answer that will never come, because its actor or its machine is gone."""
LISTENS_SECONDS = 10.0
"""For which the head of a cluster may take to accept a connection."""


class ClusterConnection:
    """A joined cluster.

    Args:
        settings: where it is.
        store: where the artifacts are, which every machine must reach.
        environment: of this process, for what it says of Ray's tokens and TLS.

    Raises:
        FailedPrecondition: there is no cluster, anybody could use it, or its machines have no store in common.
    """

    def __init__(
        self, settings: ScaleSettings, store: StoreSettings, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._joined = _join(settings.address)
        try:
            nodes = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
            check_exposure(nodes, environment)
            check_common_store(nodes, is_local=not store.url or store.url.startswith("file:"))
        except KonomiError:
            self.close()
            raise

    def gpus(self) -> int:
        """Returns how many GPUs the cluster has by now."""
        return int(ray.cluster_resources().get("GPU", 0))

    def cores(self) -> int:
        """Returns how many cores the cluster has by now, 1 at least."""
        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def close(self) -> None:
        """Leaves the cluster, where it was this connection that joined it."""
        if self._joined:
            ray.shutdown()
            self._joined = False


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


def _check_listens(address: str) -> None:
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
                socket.create_connection((place, int(port)), LISTENS_SECONDS).close()
                return
            except OSError as error:
                last = error
        raise last


def first_answered(refs: Sequence[Any], seconds: float) -> list[Any]:
    """Returns the answer that came first, or none where none comes within so many seconds."""
    return list(ray.wait(list(refs), num_returns=1, timeout=seconds)[0])


def _join(address: str) -> bool:
    """Joins a cluster; returns False where this process had joined one already."""
    if ray.is_initialized():
        return False
    try:
        _check_listens(address)
        ray.init(address=address, namespace="konomi", log_to_driver=False, configure_logging=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise FailedPrecondition(
            f'There is no Ray cluster at "{address}". Start one with `ray start --head` on one machine and '
            "`ray start --address=HOST:6379` on the others, or set [scale] address.",
            reason="CLUSTER_MISSING",
        ) from error
    return True
