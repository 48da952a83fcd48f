"""The few places where SQLite and PostgreSQL are told the same in different words; all other SQL is one text for both.

Every function returns a piece of SQL for the engine behind a connection. What is bound goes by name, never into the
text.
"""

from sqlalchemy import Connection

NO_LIMIT = 1 << 62
"""A LIMIT that is none: SQLite takes -1 for it, PostgreSQL refuses that."""


def is_postgresql(connection: Connection) -> bool:
    """Says whether PostgreSQL is behind a connection."""
    return connection.dialect.name == "postgresql"


def elements(connection: Connection, document: str) -> str:
    """Returns what stands after FROM to read a JSON array of texts as rows `p.value`.

    Args:
        connection: says which engine it is.
        document: a column, or a bound name with its colon.
    """
    if is_postgresql(connection):
        return f"json_array_elements_text(CAST({document} AS json)) AS p (value)"
    return f"json_each({document}) AS p"


def listed(connection: Connection, name: str) -> str:
    """Returns what stands after IN for texts, bound under a name as one JSON array: however many, one statement."""
    return f"(SELECT p.value FROM {elements(connection, f':{name}')})"


def listed_numbers(connection: Connection, name: str) -> str:
    """Returns what stands after IN for whole numbers, bound under a name as one JSON array."""
    return f"(SELECT CAST(p.value AS BIGINT) FROM {elements(connection, f':{name}')})"


def contains(connection: Connection, column: str, name: str) -> str:
    """Returns the condition that a column of text holds a bound one; the case of Latin letters is free."""
    if is_postgresql(connection):
        return f'position(lower(CAST(:{name} AS text) COLLATE "C") IN lower({column})) > 0'
    return f"instr(lower({column}), lower(:{name})) > 0"


def next_number(connection: Connection, table: str, column: str) -> str:
    """Returns the expression of a counted column's next number, above every one there was."""
    if is_postgresql(connection):
        return f"nextval(pg_get_serial_sequence('{table}', '{column}'))"
    return f"(SELECT MAX({column}) + 1 FROM {table})"
