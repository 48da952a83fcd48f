"""A role's rows from SQLite to PostgreSQL and back: all of them, compared one by one, or none.

What triggers would derive is copied as it is, so they are off in the transaction that copies.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Table, select, text

from konomi.errors import DataLoss
from konomi_chassis.storage.database import reading
from konomi_chassis.storage.dialects import is_postgresql
from konomi_chassis.storage.failpoints import failpoint
from konomi_chassis.storage.schema import Schema

ROWS = 2000
"""Rows that are read and written at a time."""


@dataclass(frozen=True)
class Moved:
    """A table whose rows are the same in both databases now; `rows` says how many."""

    table: str
    rows: int


def copy(source: sqlalchemy.Engine, target: sqlalchemy.Engine, schema: Schema) -> list[Moved]:
    """Copies a role's rows into a database that was just made, in one transaction, and compares them all.

    Args:
        source: where the rows are; both are open for this process alone.
        target: of the newest schema, without rows.
        schema: what the role keeps.

    Raises:
        DataLoss: a row that was read back differs; nothing was written then.
    """
    tables = schema.in_order()
    with reading(source) as there, target.begin() as here:
        with _without_triggers(here, tables):
            for table in tables:
                _copy_table(there, here, table)
                failpoint("transfer.in_copy")
        _copy_counters(there, here, tables)
        return compare(there, here, tables)


def compare(there: Connection, here: Connection, tables: list[Table]) -> list[Moved]:
    """Compares two databases row by row and returns how many rows each table has. Raises DataLoss at a difference."""
    return [Moved(table.name, _compare_table(there, here, table)) for table in tables]


def _copy_table(there: Connection, here: Connection, table: Table) -> None:
    rows = there.execute(_in_order(table), execution_options={"yield_per": ROWS})
    for part in rows.partitions():
        here.execute(table.insert(), [dict(row._mapping) for row in part])


def _compare_table(there: Connection, here: Connection, table: Table) -> int:
    pairs = zip_longest(_values(there, table), _values(here, table))
    count = 0
    for count, (before, after) in enumerate(pairs, start=1):
        if before != after:
            raise DataLoss(
                f"row {count} of the table {table.name} is not the same in both databases; nothing was moved",
                reason="ROWS_DIFFER",
            )
    return count


def _values(connection: Connection, table: Table) -> Iterator[tuple[Any, ...]]:
    for row in connection.execute(_in_order(table), execution_options={"yield_per": ROWS}):
        yield tuple((type(value).__name__, value) for value in row)


def _in_order(table: Table) -> sqlalchemy.Select[Any]:
    return select(table).order_by(*table.primary_key.columns)


def _copy_counters(there: Connection, here: Connection, tables: list[Table]) -> None:
    """Makes counted columns go on where they were: a number that was given is never given again."""
    for table in tables:
        for column in table.columns:
            if column.identity is not None:
                _set_counter(here, table.name, column.name, _last_given(there, table.name, column.name))


def _last_given(connection: Connection, table: str, column: str) -> int:
    if is_postgresql(connection):
        sequence = connection.execute(text(f"SELECT pg_get_serial_sequence('{table}', '{column}')")).scalar_one()
        last = connection.execute(text(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}"))
    else:
        last = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :table"), {"table": table})
    return int(last.scalar() or 0)


def _set_counter(connection: Connection, table: str, column: str, last: int) -> None:
    if is_postgresql(connection):
        if last:
            connection.execute(
                text(f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), :last)"), {"last": last}
            )
        return
    connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :table"), {"table": table})
    connection.execute(text("INSERT INTO sqlite_sequence VALUES (:table, :last)"), {"table": table, "last": last})


@contextmanager
def _without_triggers(connection: Connection, tables: list[Table]) -> Iterator[None]:
    """Takes triggers away inside a transaction, and puts them back before it ends."""
    if is_postgresql(connection):
        for table in tables:
            connection.exec_driver_sql(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")
        yield
        for table in tables:
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ENABLE TRIGGER USER")
        return
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY rowid"
    triggers = connection.exec_driver_sql(query).all()
    for trigger in triggers:
        connection.exec_driver_sql(f"DROP TRIGGER {trigger.name}")
    yield
    for trigger in triggers:
        connection.exec_driver_sql(trigger.sql)
