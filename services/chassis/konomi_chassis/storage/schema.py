"""A database described once: numbered migrations for SQLite, tables of its newest form for PostgreSQL.

SQLite keeps the migrations that made every file there is. PostgreSQL begins at the newest form, rendered from the table
descriptions, and gets later steps from the same numbered migrations. A test holds the two forms equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Identity, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION
from sqlalchemy.dialects.sqlite import INTEGER
from sqlalchemy.types import REAL, TypeEngine

from konomi.errors import FailedPrecondition, Internal

TEXT = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared byte by byte on both, as SQLite does: an order must not depend on a server's language."""
WHOLE = BigInteger().with_variant(INTEGER(), "sqlite")
NUMBER: TypeEngine[float] = REAL().with_variant(DOUBLE_PRECISION(), "postgresql")
"""64 bits on both; PostgreSQL's own REAL has 32."""
BYTES = LargeBinary()


@dataclass(frozen=True)
class Migration:
    """One step of a schema.

    Attributes:
        version: its number, counted from 1.
        statements: SQL statements that make it in SQLite.
        postgresql: those that make it in PostgreSQL, for steps after the one its databases begin with.
    """

    version: int
    statements: tuple[str, ...]
    postgresql: tuple[str, ...] = ()


@dataclass(frozen=True)
class Schema:
    """What a role keeps in its database.

    Attributes:
        name: of the role: `<name>.sqlite` in a home, the schema `konomi_<name>` in PostgreSQL.
        migrations: numbered 1, 2, 3…
        tables: the newest form, in the order SQLite has them; without `requests`, which every database has.
        statements: views, functions and triggers of the newest form in PostgreSQL.
    """

    name: str
    migrations: tuple[Migration, ...]
    tables: MetaData
    statements: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        """The schema of PostgreSQL that holds it."""
        return f"konomi_{self.name}"

    def in_order(self) -> list[Table]:
        """Returns all tables in the order they were made, so parents before children."""
        return [requests(MetaData()), *self.tables.tables.values()]


def check_numbers(migrations: Sequence[Migration]) -> None:
    """Raises Internal where migrations are not numbered through from 1."""
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise Internal("Migrations are numbered 1, 2, 3 and so on.")


def unseen(migrations: Sequence[Migration], seen: int) -> Sequence[Migration]:
    """Returns the migrations a database has not seen. Raises FailedPrecondition where a newer konomi wrote it."""
    if seen > len(migrations):
        raise FailedPrecondition(
            f"The database has schema {seen}, this konomi knows {len(migrations)}. Use the newer konomi that wrote it.",
            reason="SCHEMA_NEWER",
        )
    return migrations[seen:]


def check_followed(schema: Schema, seen: int | None) -> None:
    """Refuses a database that is not of this konomi's schema, for whoever may not bring it there.

    Args:
        schema: what the role keeps.
        seen: the migrations the database has; None where it has no schema at all.

    Raises:
        FailedPrecondition: its writer is older or has not started yet, or a newer konomi wrote it.
    """
    if (seen or 0) < len(schema.migrations):
        raise not_there_yet(schema)
    unseen(schema.migrations, seen or 0)


def not_there_yet(schema: Schema) -> FailedPrecondition:
    """Returns the error of a database that its writer has yet to make, or to bring up to date."""
    return FailedPrecondition(
        f"There is no database of the {schema.name} here, or one of an older konomi; --read-only makes and changes "
        f"none. Start the {schema.name} that writes first, of this version and with the same settings.",
        reason="DATABASE_NOT_READY",
    )


def text(name: str, *rules: Any, **options: Any) -> Column[str]:
    """Describes a column of text that is never NULL unless `nullable` says so; `rules` are foreign keys."""
    return Column(name, TEXT, *rules, **{"nullable": False, **options})


def whole(name: str, *rules: Any, **options: Any) -> Column[int]:
    """Describes a column of 64-bit whole numbers."""
    return Column(name, WHOLE, *rules, **{"nullable": False, **options})


def number(name: str, **options: Any) -> Column[float]:
    """Describes a column of 64-bit floating point numbers."""
    return Column(name, NUMBER, **{"nullable": False, **options})


def binary(name: str) -> Column[bytes]:
    """Describes a column of bytes."""
    return Column(name, BYTES, nullable=False)


def counted(name: str) -> Column[int]:
    """Describes a key the database counts up itself and never gives twice."""
    return Column(name, WHOLE, Identity(always=False), primary_key=True)


def requests(tables: MetaData) -> Table:
    """Returns the table of answered requests (see `idempotency`), described anew for a set of tables."""
    return Table(
        "requests", tables, text("request_id", primary_key=True), text("rpc"), text("payload_digest"), binary("reply")
    )


def append_only(names: Sequence[str]) -> tuple[str, ...]:
    """Returns what makes PostgreSQL refuse to change or delete rows of tables, one by one or all at once."""
    function = """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
        END $$
        """
    guards = [
        f"CREATE TRIGGER {name}_{verb.lower()} BEFORE {verb} ON {name} "
        f"FOR EACH {'STATEMENT' if verb == 'TRUNCATE' else 'ROW'} EXECUTE FUNCTION refuse_change()"
        for name in names
        for verb in ("UPDATE", "DELETE", "TRUNCATE")
    ]
    return (function, *guards)
