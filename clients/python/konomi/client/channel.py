"""Opens channels: TLS, the token, retries and message size."""

import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from konomi.errors import InvalidArgument, NotFound
from konomi.i18n.catalogue import text
from konomi.v1 import artifact_pb2, generator_pb2, rater_pb2, trainer_pb2

MAX_MESSAGE_BYTES = 16 * 1024 * 1024 + 64 * 1024
"""16 MiB of payload and room for its envelope."""

READS = ("Get", "List", "Inspect", "Watch", "Score", "Suggest", "Select", "Search", "Explore", "Retrieve")
"""Verbs that change nothing."""

ATTEMPTS = 5
"""How often an idempotent call is tried while its server is unavailable."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two tries: the first pause, which doubles, and the longest."""

SAME_BYTES = ("PutArtifact", "AddImages")
"""Writes that a digest makes idempotent."""


@dataclass(frozen=True)
class Link:
    """An open channel, where it leads and what every call on it carries."""

    channel: grpc.Channel
    address: str
    metadata: tuple[tuple[str, str], ...]

    def close(self) -> None:
        """Closes the channel; calls under way are cancelled."""
        self.channel.close()


@dataclass(frozen=True)
class Tls:
    """Files of a TLS connection, PEM: the authority that signed the server, and a client certificate with its key."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def open_link(address: str, *, token: str | None = None, home: Path | None = None, tls: Tls | None = None) -> Link:
    """Opens a channel lazily: nothing is sent before the first call.

    Args:
        address: "HOST:PORT", or "https://HOST:PORT" for TLS.
        token: bearer token; KONOMI_TOKEN, then on loopback the owner's token of the home, where it is not given.
        home: home folder whose owner token is used.
        tls: certificates; giving them means TLS.

    Raises:
        InvalidArgument: the address or the token is malformed, or the token would travel unencrypted.
        NotFound: a certificate file does not exist.
    """
    target = address.removeprefix("https://").removesuffix("/")
    if not target.startswith("unix:"):
        _check_address(target)
    encrypted = tls is not None or address.startswith("https://")
    secret = find_token(token, home if is_loopback(target) else None)
    if secret and not encrypted and not is_loopback(target):
        raise InvalidArgument(
            text(
                "expected TLS for {target}, because a token must not travel in the clear: write https://{target}",
                target=target,
            ),
            reason="TOKEN_WITHOUT_TLS",
        )
    channel = grpc.secure_channel(target, _credentials(tls or Tls()), _options(target)) if encrypted else None
    metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
    return Link(channel or grpc.insecure_channel(target, _options(target)), target, metadata)


def find_token(token: str | None, home: Path | None) -> str | None:
    """Returns the given token, KONOMI_TOKEN, or the owner's token of the home; None where there is none."""
    path = home / "tokens" / "owner.token" if home else None
    secret = token or os.environ.get("KONOMI_TOKEN") or (path.read_text() if path and path.is_file() else "")
    secret = secret.strip()
    if secret and not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise InvalidArgument(text("expected a token of printable ASCII without spaces; copy it again from its file"))
    return secret or None


def is_loopback(target: str) -> bool:
    """Says whether a target stays on this machine."""
    host = target.rsplit(":", 1)[0].strip("[]")
    if target.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def service_config() -> str:
    """Returns the gRPC service config: UNAVAILABLE is retried, on idempotent methods of one request alone.

    grpc would replay a stream of requests too, but where the server dies at the wrong moment a request is lost on the
    way or the stream never ends; calls.py sends such a stream again itself.
    """
    names = [
        {"service": service.full_name, "method": method.name}
        for service in services()
        for method in service.methods
        if is_idempotent(method) and not method.client_streaming
    ]
    policy = {
        "maxAttempts": ATTEMPTS,
        "initialBackoff": f"{FIRST_PAUSE:g}s",
        "maxBackoff": f"{LONGEST_PAUSE:g}s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]})


def is_idempotent(method: MethodDescriptor) -> bool:
    """Says whether calling twice is as good as once: a read, a write keyed by digest, or one keyed by request_id."""
    return (
        method.name.startswith(READS) or method.name in SAME_BYTES or "request_id" in method.input_type.fields_by_name
    )


def services() -> Sequence[ServiceDescriptor]:
    """Returns the descriptors of konomi.v1."""
    files = (artifact_pb2, generator_pb2, rater_pb2, trainer_pb2)
    return [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]


def _options(target: str) -> list[tuple[str, str | int]]:
    return [
        # Pictures and tokens of this machine stay on it: gRPC would ask an `http_proxy` for 127.0.0.1 too.
        ("grpc.enable_http_proxy", 0 if is_loopback(target) else 1),
        ("grpc.service_config", service_config()),
        ("grpc.enable_retries", 1),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 5 * 60 * 1000),  # the server's own minimum: more often earns a GOAWAY
    ]


def _check_address(target: str) -> None:
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in host:
        raise InvalidArgument(text("expected HOST:PORT or https://HOST:PORT, got {got!r}", got=target), field="address")


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    if (tls.certificate is None) != (tls.key is None):
        raise InvalidArgument(text("expected a client certificate together with its key, got one of them"))
    return grpc.ssl_channel_credentials(_read(tls.ca), _read(tls.key), _read(tls.certificate))


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        message = text("expected a PEM file at {path}: {why}", path=path, why=error.strerror)
        raise NotFound(message, reason="CERTIFICATE_MISSING") from error
