"""Who may use the page: a ticket is changed once into a cookie JavaScript cannot read; programs bring a token."""

import asyncio
import hashlib
import secrets
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

from cachetools import TTLCache
from itsdangerous import BadSignature, TimestampSigner

from konomi.errors import FailedPrecondition, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated
from konomi.files import write_atomically
from konomi.home import Home
from konomi.host.extras import pip_line
from konomi.i18n.catalogue import text

COOKIE = "konomi"
SESSION_SECONDS = 90 * 24 * 3600
TICKET_SECONDS = 24 * 3600
FAILURES_PER_MINUTE = 10
KNOWN_SECONDS, UNKNOWN_SECONDS = 60.0, 10.0
"""How long the page remembers of a program's token that the rater knows it, or does not."""
TOKENS_KEPT = 256
ASKED_AT_ONCE = 16
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


class BearerCheck:
    """Says whether a token that a program brings is known to the rater, so that only then its request is read.

    What the token may do is the business of the role that answers; this only keeps strangers' bytes out. An answer is
    kept for a while: a token revoked meanwhile is still refused by the role.

    Args:
        ask: calls the rater with an Authorization header; raises KonomiError.
        now: the clock.
    """

    def __init__(self, ask: Callable[[str], object], now: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._known: TTLCache[bytes, bool] = TTLCache(TOKENS_KEPT, KNOWN_SECONDS, timer=now)
        self._unknown: TTLCache[bytes, bool] = TTLCache(TOKENS_KEPT, UNKNOWN_SECONDS, timer=now)
        self._workers = ThreadPoolExecutor(2, "page-tokens")
        self._asking = 0

    async def knows(self, authorization: str) -> bool:
        """Says whether the token of an Authorization header is known.

        Raises:
            ResourceExhausted: too many unknown tokens came within a minute, or too many are being looked up.
            Unavailable: there is nobody to ask.
        """
        digest = hashlib.sha256(authorization.encode()).digest()
        if digest in self._known:
            return True
        if digest in self._unknown:
            return False
        if self._asking >= ASKED_AT_ONCE:
            raise ResourceExhausted(text("too many requests at once; try again in a moment"), retry_after=1.0)
        self._asking += 1
        try:
            loop = asyncio.get_running_loop()
            known = await loop.run_in_executor(self._workers, copy_context().run, self._look_up, authorization)
        finally:
            self._asking -= 1
        (self._known if known else self._unknown)[digest] = True
        return known

    def close(self) -> None:
        """Lets go of the workers."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, authorization: str) -> bool:
        try:
            self._ask(authorization)
        except Unauthenticated:
            return False
        except (PermissionDenied, NotFound):
            return True  # whoever may not see a taste, or asks for one that is not there, was let in
        return True


def _write_secret(path: Path, secret: bytes) -> None:
    write_atomically(path, secret.hex().encode(), mode=0o600)
