"""What an engine itself says of the tables in it, in words both engines share."""

import re

from sqlalchemy import Connection, inspect

KINDS = {"BIGINT": "INTEGER", "DOUBLE PRECISION": "REAL", "BYTEA": "BLOB"}


def words(condition: object) -> str:
    """A rule without the brackets, casts and line breaks one engine adds to it."""
    plain = re.sub(r"::\w+|[()]", "", str(condition))
    plain = re.sub(r"= ANY ARRAY\[(.*?)\]", r"IN \1", plain)
    plain = re.sub(r"(\w+) >= (\d+) AND \w+ <= (\d+)", r"\1 BETWEEN \2 AND \3", plain)
    return " ".join(plain.split())


def described(connection: Connection) -> dict[str, dict]:
    """What an engine itself says of its tables."""
    seen = inspect(connection)
    found = {}
    for table in seen.get_table_names():
        if table == "schema_state":  # PostgreSQL's place for SQLite's user_version
            continue
        key = seen.get_pk_constraint(table)["constrained_columns"]
        found[table] = {
            "columns": [
                (
                    column["name"],
                    KINDS.get(str(column["type"]).split(" COLLATE")[0], str(column["type"]).split(" COLLATE")[0]),
                    bool(column["nullable"]) and column["name"] not in key,
                    re.sub(r"::\w+$", "", str(column["default"])) if not column.get("identity") else "None",
                )
                for column in seen.get_columns(table)
            ],
            "key": key,
            "unique": sorted(tuple(rule["column_names"]) for rule in seen.get_unique_constraints(table)),
            "references": sorted(
                (*rule["constrained_columns"], rule["referred_table"], *rule["referred_columns"])
                for rule in seen.get_foreign_keys(table)
            ),
            "checks": sorted(words(rule["sqltext"]) for rule in seen.get_check_constraints(table)),
            "indexes": sorted(
                (
                    index["name"],
                    tuple(index["column_names"]),
                    bool(index["unique"]),
                    words(next((v for k, v in index.get("dialect_options", {}).items() if k.endswith("_where")), "")),
                )
                for index in seen.get_indexes(table)
                if not index.get("duplicates_constraint")
            ),
        }
    return found
