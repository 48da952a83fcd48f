"""Which PostgreSQL server konomi trusts: one that has made a commit durable when it says so."""

from importlib.util import find_spec
from typing import Any

import sqlalchemy
from pydantic import SecretStr

from konomi.errors import FailedPrecondition

OLDEST = 140_000
"""`server_version_num` of PostgreSQL 14, the oldest its makers still mend."""
NEEDED = {
    "fsync": ("on",),
    "full_page_writes": ("on",),
    "synchronous_commit": ("on", "remote_apply"),
}
"""Settings without which an acknowledged label can be lost, and what they may be."""
SESSION = {
    "lock_timeout": "5s",  # as long as SQLite waits for another writer
    "tcp_keepalives_idle": "5",  # a host that died gives its locks up within fifteen seconds
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
}


def address(url: SecretStr) -> sqlalchemy.URL:
    """Returns where a server is, for the one driver konomi uses.

    Off this machine the connection is encrypted unless the URL says otherwise by `sslmode`.

    Raises:
        FailedPrecondition: it is no URL of a PostgreSQL database, or the driver is not installed.
    """
    wanted = "postgresql://USER@HOST:5432/DATABASE"
    try:
        read = sqlalchemy.make_url(url.get_secret_value())
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise FailedPrecondition(
            f"expected [database] url like {wanted}, but it cannot be read; it is not shown here, as it may hold a "
            "password",
            reason="DATABASE_URL_INVALID",
        ) from None
    if read.drivername not in ("postgresql", "postgres", "postgresql+psycopg") or not read.database:
        raise FailedPrecondition(
            f"expected [database] url like {wanted}, found one of {read.drivername!r} "
            f"{'with' if read.database else 'without'} a database; leave it empty for SQLite in the home",
            reason="DATABASE_URL_INVALID",
        )
    if find_spec("psycopg") is None:
        raise FailedPrecondition(
            "[database] url names PostgreSQL, whose driver is not installed: pip install 'konomi[postgres]'",
            reason="MISSING_EXTRA",
        )
    if not _on_this_machine(read) and "sslmode" not in read.query:
        read = read.update_query_dict({"sslmode": "require"})
    return read.set(drivername="postgresql+psycopg")


def named(url: sqlalchemy.URL) -> str:
    """Returns a database in words, without user and password."""
    host = url.host or str(url.query.get("host", "")) or "this machine"
    return f"the PostgreSQL database {url.database} at {host}{f':{url.port}' if url.port else ''}"


def check(connection: Any, name: str) -> None:
    """Refuses a server that may lose what it acknowledged, or would change texts.

    Args:
        connection: of psycopg, with no transaction begun.
        name: the database in words.

    Raises:
        FailedPrecondition: a setting, the version or the encoding is not what konomi needs.
    """
    asked = [*NEEDED, "server_encoding", "server_version_num"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", (asked,))
        found = dict(cursor.fetchall())
    connection.rollback()
    weak = [setting for setting, allowed in NEEDED.items() if found.get(setting) not in allowed]
    if weak:
        now = ", ".join(f"{setting} = {found.get(setting)}" for setting in weak)
        raise FailedPrecondition(
            f"{name} runs with {now}: it could lose labels it has acknowledged. Set "
            f"{', '.join(f'{setting} = on' for setting in weak)} in postgresql.conf, reload the server, then start "
            "konomi again.",
            reason="DATABASE_UNSAFE",
        )
    if int(found["server_version_num"]) < OLDEST:
        raise FailedPrecondition(
            f"{name} is PostgreSQL {int(found['server_version_num']) // 10_000}; konomi needs 14 or newer.",
            reason="DATABASE_TOO_OLD",
        )
    if found["server_encoding"] != "UTF8":
        raise FailedPrecondition(
            f"{name} keeps its texts as {found['server_encoding']}; make a database with the encoding UTF8.",
            reason="DATABASE_ENCODING",
        )


def _on_this_machine(url: sqlalchemy.URL) -> bool:
    return url.host in (None, "", "localhost", "127.0.0.1", "::1") or str(url.host).startswith("/")
