"""The records of nights in PostgreSQL, beside the files of each host: what another host needs to go on with a night.

The files of a home stay what is read and written; whoever runs a night holds one lock in the database and copies each
record there before it is believed. All is written through the very session that holds the lock: a host whose lock
another one took can write nothing more. The workflow of dbos lies in the same database, so no finished step is done
again elsewhere.
"""

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from konomi import errors
from konomi.i18n.catalogue import text, translatable
from konomi.night.records.journal import NAME as JOURNAL
from konomi.settings import DatabaseSettings

if TYPE_CHECKING:
    import psycopg

Outcome = TypeVar("Outcome")

WORKFLOWS = "konomi_nights_dbos"
"""The schema in which dbos keeps the steps."""
LOCK = "konomi_nights"
TABLES = (
    "CREATE SCHEMA IF NOT EXISTS konomi_nights",
    "CREATE TABLE IF NOT EXISTS konomi_nights.holder "
    "(one INT PRIMARY KEY CHECK (one = 1), host TEXT NOT NULL, mark TEXT NOT NULL)",
    "INSERT INTO konomi_nights.holder VALUES (1, '', '') ON CONFLICT DO NOTHING",
    "CREATE TABLE IF NOT EXISTS konomi_nights.records "
    "(night TEXT, name TEXT, content BYTEA NOT NULL, PRIMARY KEY (night, name))",
    "CREATE TABLE IF NOT EXISTS konomi_nights.steps "
    "(night TEXT, number BIGINT, line BYTEA NOT NULL, PRIMARY KEY (night, number))",
)
DIGESTS = (
    "SELECT night, name, encode(sha256(content), 'hex') FROM konomi_nights.records UNION ALL SELECT night, %s,"
    " encode(sha256(string_agg(line, ''::bytea ORDER BY number)), 'hex') FROM konomi_nights.steps GROUP BY night"
)
SESSION = "-c lock_timeout=5s -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=3 -c tcp_keepalives_count=3"
"""A host that died gives its lock up within fifteen seconds, as with what the services hold."""
HOST_SECONDS = 20.0
"""How long whoever wants to run a night waits for another host's lock: longer than a dead host keeps it."""
AGAIN_SECONDS = 30.0
"""How long a session that broke, as when the server is restarted, is tried again before the night is interrupted."""
LOOK_SECONDS = 0.2
ON_THIS_MACHINE = (None, "", "localhost", "127.0.0.1", "::1")


def address_of(home: Path) -> str:
    """Returns the URL of the database that keeps the nights of a home, encrypted off this machine; "" for none.

    Raises:
        FailedPrecondition: it is no URL of PostgreSQL, or the driver is not installed.
    """
    url = DatabaseSettings(home=home).url.get_secret_value()
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        host, query = parts.hostname, parse_qs(parts.query)
    except ValueError:
        parts, host, query = urlsplit(""), None, {}
    if parts.scheme not in ("postgresql", "postgres", "postgresql+psycopg") or len(parts.path) < 2:
        why = text("[database] url names no PostgreSQL database; expected postgresql://USER@HOST:5432/DATABASE")
        raise errors.FailedPrecondition(why, reason="DATABASE_URL_INVALID")
    if find_spec("psycopg") is None:
        why = text("[database] url names PostgreSQL, whose driver is not installed: pip install 'konomi[postgres]'")
        raise errors.FailedPrecondition(why, reason="MISSING_EXTRA")
    if host not in ON_THIS_MACHINE and "sslmode" not in query:
        url += ("&" if parts.query else "?") + "sslmode=require"
    return f"postgresql://{url.partition('://')[2]}"


class SharedRecords:
    """The records in the database, for the one process that holds its lock.

    Attributes:
        url: of the database.
    """

    def __init__(self, url: str) -> None:
        self.url, self._session = url, _connected(url)
        self._turn = threading.Lock()  # transactions of two threads must not nest
        self._mark = uuid.uuid4().hex

    def take(self, say: Callable[[str], None], seconds: float) -> None:
        """Takes the lock, waiting for another host so many seconds; what `held` says of errors is true here."""
        deadline, told = time.monotonic() + seconds, False
        while not _got(self._session):
            host, _ = _holder(self._session)
            if time.monotonic() >= deadline:
                raise _running(host)
            if not told:
                told = True
                say(text("waiting for the host {host}, which holds the nights of this database…", host=host))
            time.sleep(LOOK_SECONDS)
        for statement in TABLES:
            self._session.execute(statement)  # type: ignore[arg-type]
        self._session.execute("UPDATE konomi_nights.holder SET host = %s, mark = %s", (_host(), self._mark))

    def close(self) -> None:
        """Gives the lock back."""
        self._session.close()

    def digests(self) -> dict[str, dict[str, str]]:
        """Returns the sha256 of each file of every night another host would know of, its journal's under its name."""
        found: dict[str, dict[str, str]] = {}
        for night, name, digest in self._run(DIGESTS, JOURNAL):
            found.setdefault(str(night), {})[str(name)] = str(digest)
        return {night: files for night, files in found.items() if "request.json" in files}

    def records(self, night: str) -> dict[str, bytes]:
        """Returns the files of a night by name."""
        rows = self._run("SELECT name, content FROM konomi_nights.records WHERE night = %s", night)
        return {str(name): bytes(content) for name, content in rows}

    def steps(self, night: str) -> list[bytes]:
        """Returns the lines of a night's journal, in order."""
        rows = self._run("SELECT line FROM konomi_nights.steps WHERE night = %s ORDER BY number", night)
        return [bytes(line) for (line,) in rows]

    def keep(self, night: str, files: Mapping[str, bytes]) -> None:
        """Keeps files of a night, all of them or none; committed when this returns."""

        def write(session: "psycopg.Connection[Any]") -> None:
            with session.transaction():
                for name, content in files.items():
                    session.execute(
                        "INSERT INTO konomi_nights.records VALUES (%s, %s, %s)"
                        " ON CONFLICT (night, name) DO UPDATE SET content = excluded.content",
                        (night, name, content),
                    )

        self._do(write)

    def keep_steps(self, night: str, first: int, lines: Sequence[bytes]) -> None:
        """Keeps lines of a night's journal from a number on, whatever stood there; committed when this returns."""

        def write(session: "psycopg.Connection[Any]") -> None:
            with session.transaction():
                session.execute("DELETE FROM konomi_nights.steps WHERE night = %s AND number >= %s", (night, first))
                for number, line in enumerate(lines, start=first):
                    session.execute("INSERT INTO konomi_nights.steps VALUES (%s, %s, %s)", (night, number, line))

        self._do(write)

    def _run(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._do(lambda session: session.execute(query, values).fetchall())  # type: ignore[arg-type]

    def _do(self, work: Callable[["psycopg.Connection[Any]"], Outcome]) -> Outcome:
        """Does some work, once more where the session broke and nobody took the lock meanwhile.

        Raises:
            FailedPrecondition: another host took over (reason NIGHT_RUNNING).
            Unavailable: the database stays away.
        """
        import psycopg

        with self._turn:
            try:
                return work(self._session)
            except psycopg.OperationalError as error:
                self._take_again(error)
            try:
                return work(self._session)
            except psycopg.OperationalError as error:
                raise away(error) from error

    def _take_again(self, lost: Exception) -> None:
        import psycopg

        deadline = time.monotonic() + AGAIN_SECONDS
        self._session.close()
        while time.monotonic() < deadline:
            try:
                session = _connected(self.url)
                host, mark = _holder(session)
                if mark != self._mark:
                    session.close()
                    raise _running(host)
                if _got(session):
                    self._session = session
                    return
                session.close()
            except (psycopg.OperationalError, errors.Unavailable) as error:
                lost = error
            time.sleep(LOOK_SECONDS)
        raise away(lost) from lost


def away(error: Exception) -> errors.Unavailable:
    """Returns the error of a database that does not answer."""
    why = " ".join(str(error).split())
    message = translatable(
        "the night's records in PostgreSQL cannot be reached: {why}; the same command goes on", why=why
    )
    return errors.Unavailable(message, reason="DATABASE_UNREACHABLE", retry_after=5.0)


@contextmanager
def held(url: str, say: Callable[[str], None], seconds: float = HOST_SECONDS) -> Iterator[SharedRecords]:
    """Holds the database's nights for this process; the server frees them when it dies, and soon after its host died.

    Args:
        url: of the database.
        say: is told once where it has to wait for another host.
        seconds: how long it waits.

    Raises:
        FailedPrecondition: another host runs a night (reason NIGHT_RUNNING).
        Unavailable: the database cannot be reached.
    """
    import psycopg

    records = SharedRecords(url)
    try:
        try:
            records.take(say, seconds)
        except psycopg.Error as error:
            raise away(error) from error
        yield records
    finally:
        records.close()


def _connected(url: str) -> "psycopg.Connection[Any]":
    import psycopg

    try:
        return psycopg.connect(
            url, autocommit=True, connect_timeout=10, options=SESSION, application_name="konomi_nights"
        )
    except psycopg.OperationalError as error:
        raise away(error) from error


def _running(host: str) -> errors.FailedPrecondition:
    message = translatable(
        "Another host, {host}, runs a night on this database; `konomi night status` there shows it. "
        "Where that host died, its lock goes within half a minute: try again.",
        host=host,
    )
    return errors.FailedPrecondition(message, reason="NIGHT_RUNNING")


def _host() -> str:
    return socket.gethostname()


def _got(session: "psycopg.Connection[Any]") -> bool:
    row = session.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (LOCK,)).fetchone()
    return bool(row and row[0])


def _holder(session: "psycopg.Connection[Any]") -> tuple[str, str]:
    """Returns name and mark of whoever took the lock last."""
    there = session.execute("SELECT to_regclass('konomi_nights.holder')").fetchone()
    row = session.execute("SELECT host, mark FROM konomi_nights.holder").fetchone() if there and there[0] else None
    return (str(row[0]), str(row[1])) if row and row[0] else ("?", "")
