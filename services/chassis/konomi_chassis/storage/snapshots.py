"""Rows of tables as JSON lines and back: how a role's part of a taste leaves one machine and arrives on another.

The first line is a header; each other line is one row, {"<table>": {"<column>": value}}. Bytes stand as {"base64": …}.
Equal rows make equal bytes, so a snapshot of what was restored from a snapshot is that snapshot.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, text

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.storage.dialects import is_postgresql
from konomi_chassis.storage.schema import Schema

Row = dict[str, Any]
Tables = dict[str, list[Row]]

MEDIA_TYPE = "application/vnd.konomi.rows+jsonl"
DIGEST = re.compile(r"[0-9a-f]{64}")


def invalid(what: str) -> InvalidArgument:
    """Returns the error of a snapshot whose content cannot be right."""
    return InvalidArgument(
        f"expected the snapshot of a taste, but {what}; nothing was restored, export it again",
        reason="SNAPSHOT_INVALID",
    )


@dataclass(frozen=True)
class TableSchema:
    """A table of a database.

    Attributes:
        name: its name.
        columns: its columns, in order.
        key: columns of its primary key, in order.
        counted: the database itself numbers its rows, so the number means nothing elsewhere.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    counted: bool


def read_tables(connection: Connection) -> list[TableSchema]:
    """Returns the tables of a database in the order they were made, so parents before children."""
    if is_postgresql(connection):
        return [_described(table) for table in _schema(connection).in_order()]
    names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    return [read_table(connection, str(row.name)) for row in connection.execute(text(names)).all()]


def read_table(connection: Connection, name: str) -> TableSchema:
    """Returns what a table is made of."""
    if is_postgresql(connection):
        return next(_described(table) for table in _schema(connection).in_order() if table.name == name)
    columns = connection.execute(text(f"SELECT name, type, pk FROM pragma_table_info('{name}') ORDER BY cid")).all()
    key = sorted((column for column in columns if column.pk), key=lambda column: column.pk)
    counted = len(key) == 1 and key[0].type == "INTEGER"
    return TableSchema(name, tuple(column.name for column in columns), tuple(column.name for column in key), counted)


def _schema(connection: Connection) -> Schema:
    schema: Schema = connection.get_execution_options()["konomi_schema"]
    return schema


def _described(table: Table) -> TableSchema:
    """Returns what a description says a table is made of, as SQLite would."""
    key = tuple(column.name for column in table.primary_key)
    counted = any(column.identity is not None for column in table.columns)
    return TableSchema(table.name, tuple(column.name for column in table.columns), key, counted)


def without_ids(table: TableSchema, rows: list[Row]) -> list[Row]:
    """Returns rows without the number the database gave them; their order says as much."""
    if table.counted:
        for row in rows:
            del row[table.key[0]]
    return rows


def read_rows(connection: Connection, table: str, where: str, bound: Mapping[str, object]) -> list[Row]:
    """Returns whole rows of a table; `where` may order them."""
    rows = connection.execute(text(f"SELECT * FROM {table} WHERE {where}"), dict(bound))
    return [dict(row) for row in rows.mappings()]


def insert_rows(connection: Connection, table: str, rows: Iterable[Row]) -> None:
    """Inserts rows as they are.

    Raises:
        InvalidArgument: a row has a column this table has not, or a number of its own.
    """
    schema = read_table(connection, table)
    columns = set(schema.columns) - ({schema.key[0]} if schema.counted else set())
    for row in rows:
        if not set(row) <= columns:
            raise invalid(f"a row of {table} has the column {min(set(row) - columns)[:80]!r}, which is not known here")
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)


def delete_rows(connection: Connection, table: str, where: str, bound: Mapping[str, object]) -> None:
    """Deletes rows, of an append-only table too: its guard is put back before the transaction ends."""
    put_back = _without_guard(connection, table)
    connection.execute(text(f"DELETE FROM {table} WHERE {where}"), dict(bound))
    if put_back:
        connection.exec_driver_sql(put_back)


def _without_guard(connection: Connection, table: str) -> str:
    """Lets rows of a table be deleted in this transaction; returns the statement that forbids it again, if any did."""
    name = f"{table}_DELETE"
    if is_postgresql(connection):
        query = text("SELECT 1 FROM pg_trigger WHERE tgrelid = CAST(:table AS regclass) AND tgname = lower(:name)")
        if connection.execute(query, {"table": table, "name": name}).first() is None:
            return ""
        connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER {name}")
        return f"ALTER TABLE {table} ENABLE TRIGGER {name}"
    query = text("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :table AND name = :name")
    guard = connection.execute(query, {"table": table, "name": name}).scalar()
    if guard is None:
        return ""
    connection.execute(text(f"DROP TRIGGER {name}"))
    return str(guard)


def render(header: Mapping[str, Any], tables: Mapping[str, Sequence[Row]]) -> bytes:
    """Returns the bytes of a snapshot: the header, then the rows table by table, in the order given."""
    lines = [_line(dict(header))]
    lines += [
        _line({table: {name: _out(value) for name, value in row.items()}}) for table in tables for row in tables[table]
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def parse(data: bytes, kind: str, newest: int, tables: Sequence[str]) -> tuple[Row, Tables]:
    """Returns header and rows by table.

    Args:
        data: what `render` made.
        kind: what the header's "kind" must be.
        newest: highest schema this konomi knows.
        tables: the tables there may be.

    Raises:
        FailedPrecondition: a newer konomi wrote it.
        InvalidArgument: it is none, or not of this kind.
    """
    try:
        first, *lines = [json.loads(line) for line in data.decode().split("\n")[:-1]]
    except (ValueError, RecursionError) as error:
        raise invalid("its rows are no JSON lines") from error
    if not isinstance(first, dict) or first.get("kind") != kind or not isinstance(first.get("schema"), int):
        raise invalid(f'its first line does not say {{"kind": "{kind}"}}')
    if not 1 <= first["schema"] <= newest:
        raise FailedPrecondition(
            f"expected a snapshot of schema 1 to {newest}, found schema {first['schema']}; "
            "nothing was restored: use the newer konomi that wrote it",
            reason="SNAPSHOT_VERSION",
        )
    rows: Tables = {table: [] for table in tables}
    for number, line in enumerate(lines, start=2):
        pair = next(iter(line.items())) if isinstance(line, dict) and len(line) == 1 else ("", None)
        if pair[0] not in rows or not isinstance(pair[1], dict):
            raise invalid(f"line {number} is no row of a known table")
        rows[pair[0]].append({name: _in(value, number) for name, value in pair[1].items()})
    return first, rows


def want(row: Row, column: str, kind: type | tuple[type, ...]) -> Any:
    """Returns a row's value, which must be there and of a type; InvalidArgument otherwise."""
    value = row.get(column)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise invalid(f"a row has {str(value)[:80]!r} as its {column}")
    return value


def want_digest(row: Row, column: str) -> str:
    """Returns a row's digest; InvalidArgument where it is none."""
    value = str(want(row, column, str))
    if not DIGEST.fullmatch(value):
        raise invalid(f"a row has {value[:80]!r} as its {column}, which is no digest")
    return value


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _out(value: Any) -> Any:
    return {"base64": base64.b64encode(bytes(value)).decode()} if isinstance(value, bytes | memoryview) else value


def _in(value: Any, number: int) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    try:
        return base64.b64decode(value["base64"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise invalid(f"line {number} holds a value no table takes") from error
