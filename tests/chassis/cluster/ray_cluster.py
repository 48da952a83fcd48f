"""A real Ray cluster of several nodes on this machine, for tests of what runs on one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

ADDRESS = "127.0.0.2"
"""Of this machine alone; Ray itself takes 127.0.0.1 for the address on the network."""


@dataclass
class RayPlace:
    """A head without cores, and nodes that come and go."""

    cluster: Any
    nodes: list[Any] = field(default_factory=list)

    def add(self, **more: int) -> None:
        """Adds a node, of one core where nothing else is said."""
        self.nodes.append(self.cluster.add_node(**{"num_cpus": 1, **more}, node_ip_address=ADDRESS, wait=True))

    def kill(self) -> None:
        """Kills the oldest node."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)

    def kill_elsewhere(self) -> None:
        """Kills a node, not the one this process is connected to, as it would be lost with its own machine."""
        import ray

        own = ray._private.worker.global_worker.node
        node = next(one for one in self.nodes if own is None or one._raylet_socket_name != own._raylet_socket_name)
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


@contextmanager
def ray_place(nodes: int, **more: int) -> Iterator[RayPlace]:
    """Starts a cluster that soon notices a silent node, its head with more settings where any are said; ends it."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 2000, "health_check_failure_threshold": 5}
    head = {"num_cpus": 0, "_system_config": quick, "node_ip_address": ADDRESS, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "object_store_memory": 100 << 20, **more})
    try:
        place = RayPlace(cluster)
        for _ in range(nodes):
            place.add()
        yield place
    finally:
        cluster.shutdown()
