"""A role's schema in PostgreSQL, for this process alone: one lock for its life, one writer at a time, whole migrations.

Every write transaction begins by locking the one row of `schema_state` and comparing its `epoch` with the one this
process took when it opened the schema. The row keeps writers apart, as SQLite's write lock does, and a process that
lost its lock to another, after a break in the network, finds a newer epoch and writes nothing.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy
from pydantic import SecretStr
from sqlalchemy import event

from konomi.errors import FailedPrecondition, Internal, KonomiError, ResourceExhausted, Unavailable
from konomi_chassis.storage.failpoints import failpoint
from konomi_chassis.storage.postgresql.server import SESSION, address, check, named
from konomi_chassis.storage.schema import Schema, check_followed, check_numbers, unseen

STATE = "CREATE TABLE schema_state (version BIGINT NOT NULL, epoch BIGINT NOT NULL)"
DISK_FULL, LOCK_TAKEN = "53100", "55P03"
"""SQLSTATE of a full disk, and of another writer that took longer than anybody waits."""


def open_postgresql(
    url: SecretStr, schema: Schema, *, wait_seconds: float = 5.0, left_behind: Path | None = None
) -> sqlalchemy.Engine:
    """Opens a role's schema of a database for this process alone and brings it up to date.

    Write in `with engine.begin() as connection:`, read in `with reading(engine)`; `engine.dispose()` gives it up.

    Args:
        url: of the database.
        schema: what the role keeps.
        wait_seconds: how long to wait for another process to give it up.
        left_behind: a SQLite file of the home, whose rows a schema that is new would lack.

    Raises:
        FailedPrecondition: no such URL, a server that may lose labels, another process, a schema from a newer konomi,
            or a file of the home that would be left behind.
        Unavailable: the server cannot be reached.
    """
    place = address(url)
    holder = Holder(place, schema)
    try:
        engine = _engine(place, holder)
        holder.acquire(wait_seconds)
        _migrate(engine, holder, schema, left_behind)
    except BaseException:
        holder.close()
        raise
    return engine


def open_to_read(url: SecretStr, schema: Schema) -> sqlalchemy.Engine:
    """Opens a role's schema beside the konomi that may be running on it, without its lock; makes nothing.

    Raises:
        FailedPrecondition: no such URL, or no driver.
    """
    place = address(url)
    return sqlalchemy.create_engine(
        place, connect_args=_options(schema), poolclass=sqlalchemy.NullPool, execution_options={"konomi_schema": schema}
    )


def open_replica(url: SecretStr, schema: Schema, refusal: Callable[[], KonomiError]) -> sqlalchemy.Engine:
    """Opens a role's schema beside the process that writes it, to read alone; a user that may only SELECT is enough.

    Args:
        url: of the database.
        schema: what the role keeps.
        refusal: the error of whoever begins to write.

    Raises:
        FailedPrecondition: no such URL, no driver, a server konomi does not trust, a standby, or another schema.
        Unavailable: the server cannot be reached.
    """
    place = address(url)
    name, options = named(place), _options(schema)
    options["options"] += " -c default_transaction_read_only=on"
    engine = sqlalchemy.create_engine(
        place,
        pool_size=8,
        max_overflow=64,
        pool_pre_ping=True,  # a server that came back is asked again without a call that fails first
        connect_args=options,
        execution_options={"konomi_schema": schema},
    )
    _listen_to_replica(engine, name, refusal)
    with engine.connect().execution_options(konomi_reading=True) as connection:
        check_followed(schema, _seen(connection))
    return engine


def _listen_to_replica(engine: sqlalchemy.Engine, name: str, refusal: Callable[[], KonomiError]) -> None:
    @event.listens_for(engine, "connect")
    def _check(connection: Any, _record: Any) -> None:
        check(connection, name)
        refuse_standby(connection, name)

    @event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        if not connection.get_execution_options().get("konomi_reading"):
            raise refusal()

    @event.listens_for(engine, "handle_error")
    def _judge(failure: sqlalchemy.engine.ExceptionContext) -> None:
        error = failure.original_exception
        if isinstance(error, KonomiError):
            raise error
        if failure.is_disconnect or (failure.connection is None and isinstance(error, Exception)):
            raise _unreachable(name, error)


def refuse_standby(connection: Any, name: str) -> None:
    """Refuses a server that itself follows another one, and may be any time behind it."""
    standby = connection.execute("SELECT pg_is_in_recovery()").fetchone()[0]
    connection.rollback()
    if standby:
        raise FailedPrecondition(
            f"{name} is a standby, which may be behind by any time; give [database] url the server it follows.",
            reason="DATABASE_STANDBY",
        )


def exists(url: SecretStr, schema: Schema) -> bool:
    """Says whether a database has a role's schema. Raises Unavailable where the server cannot be reached."""
    engine = open_to_read(url, schema)
    try:
        with engine.connect() as connection:
            return _seen(connection) is not None
    except sqlalchemy.exc.OperationalError as error:
        raise _unreachable(named(engine.url), error) from None


def reach(url: SecretStr) -> str:
    """Returns a database in words once it has answered and is one konomi trusts; makes and holds nothing.

    Raises:
        FailedPrecondition: no such URL, no driver, or a server that may lose labels.
        Unavailable: the server cannot be reached.
    """
    place = address(url)
    engine = sqlalchemy.create_engine(place, connect_args={"connect_timeout": 10}, poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as connection:
            check(connection.connection.driver_connection, named(place))
    except sqlalchemy.exc.OperationalError as error:
        raise _unreachable(named(place), error) from None
    return named(place)


def is_empty(connection: sqlalchemy.Connection, schema: Schema) -> bool:
    """Says whether a database holds no row of a role."""
    return not any(connection.execute(sqlalchemy.select(table).limit(1)).first() for table in schema.in_order())


class Holder:
    """Holds a schema for as long as its engine lives: the advisory lock, and the epoch its writes go by."""

    def __init__(self, place: sqlalchemy.URL, schema: Schema) -> None:
        self.name, self.schema, self.epoch = named(place), schema, 0
        self._locker = sqlalchemy.create_engine(
            place, connect_args=_options(schema), poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT"
        )
        self._closing, self._owner = threading.Lock(), os.getpid()
        self._connection: sqlalchemy.Connection | None = None

    def acquire(self, wait_seconds: float) -> None:
        """Takes the lock and keeps its connection.

        Raises:
            FailedPrecondition: another process holds it, or the server refuses.
            Unavailable: the server cannot be reached.
        """
        deadline = time.monotonic() + wait_seconds
        query = sqlalchemy.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
        try:
            self._connection = self._locker.connect()
            while not self._connection.execute(query, {"name": self.schema.role}).scalar_one():
                if time.monotonic() >= deadline:
                    raise self.taken()
                time.sleep(0.05)
        except sqlalchemy.exc.OperationalError as error:
            raise _unreachable(self.name, error) from None

    def taken(self) -> FailedPrecondition:
        """Returns the error of a schema that another process writes."""
        return FailedPrecondition(
            f"Another konomi process writes {self.schema.role} of {self.name}. Stop it first.", reason="DATABASE_TAKEN"
        )

    def begin_writing(self, connection: sqlalchemy.Connection) -> None:
        """Waits for other writers of this process. Raises FailedPrecondition where another process took over."""
        if (
            self.epoch
            and connection.exec_driver_sql("SELECT epoch FROM schema_state FOR UPDATE").scalar_one() != self.epoch
        ):
            raise self.taken()

    def judge(self, failure: sqlalchemy.engine.ExceptionContext) -> KonomiError | None:
        """Returns the error behind one of PostgreSQL that its caller can do something about, or None."""
        error = failure.original_exception
        if failure.is_disconnect or (failure.connection is None and isinstance(error, Exception)):
            return error if isinstance(error, KonomiError) else _unreachable(self.name, error)
        state = getattr(error, "sqlstate", "")
        if state == DISK_FULL:
            return ResourceExhausted(
                f"The disk of {self.name} is full; nothing was stored. Free some space, then try again.",
                reason="DISK_FULL",
                retry_after=60.0,
            )
        if state == LOCK_TAKEN:
            return Unavailable("The database is busy; try again.", reason="DATABASE_BUSY", retry_after=1.0)
        return None

    def close(self) -> None:
        """Gives the schema up; once is enough, and what was forked off never does."""
        with self._closing:
            connection, self._connection = self._connection, None
        if connection is not None and os.getpid() == self._owner:
            connection.close()


def _engine(place: sqlalchemy.URL, holder: Holder) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(
        place,
        pool_size=8,
        max_overflow=64,
        isolation_level="READ COMMITTED",  # a writer that waited for another sees what that one wrote
        connect_args=_options(holder.schema),
        execution_options={"konomi_schema": holder.schema},
    )
    owner = os.getpid()
    weakref.finalize(engine, holder.close)

    @event.listens_for(engine, "connect")
    def _check(connection: Any, _record: Any) -> None:
        check(connection, holder.name)

    @event.listens_for(engine, "checkout")
    def _same_process(connection: Any, _record: Any, _proxy: Any) -> None:
        if os.getpid() != owner:
            with open(os.devnull, "rb") as nowhere:  # the child closes it, which would say farewell for the parent too
                os.dup2(nowhere.fileno(), connection.fileno())
            raise Internal("A database connection must not cross a fork; open the database in the child instead.")

    @event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        if not connection.get_execution_options().get("konomi_reading"):
            holder.begin_writing(connection)

    @event.listens_for(engine, "handle_error")
    def _judge(failure: sqlalchemy.engine.ExceptionContext) -> None:
        error = holder.judge(failure)
        if error is not None:
            raise error

    @event.listens_for(engine, "engine_disposed")
    def _release(_engine: sqlalchemy.Engine) -> None:
        holder.close()

    return engine


def _migrate(engine: sqlalchemy.Engine, holder: Holder, schema: Schema, left_behind: Path | None) -> None:
    check_numbers(schema.migrations)
    with engine.begin() as connection:
        seen = _seen(connection)
        if left_behind is not None and (seen is None or is_empty(connection, schema)):
            raise FailedPrecondition(
                f"The home holds {left_behind.name}, and {holder.name} has none of its rows. Move them with "
                "konomi storage migrate, or take [database] url out to go on with the file.",
                reason="DATABASE_LEFT_BEHIND",
            )
        if seen is None:
            _create(connection, schema)
            seen = len(schema.migrations)
    for migration in unseen(schema.migrations, seen):
        with engine.begin() as connection:
            if not migration.postgresql:
                raise Internal(f"Migration {migration.version} of {schema.name} has no statements for PostgreSQL.")
            _run(connection, migration.postgresql)
            connection.execute(
                sqlalchemy.text("UPDATE schema_state SET version = :version"), {"version": migration.version}
            )
    with engine.begin() as connection:
        holder.epoch = int(
            connection.exec_driver_sql("UPDATE schema_state SET epoch = epoch + 1 RETURNING epoch").scalar_one()
        )


def _seen(connection: sqlalchemy.Connection) -> int | None:
    """Returns the version of the schema, None where there is none."""
    if connection.exec_driver_sql("SELECT to_regclass('schema_state')").scalar_one() is None:
        return None
    return int(connection.exec_driver_sql("SELECT version FROM schema_state").scalar_one())


def _create(connection: sqlalchemy.Connection, schema: Schema) -> None:
    """Makes the newest form, all of it or nothing."""
    connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema.role}")
    for table in schema.in_order():
        table.create(connection)
    _run(connection, schema.statements)
    connection.exec_driver_sql(STATE)
    connection.execute(
        sqlalchemy.text("INSERT INTO schema_state VALUES (:version, 0)"), {"version": len(schema.migrations)}
    )


def _run(connection: sqlalchemy.Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement.replace("%", "%%"))  # psycopg reads % as the mark of what is bound
        failpoint("database.in_migration")


def _options(schema: Schema) -> dict[str, Any]:
    settings = {"search_path": schema.role, **SESSION}
    return {
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        "application_name": schema.role,
        "connect_timeout": 10,
    }


def _unreachable(name: str, error: BaseException) -> Unavailable:
    why = " ".join(str(getattr(error, "orig", None) or error).split())
    return Unavailable(f"{name} cannot be reached: {why}", reason="DATABASE_UNREACHABLE", retry_after=1.0)
