"""Moving a role's rows of a home to PostgreSQL and back: what a kill cuts short is ended by the same command again.

What was left is kept under another name, never deleted: `rater.sqlite.moved` in the home, `konomi_rater_moved_1` in
PostgreSQL. At no moment is the only copy one that was not compared.
"""

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import sqlalchemy

from konomi.errors import FailedPrecondition, KonomiError
from konomi.settings import default_home
from konomi_chassis.durable_files import sync_folder
from konomi_chassis.settings import DatabaseSettings
from konomi_chassis.storage.database import database_path, moved_path, open_database, reading
from konomi_chassis.storage.failpoints import failpoint
from konomi_chassis.storage.postgresql.engine import exists, is_empty, open_postgresql
from konomi_chassis.storage.postgresql.transfer import Moved, compare, copy
from konomi_chassis.storage.schema import Schema

FILES = ("", "-wal", "-shm", "-committed", ".lock")
"""What belongs to a SQLite file, by the end of its name."""


def to_postgresql(settings: DatabaseSettings, schema: Schema) -> list[Moved]:
    """Moves the rows of a home's SQLite file to the database of its settings.

    Raises:
        FailedPrecondition: no URL, no such file, a konomi that runs, or a database with other rows.
        DataLoss: a row that was read back differs; then nothing was moved.
    """
    path = database_path(settings.home, schema)
    _want_url(settings)
    if not path.exists():
        raise FailedPrecondition(
            f"expected {path.name} in the home, found none: there is nothing to move", reason="NOTHING_TO_MOVE"
        )
    with (
        closing(_Opened(open_database(path, schema.migrations))) as source,
        closing(_Opened(open_postgresql(settings.url, schema))) as target,
    ):
        moved = _copy(source.engine, target.engine, schema)
    failpoint("moving.before_rename")
    path.rename(moved_path(path))
    sync_folder(path.parent)
    return moved


def to_sqlite(settings: DatabaseSettings, schema: Schema) -> list[Moved]:
    """Moves the rows of the database of a home's settings back into a SQLite file of the home.

    Raises:
        FailedPrecondition: no URL, no rows there, a konomi that runs, or a file with other rows.
        DataLoss: a row that was read back differs; then nothing was moved.
    """
    path = database_path(settings.home, schema)
    _want_url(settings)
    if not exists(settings.url, schema):
        raise FailedPrecondition(
            f"expected the schema {schema.role} in the database, found none: there is nothing to move",
            reason="NOTHING_TO_MOVE",
        )
    fresh = path.with_name(f"{path.name}.moving")
    with closing(_Opened(open_postgresql(settings.url, schema))) as source:
        if path.exists():
            with closing(_Opened(open_database(path, schema.migrations))) as target:
                moved = _same(source.engine, target.engine, schema)
        else:
            _remove(fresh)
            with closing(_Opened(open_database(fresh, schema.migrations))) as target:
                moved = copy(source.engine, target.engine, schema)
            failpoint("moving.before_rename")
            fresh.rename(path)
            _remove(fresh)
            sync_folder(path.parent)
        failpoint("moving.before_set_aside")
        _set_aside(source.engine, schema)
    return moved


def main(schema: Schema, argv: Sequence[str]) -> int:
    """Moves a role's rows as a command line says; prints a line of JSON for each table, or one that says why not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, default=default_home())
    parser.add_argument("--back", action="store_true", help="from PostgreSQL to SQLite")
    options = parser.parse_args(argv)
    try:
        settings = DatabaseSettings(home=options.home)
        for moved in (to_sqlite if options.back else to_postgresql)(settings, schema):
            print(json.dumps(asdict(moved)))
    except KonomiError as error:
        print(json.dumps({"reason": error.reason, "message": error.message}))
        return 1
    except (OSError, sqlalchemy.exc.SQLAlchemyError) as error:
        print(json.dumps({"reason": "MOVE_FAILED", "message": f"nothing was moved: {' '.join(str(error).split())}"}))
        return 1
    return 0


class _Opened:
    """An engine that is given up at the end of a block."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self.engine = engine

    def close(self) -> None:
        self.engine.dispose()


def _want_url(settings: DatabaseSettings) -> None:
    if not settings.url.get_secret_value():
        raise FailedPrecondition(
            "expected [database] url in konomi.toml, or KONOMI_DATABASE_URL, to name the PostgreSQL database; "
            "found none",
            reason="DATABASE_URL_INVALID",
        )


def _copy(source: sqlalchemy.Engine, target: sqlalchemy.Engine, schema: Schema) -> list[Moved]:
    with reading(target) as connection:
        empty = is_empty(connection, schema)
    return copy(source, target, schema) if empty else _same(source, target, schema)


def _same(source: sqlalchemy.Engine, target: sqlalchemy.Engine, schema: Schema) -> list[Moved]:
    """Returns the rows of two databases that are the same, as after a move that was cut short."""
    try:
        with reading(source) as there, reading(target) as here:
            return compare(there, here, schema.in_order())
    except KonomiError:
        raise FailedPrecondition(
            "expected no rows where they are to be moved to, found others; put them elsewhere first, nothing was moved",
            reason="DATABASE_NOT_EMPTY",
        ) from None


def _remove(path: Path) -> None:
    for end in FILES:
        path.with_name(f"{path.name}{end}").unlink(missing_ok=True)


def _set_aside(engine: sqlalchemy.Engine, schema: Schema) -> None:
    """Gives the schema another name, so that nobody goes on with rows that are elsewhere now."""
    with engine.begin() as connection:
        names = set(connection.exec_driver_sql("SELECT nspname FROM pg_namespace").scalars())
        tried = (f"{schema.role}_moved_{number}" for number in range(1, len(names) + 2))
        free = next(name for name in tried if name not in names)
        connection.exec_driver_sql(f"ALTER SCHEMA {schema.role} RENAME TO {free}")
