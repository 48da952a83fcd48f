"""Who calls: bearer tokens and client certificates turned into principals, guesses slowed down."""

import hmac
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote

from konomi.errors import Internal, PermissionDenied, ResourceExhausted, Unauthenticated
from konomi_chassis.auth.tokens import (
    Scope,
    TokenRecord,
    ensure_owner_token,
    hash_token,
    issue_token,
    read_tokens,
    revoke_tokens,
    rotate_owner_token,
)

__all__ = [
    "Authenticator",
    "Principal",
    "Scope",
    "acting_for",
    "ensure_owner_token",
    "issue_token",
    "principal",
    "require_taste",
    "revoke_tokens",
    "rotate_owner_token",
]

WINDOW_SECONDS = 60.0
MAX_PEERS = 4096


@dataclass(frozen=True)
class Principal:
    """The caller: a name, a scope (None for anonymous) and the taste id it is bound to (None: not bound)."""

    name: str
    scope: Scope | None
    taste: str | None = None

    def may_touch(self, taste: str) -> bool:
        """Says whether this caller may act on a taste, given as its id or as "tastes/{id}"."""
        return self.scope == "owner" or (self.taste is not None and self.taste == taste.removeprefix("tastes/"))


ANONYMOUS = Principal("anonymous", None)
CURRENT: ContextVar[Principal | None] = ContextVar("konomi_principal", default=None)


def principal() -> Principal:
    """Returns who called the rpc being served on this thread."""
    current = CURRENT.get()
    if current is None:
        raise Internal("principal() was asked for outside an rpc.")
    return current


def require_taste(taste: str) -> None:
    """Raises PermissionDenied unless the caller may act on this taste; for resources whose name does not say it."""
    if not principal().may_touch(taste):
        raise PermissionDenied("Your token is not for this taste.", reason="TASTE_DENIED")


def acting_for() -> str | None:
    """Returns whose entries the caller may take back or replace: its own by name, None for the owner, who may all."""
    caller = principal()
    return None if caller.scope == "owner" else caller.name


class Authenticator:
    """Turns the credentials of a call into a principal; reads the token file again whenever it changes."""

    def __init__(self, home: Path, failures_per_minute: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        self._home, self._limit, self._clock = home, failures_per_minute, clock
        self._file = str(home / "tokens" / "tokens.json")  # looked at in every call: a Path makes this text each time
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._records: tuple[TokenRecord, ...] = ()
        self._failures: dict[str, deque[float]] = {}

    def authenticate(self, metadata: Mapping[str, str], peer: str, certificate_name: str | None = None) -> Principal:
        """Returns the caller; without any credentials, the anonymous one.

        Args:
            metadata: the call's metadata, keys in lower case.
            peer: the caller's address as gRPC writes it, for example "ipv4:127.0.0.1:4242".
            certificate_name: common name of the verified client certificate, "{name}" or "{name}@{taste}", if any.

        Raises:
            Unauthenticated: the token is malformed, unknown or expired.
            ResourceExhausted: too many refused tokens from this address within a minute.
        """
        if "authorization" not in metadata:
            if certificate_name is None:
                return ANONYMOUS
            name, _, taste = certificate_name.partition("@")
            return Principal(name, "service", taste or None)
        host = peer_host(peer)
        wait = self._locked_for(host)
        if wait and not _is_loopback(host):
            raise self._slow_down(wait)
        holder = self.holder(metadata)
        if holder is not None:
            return holder
        # On loopback every program shares one address: there a known token still passes, only guessing is slowed.
        if wait:
            raise self._slow_down(wait)
        self._remember_failure(host)
        raise Unauthenticated(
            "The token is not known here. The owner's token is in tokens/owner.token of the home folder.",
            reason="TOKEN_UNKNOWN",
        )

    def holder(self, metadata: Mapping[str, str]) -> Principal | None:
        """Returns who holds the token of a call; None where it carries none, or one that is not known.

        It slows no guess down and needs no address: it says beforehand how a call will go.

        Raises:
            FailedPrecondition: the token file is damaged.
        """
        kind, _, token = metadata.get("authorization", "").partition(" ")
        record = self._find(token.strip()) if kind.lower() == "bearer" else None
        return None if record is None else Principal(record.principal, record.scope, record.taste)

    def _find(self, token: str) -> TokenRecord | None:
        digest, match = hash_token(token), None
        for record in self._current():
            if hmac.compare_digest(record.sha256, digest):
                match = record
        if match is not None and match.expires is not None and match.expires <= time.time():
            return None
        return match

    def _current(self) -> tuple[TokenRecord, ...]:
        try:
            status = os.stat(self._file)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:
            return ()
        with self._lock:
            if stamp != self._stamp:
                self._records, self._stamp = read_tokens(self._home), stamp
            return self._records

    def _locked_for(self, host: str) -> float:
        now = self._clock()
        with self._lock:
            failures = self._failures.get(host)
            while failures and failures[0] <= now - WINDOW_SECONDS:
                failures.popleft()
            if not failures:
                self._failures.pop(host, None)
                return 0.0
            return failures[0] + WINDOW_SECONDS - now if len(failures) >= self._limit else 0.0

    def _remember_failure(self, host: str) -> None:
        with self._lock:
            if host not in self._failures and len(self._failures) >= MAX_PEERS:
                self._failures.pop(next(iter(self._failures)))
            self._failures.setdefault(host, deque()).append(self._clock())

    def _slow_down(self, wait: float) -> ResourceExhausted:
        return ResourceExhausted(
            f"More than {self._limit} refused tokens within a minute; wait before the next.",
            reason="AUTH_FAILURES",
            retry_after=wait,
        )


def peer_host(peer: str) -> str:
    """Returns the host of a gRPC peer: "ipv4:10.0.0.7:4242" is 10.0.0.7, "ipv6:%5B::1%5D:4242" is ::1."""
    text = unquote(peer).partition(":")[2]
    return text.rpartition(":")[0].strip("[]") or text


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
