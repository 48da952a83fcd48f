"""A role's database, and SQLite as konomi trusts it.

A safe version, synchronous=FULL, one writing process, whole migrations, damage told.
Every page carries a checksum (`page_checksums`), and the log is read before SQLite drops what it cannot use of it
(`write_ahead_log`).
"""

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from filelock import FileLock, Timeout
from pysqlite3 import dbapi2
from sqlalchemy import event

from konomi.errors import FailedPrecondition, Internal, KonomiError
from konomi_chassis.durable_files import make_folder
from konomi_chassis.settings import DatabaseSettings
from konomi_chassis.storage.failpoints import failpoint
from konomi_chassis.storage.idempotency import TABLE
from konomi_chassis.storage.keeper import Keeper
from konomi_chassis.storage.schema import Migration as Migration
from konomi_chassis.storage.schema import Schema, check_numbers, not_there_yet, unseen
from konomi_chassis.storage.sqlite.page_checksums import damaged, make_ready
from konomi_chassis.storage.sqlite.write_ahead_log import check_log

VERSION_FLOOR = (3, 51, 3)
"""Below it two connections in WAL mode can corrupt the file (sqlite.org/wal.html#walresetbug)."""
NETWORK_FILESYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "fuse.sshfs"})

SNAPSHOT: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""How PostgreSQL reads one consistent snapshot, as SQLite does of itself."""


def open_for_role(settings: DatabaseSettings, schema: Schema, *, wait_seconds: float = 5.0) -> sqlalchemy.Engine:
    """Opens a role's database where the settings say it is: PostgreSQL where there is a URL, else a file of the home.

    Raises:
        FailedPrecondition: what `open_database` and `open_postgresql` refuse; rows that are in the other of both.
    """
    path = database_path(settings.home, schema)
    if not settings.url.get_secret_value():
        if moved_path(path).exists() and not path.exists():
            raise FailedPrecondition(
                f"The rows of {path.name} were moved to PostgreSQL, and [database] url names none. Set it again, or "
                f"rename {moved_path(path).name} to {path.name} to go on with what it held then.",
                reason="DATABASE_MOVED",
            )
        return open_database(path, schema.migrations, wait_seconds=wait_seconds)
    from konomi_chassis.storage.postgresql.engine import open_postgresql  # psycopg is an extra

    return open_postgresql(settings.url, schema, wait_seconds=wait_seconds, left_behind=path if path.exists() else None)


def open_to_follow(settings: DatabaseSettings, schema: Schema, refusal: Callable[[], KonomiError]) -> sqlalchemy.Engine:
    """Opens a role's database beside the process that writes it, to read alone; makes and changes nothing.

    Args:
        settings: where it is.
        schema: what the role keeps.
        refusal: the error of whoever begins to write.

    Raises:
        FailedPrecondition: there is none yet, it is of another version, or it is one konomi does not trust.
        Unavailable: the server cannot be reached.
        DataLoss: the file is damaged.
    """
    if settings.url.get_secret_value():
        from konomi_chassis.storage.postgresql.engine import open_replica  # psycopg is an extra

        return open_replica(settings.url, schema, refusal)
    from konomi_chassis.storage.sqlite.reader import open_reader

    path = database_path(settings.home, schema)
    check_version(dbapi2.sqlite_version_info)
    if not path.exists():
        raise not_there_yet(schema)
    _refuse_network(path.parent)
    return open_reader(path, schema, refusal)


def database_path(home: Path, schema: Schema) -> Path:
    """Returns where a role's SQLite file is in a home."""
    return home / "databases" / f"{schema.name}.sqlite"


def moved_path(path: Path) -> Path:
    """Returns what a SQLite file is called once its rows were moved to PostgreSQL."""
    return path.with_name(f"{path.name}.moved")


def open_database(path: Path, migrations: Sequence[Migration], *, wait_seconds: float = 5.0) -> sqlalchemy.Engine:
    """Opens a database file for this process alone and brings its schema up to date.

    Write in `with engine.begin() as connection:` (the write lock is taken at once); read in `with reading(engine)`.
    `engine.dispose()` gives the file up.

    Args:
        path: the file; made with its folder when missing.
        migrations: numbered 1, 2, 3…; those the file has not seen are run, each in one transaction.
        wait_seconds: how long to wait for another process to give the file up.

    Raises:
        FailedPrecondition: an unsafe SQLite, a network file system, another process, a schema from a newer konomi.
        DataLoss: the file or its log is damaged.
    """
    check_version(dbapi2.sqlite_version_info)
    make_folder(path.parent)
    _refuse_network(path.parent)
    lock = _lock(path, wait_seconds)
    try:
        check_log(path)
        keeper = Keeper(path, lock, checked=make_ready(path))
        try:
            engine = _engine(keeper)
            _quick_check(engine, keeper)
            keeper.empty_log()
            migrate(engine, migrations)
        except BaseException:
            keeper.close()
            raise
    except BaseException:
        lock.release()
        raise
    return engine


@contextmanager
def reading(engine: sqlalchemy.Engine) -> Iterator[sqlalchemy.Connection]:
    """Gives a connection on one consistent snapshot that never waits for a writer; it cannot write."""
    options: dict[str, Any] = {"konomi_reading": True}
    if engine.dialect.name == "postgresql":
        options |= SNAPSHOT
    with engine.connect().execution_options(**options) as connection:
        yield connection


def migrate(engine: sqlalchemy.Engine, migrations: Sequence[Migration]) -> None:
    """Runs the migrations the file has not seen, each in one transaction."""
    check_numbers(migrations)
    with engine.begin() as connection:
        connection.exec_driver_sql(TABLE)
        seen = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    for migration in unseen(migrations, seen):
        with engine.begin() as connection:
            for statement in migration.statements:
                connection.exec_driver_sql(statement)
                failpoint("database.in_migration")
            connection.exec_driver_sql(f"PRAGMA user_version={int(migration.version)}")


def check_version(version: tuple[int, ...]) -> None:
    """Raises FailedPrecondition for a SQLite whose WAL mode can corrupt a file."""
    if tuple(version) < VERSION_FLOOR:
        have, need = (".".join(map(str, parts)) for parts in (version, VERSION_FLOOR))
        raise FailedPrecondition(
            f"SQLite {have} can corrupt a database in WAL mode; konomi needs {need} or newer. "
            "Install pysqlite3 0.6.1 or newer.",
            reason="SQLITE_UNSAFE",
        )


def _engine(keeper: Keeper) -> sqlalchemy.Engine:
    class Connection(dbapi2.Connection):  # type: ignore[misc, unused-ignore]
        def commit(self) -> None:
            """Commits, and notes it before anybody hears of it."""
            super().commit()
            keeper.note.record()

    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite", database=str(keeper.path)),
        module=dbapi2,
        pool_size=8,
        max_overflow=64,
        connect_args={"factory": Connection},
    )
    weakref.finalize(engine, keeper.close)  # also where the process ends without having disposed of it
    _listen(engine, keeper)
    return engine


def _listen(engine: sqlalchemy.Engine, keeper: Keeper) -> None:
    owner = os.getpid()

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        keeper.configure(connection)

    @event.listens_for(engine, "checkout")
    def _same_process(_connection: Any, _record: Any, _proxy: Any) -> None:
        if os.getpid() != owner:
            raise Internal("A database connection must not cross a fork; open the database in the child instead.")

    @event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        read_only = connection.get_execution_options().get("konomi_reading")
        if not read_only:
            keeper.refuse_writes()
        connection.exec_driver_sql(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    @event.listens_for(engine, "handle_error")
    def _judge(failure: sqlalchemy.engine.ExceptionContext) -> None:
        damage = keeper.judge(failure.original_exception)
        if damage is not None:
            raise damage

    @event.listens_for(engine, "engine_disposed")
    def _release(_engine: sqlalchemy.Engine) -> None:
        keeper.close()


def _lock(path: Path, wait_seconds: float) -> FileLock:
    # Given up by whichever thread disposes of the engine; a mark in a file is no lock, since a dead writer leaves it.
    lock = FileLock(f"{path}.lock", thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=wait_seconds, poll_interval=0.05)
    except Timeout:
        raise FailedPrecondition(
            f"Another konomi process writes {path.name} of this home. Stop it first.", reason="DATABASE_TAKEN"
        ) from None
    return lock


def _quick_check(engine: sqlalchemy.Engine, keeper: Keeper) -> None:
    with reading(engine) as connection:
        report = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if report != "ok":
        page = keeper.first_damaged_page()
        raise damaged(keeper.path, " ".join(report.split()) if page is None else f"page {page} fails its checksum")


def _refuse_network(folder: Path) -> None:
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    mounts = [(Path(point.encode().decode("unicode_escape")), kind) for _, point, kind, *_ in map(str.split, lines)]
    real = folder.resolve()
    over = [(len(point.parts), kind) for point, kind in mounts if real.is_relative_to(point)]
    if over and max(over)[1] in NETWORK_FILESYSTEMS:
        raise FailedPrecondition(
            f"The home lies on a network file system ({max(over)[1]}), where SQLite cannot keep its promises. "
            "Use a local disk.",
            reason="NETWORK_FILESYSTEM",
        )
