"""Who may use the page: a one-time ticket is changed into a cookie that JavaScript cannot read."""

import hashlib
import secrets
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from itsdangerous import BadSignature, TimestampSigner

from konomi.errors import FailedPrecondition, PermissionDenied, ResourceExhausted
from konomi.files import write_atomically
from konomi.home import Home
from konomi.host.extras import pip_line
from konomi.i18n.catalogue import text

COOKIE = "konomi"
SESSION_SECONDS = 90 * 24 * 3600
TICKET_SECONDS = 24 * 3600
FAILURES_PER_MINUTE = 10
CLOCK_STEP_SECONDS = 60
"""A signature from the future is still good if the clock may have been set back by that much."""


class Signer(TimestampSigner):
    """Signs random words for one purpose: unguessable without the key, and good for nothing else.

    Args:
        key: at least 32 random bytes.
        purpose: "ticket" or "session".
        now: the clock.
    """

    def __init__(self, key: bytes, purpose: str, now: Callable[[], float] = time.time) -> None:
        super().__init__(key, salt=f"konomi page {purpose}", key_derivation="hmac", digest_method=hashlib.sha256)
        self._now = now

    def get_timestamp(self) -> int:
        """Returns the seconds of the clock."""
        return int(self._now())

    def issue(self) -> str:
        """Returns fresh random words, signed."""
        return self.sign(secrets.token_hex(16)).decode()

    def verify(self, signed: str, seconds: float) -> str | None:
        """Returns the words of what `issue` gave no longer ago than `seconds`; None for anything else."""
        try:
            words, signed_at = self.unsign(signed, return_timestamp=True)
        except (BadSignature, UnicodeError):
            return None
        age = self._now() - signed_at.timestamp()
        return words.decode() if -CLOCK_STEP_SECONDS <= age <= seconds else None


def link(home: Home, view: str = "", now: Callable[[], float] = time.time) -> str:
    """Returns a link to the page that runs on a home, with a ticket that opens it once.

    The ticket stands behind "#": it is sent to no server and stands in no log.

    Raises:
        FailedPrecondition: no page runs on the home.
        Unavailable: nothing runs on the home.
    """
    address = home.running().get("page", "")
    path = key_file(home)
    if not address or not path.is_file():
        message = text("what runs on this home serves no page; run: {line}, then: konomi up", line=pip_line("web"))
        raise FailedPrecondition(message)
    ticket = Signer(bytes.fromhex(path.read_text()), "ticket", now).issue()
    return f"{address}/#ticket={ticket}" + (f"&view={view}" if view else "")


def key_file(home: Home) -> Path:
    """The key that signs tickets; another one at every start, so that a ticket never outlives its server."""
    return home.root / "run" / "page.key"


class SessionAuth:
    """Changes a ticket into a session's cookie, once, and recognises the cookies it gave."""

    def __init__(self, home: Home, now: Callable[[], float] = time.time) -> None:
        """Makes this start's ticket key, and the home's cookie secret where there is none yet."""
        self._now = now
        self._used: set[str] = set()
        self._failures: deque[float] = deque(maxlen=FAILURES_PER_MINUTE)
        ticket_key, secret_file = secrets.token_bytes(32), home.root / "tokens" / "page.secret"
        _write_secret(key_file(home), ticket_key)
        if not secret_file.is_file():
            _write_secret(secret_file, secrets.token_bytes(32))
        self._tickets = Signer(ticket_key, "ticket", now)
        self._sessions = Signer(bytes.fromhex(secret_file.read_text()), "session", now)

    def admit(self, ticket: str) -> str:
        """Returns the cookie for a ticket, which is used up by it.

        Raises:
            ResourceExhausted: too many wrong tickets came in the last minute.
            PermissionDenied: the ticket is wrong, too old, or used.
        """
        now = self._now()
        nonce = self._tickets.verify(ticket, TICKET_SECONDS)
        if nonce is None or nonce in self._used:
            if len(self._failures) == FAILURES_PER_MINUTE and now - self._failures[0] < 60:
                message = text("too many wrong tickets in the last minute; wait a minute")
                raise ResourceExhausted(message, retry_after=60.0)
            self._failures.append(now)
            raise PermissionDenied(text("this link was used already, or is too old; for a new one: konomi label"))
        self._used.add(nonce)
        return self._sessions.issue()

    def is_signed_in(self, cookie: str) -> bool:
        """Says whether a cookie is one of this home that is still good."""
        return self._sessions.verify(cookie, SESSION_SECONDS) is not None


def _write_secret(path: Path, secret: bytes) -> None:
    write_atomically(path, secret.hex().encode(), mode=0o600)
