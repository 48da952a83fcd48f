"""Who may use the page: a one-time ticket is changed into a cookie that JavaScript cannot read."""

import hashlib
import hmac
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from konomi.errors import FailedPrecondition, PermissionDenied, ResourceExhausted
from konomi.files import write_atomically
from konomi.home import Home
from konomi.host.extras import pip_line

COOKIE = "konomi"
SESSION_SECONDS = 90 * 24 * 3600
TICKET_SECONDS = 24 * 3600
FAILURES_PER_MINUTE = 10
_SIGNED = re.compile(r"([0-9]{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})")


def sign(key: bytes, purpose: str, now: float) -> str:
    """Returns "TIME.NONCE.MAC": unguessable without the key, and good for one purpose."""
    words = f"{int(now)}.{secrets.token_hex(16)}"
    return f"{words}.{_mac(key, purpose, words)}"


def verify(key: bytes, purpose: str, signed: str, now: float, seconds: float) -> str | None:
    """Returns the nonce of what `sign` made for the purpose no longer ago than `seconds`; None for anything else."""
    found = _SIGNED.fullmatch(signed)
    if found is None or not hmac.compare_digest(_mac(key, purpose, f"{found[1]}.{found[2]}"), found[3]):
        return None
    return found[2] if -60 <= now - int(found[1]) <= seconds else None


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
        raise FailedPrecondition(f"what runs on this home serves no page: {pip_line('web')}, then `konomi up`")
    ticket = sign(bytes.fromhex(path.read_text()), "ticket", now())
    return f"{address}/#ticket={ticket}" + (f"&view={view}" if view else "")


def key_file(home: Home) -> Path:
    """The key that signs tickets; another one at every start, so that a ticket never outlives its server."""
    return home.root / "run" / "page.key"


class Doorkeeper:
    """Admits tickets once and knows the cookies it gave."""

    def __init__(self, home: Home, now: Callable[[], float] = time.time) -> None:
        """Makes this start's ticket key, and the home's cookie secret where there is none yet."""
        self._now = now
        self._used: set[str] = set()
        self._failures: deque[float] = deque(maxlen=FAILURES_PER_MINUTE)
        self._ticket_key = secrets.token_bytes(32)
        _write_secret(key_file(home), self._ticket_key)
        self._secret_file = home.root / "tokens" / "page.secret"
        if not self._secret_file.is_file():
            _write_secret(self._secret_file, secrets.token_bytes(32))
        self._secret = bytes.fromhex(self._secret_file.read_text())

    def admit(self, ticket: str) -> str:
        """Returns the cookie for a ticket, which is used up by it.

        Raises:
            ResourceExhausted: too many wrong tickets came in the last minute.
            PermissionDenied: the ticket is wrong, too old, or used.
        """
        now = self._now()
        nonce = verify(self._ticket_key, "ticket", ticket, now, TICKET_SECONDS)
        if nonce is None or nonce in self._used:
            if len(self._failures) == FAILURES_PER_MINUTE and now - self._failures[0] < 60:
                raise ResourceExhausted("too many wrong tickets in the last minute; wait a minute", retry_after=60.0)
            self._failures.append(now)
            raise PermissionDenied("this link was used already, or is too old; `konomi label` gives a new one")
        self._used.add(nonce)
        return sign(self._secret, "session", now)

    def knows(self, cookie: str) -> bool:
        """Says whether a cookie is one of this home that is still good."""
        return verify(self._secret, "session", cookie, self._now(), SESSION_SECONDS) is not None


def _mac(key: bytes, purpose: str, words: str) -> str:
    return hmac.new(key, f"konomi page {purpose} {words}".encode(), hashlib.sha256).hexdigest()


def _write_secret(path: Path, secret: bytes) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(path, secret.hex().encode())
    finally:
        os.umask(before)
    path.chmod(0o600)
