"""Whether a Ray cluster is one that nobody else can use: Ray runs whatever it is sent by whoever reaches its ports."""

import ipaddress
from collections.abc import Iterable, Mapping

from konomi.errors import FailedPrecondition


def check_exposure(nodes: Iterable[str], environment: Mapping[str, str]) -> None:
    """Returns where every machine of a cluster is this one, or Ray's tokens and TLS are on.

    Args:
        nodes: addresses of the cluster's machines, as Ray knows them.
        environment: of this process, which Ray reads.

    Raises:
        FailedPrecondition: a cluster that leaves this machine without tokens or TLS (reason CLUSTER_OPEN).
    """
    if all(_is_loopback(node) for node in nodes):
        return
    missing = [line for line in ("RAY_AUTH_MODE=token", "RAY_USE_TLS=1") if not _is_set(line, environment)]
    if missing:
        raise FailedPrecondition(
            f"The Ray cluster is on a network, where whoever reaches its ports could run programs on it. Set "
            f"{' and '.join(missing)} on every machine and here, as Ray's manual on security says, then start again.",
            reason="CLUSTER_OPEN",
        )


def check_common_store(nodes: Iterable[str], *, is_local: bool) -> None:
    """Returns where all machines of a cluster can reach the same artifacts.

    Raises:
        FailedPrecondition: several machines and a store in a folder of one (reason STORE_NOT_SHARED).
    """
    if is_local and len(set(nodes)) > 1:
        raise FailedPrecondition(
            "The Ray cluster has several machines, and the artifacts lie in a folder of this one, which the others do "
            'not have. Put them into a bucket: [store] url = "s3://bucket/folder".',
            reason="STORE_NOT_SHARED",
        )


def _is_set(line: str, environment: Mapping[str, str]) -> bool:
    name, _, value = line.partition("=")
    return environment.get(name, "").lower() in (value, "true" if value == "1" else value)


def _is_loopback(node: str) -> bool:
    try:
        return ipaddress.ip_address(node.strip("[]")).is_loopback
    except ValueError:
        return node == "localhost"
