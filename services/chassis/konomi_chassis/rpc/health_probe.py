"""Asks a service whether it serves, as an orchestrator's probe does; where it speaks TLS too, which theirs do not."""

from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from konomi.errors import InvalidArgument, Unavailable


def probe(address: str, ca: Path | None = None, name: str = "", seconds: float = 5.0) -> None:
    """Returns once a service says that it serves.

    Args:
        address: HOST:PORT.
        ca: PEM file of the authority that signed its certificate, or the certificate itself; None is without TLS.
        name: the name the certificate is for, where it is not the host of the address.
        seconds: how long it may take to answer.

    Raises:
        Unavailable: it says that it does not serve, or nothing answers.
        InvalidArgument: the file of the authority cannot be read.
    """
    with _channel(address, ca, name) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError as error:
            why = error.details() if isinstance(error, grpc.Call) else str(error)
            raise Unavailable(f"No konomi service answers at {address}: {why}", reason="UNREACHABLE") from None
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    if status != "SERVING":
        raise Unavailable(f"The service at {address} says {status}.", reason=status)


def _channel(address: str, ca: Path | None, name: str) -> grpc.Channel:
    if ca is None:
        return grpc.insecure_channel(address)
    try:
        credentials = grpc.ssl_channel_credentials(ca.read_bytes())
    except OSError as error:
        raise InvalidArgument(f"{ca} cannot be read: {error.strerror}", reason="FILE_UNREADABLE") from None
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", name)] if name else None)
