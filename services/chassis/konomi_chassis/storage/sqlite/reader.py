"""A SQLite database of konomi opened beside the process that writes it, on the same disk: read, and never written.

A reader in WAL mode waits for nobody and keeps nobody waiting. It cannot bring the log into the database, so what a
killed writer left there stays as it is for that writer's next start, which reads it first (`write_ahead_log`).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy
from pysqlite3 import dbapi2
from sqlalchemy import event

from konomi.errors import KonomiError, Unavailable
from konomi_chassis.storage.schema import Schema, check_followed
from konomi_chassis.storage.sqlite.page_checksums import APPLICATION_ID, damaged, load

PRAGMAS = (
    "PRAGMA busy_timeout=5000",
    "PRAGMA query_only=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA cell_size_check=ON",
    "PRAGMA mmap_size=0",
)
PERM, IOERR, CORRUPT, CANTOPEN, NOTADB = 3, 10, 11, 14, 26
"""Primary result codes of SQLite."""


def open_reader(path: Path, schema: Schema, refusal: Callable[[], KonomiError]) -> sqlalchemy.Engine:
    """Opens a database that another process may be writing; read in `with reading(engine)`.

    A file that was removed is Unavailable from the next read on, and one put in its place is read from then on: no
    reader goes on with a file that nobody writes any more.

    Args:
        path: the file, on a disk of this machine.
        schema: what it holds.
        refusal: the error of whoever begins to write.

    Raises:
        FailedPrecondition: it is not of this konomi's schema.
        DataLoss: it is damaged.
        Unavailable: it cannot be opened.
    """
    load()
    engine = sqlalchemy.create_engine(
        "sqlite://",
        module=dbapi2,
        creator=lambda: dbapi2.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        ),
        poolclass=sqlalchemy.QueuePool,
        pool_size=8,
        max_overflow=64,
    )
    _listen(engine, path, refusal)
    try:
        with engine.connect().execution_options(konomi_reading=True) as connection:
            check_followed(schema, connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    except BaseException:
        engine.dispose()
        raise
    return engine


def _listen(engine: sqlalchemy.Engine, path: Path, refusal: Callable[[], KonomiError]) -> None:
    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        for pragma in PRAGMAS:
            connection.execute(pragma).fetchall()
        marked = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        if marked and connection.execute("PRAGMA checksum_verification").fetchall() != [("1",)]:
            raise damaged(path, "its pages go unchecked")
        record.info["file"] = _identity(path)

    @event.listens_for(engine, "checkout")
    def _same_file(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info["file"] != _identity(path):
            raise sqlalchemy.exc.DisconnectionError  # the pool opens the file that is there now

    @event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        if not connection.get_execution_options().get("konomi_reading"):
            raise refusal()
        connection.exec_driver_sql("BEGIN")

    @event.listens_for(engine, "handle_error")
    def _judge(failure: sqlalchemy.engine.ExceptionContext) -> None:
        error = _judged(failure.original_exception, path)
        if error is not None:
            raise error


def _judged(error: BaseException, path: Path) -> KonomiError | None:
    """Returns what is behind an error of SQLite: damage, a file that cannot be had, or None for a fault of ours."""
    if isinstance(error, KonomiError):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (IOERR, CORRUPT, NOTADB):
        return damaged(path, str(error))  # a page that fails its checksum is an input/output error too
    return _gone(path, str(error)) if code in (PERM, CANTOPEN) else None


def _identity(path: Path) -> tuple[int, int]:
    """Returns what tells a file from another one of its name. Raises Unavailable where there is none."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise _gone(path, error.strerror or str(error)) from None
    return found.st_dev, found.st_ino


def _gone(path: Path, why: str) -> Unavailable:
    return Unavailable(
        f"The database {path.name} cannot be read: {why}. Bring it back, or start the process that writes it; then "
        "this one answers again.",
        reason="DATABASE_UNREACHABLE",
        retry_after=1.0,
    )
