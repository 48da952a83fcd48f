"""The lineage of a taste as rows and artifacts: its models with the runs, checkpoints and promotions behind them."""

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import sqlalchemy
from google.protobuf.message import DecodeError
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from konomi.errors import AlreadyExists, NotFound
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.storage import snapshots as rows_file
from konomi_chassis.storage.artifacts import Artifact, ArtifactStore
from konomi_chassis.storage.database import reading
from konomi_chassis.storage.snapshots import Row, Tables, invalid, want, want_digest
from konomi_trainer.storage import models, runs
from konomi_trainer.storage.schema import MIGRATIONS

KIND = "konomi.lineage"
_OF_TASTE = "(SELECT training_run FROM models WHERE taste = :taste)"
CARRIED = {
    "training_runs": f"id IN {_OF_TASTE} ORDER BY sequence",
    "models": "taste = :taste ORDER BY sequence",
    "promotions": "taste = :taste ORDER BY sequence",
    "current_models": "taste = :taste",
    "training_checkpoints": f"run IN {_OF_TASTE} ORDER BY run, step",
}
"""Table to the rows carried, parents before children. A run without a model stays behind: it would go on elsewhere."""


class LineagePart(IntEnum):
    """What an artifact of a lineage holds; the contract's numbers."""

    ROWS = 1
    ADAPTER = 6
    MANIFEST = 7
    SHEET = 8


class LineageSnapshots:
    """Writes lineages as artifacts, and restores them from such artifacts."""

    def __init__(self, engine: sqlalchemy.Engine, store: ArtifactStore) -> None:
        self._engine, self._store = engine, store

    def export(self, taste: str) -> Iterator[tuple[Artifact, LineagePart]]:
        """Writes a taste's lineage as artifacts and yields them: its rows first.

        Args:
            taste: "tastes/{taste}".

        Raises:
            NotFound: an artifact its rows name is missing.
        """
        with reading(self._engine) as connection:
            tables = _rows(connection, taste)
        header = {"kind": KIND, "schema": len(MIGRATIONS), "taste": taste}
        yield self._store.put(rows_file.render(header, tables), rows_file.MEDIA_TYPE), LineagePart.ROWS
        for digest, part in _named(tables).items():
            yield self._store.stat(digest), part

    def read(self, rows_digest: str, taste: str) -> tuple[str, Tables]:
        """Reads a lineage from the store and checks it; returns the taste it is for here, and its rows.

        Raises:
            NotFound: an artifact it names is not in the store.
            InvalidArgument: something in it cannot be right.
            FailedPrecondition: a newer konomi wrote it.
        """
        header, tables = rows_file.parse(self._store.get(rows_digest), KIND, len(MIGRATIONS), tuple(CARRIED))
        before = str(want(header, "taste", str))
        _check(tables, before)
        for digest in _named(tables):
            if not self._store.exists(digest):
                raise NotFound(
                    f"expected artifact {digest}, which the lineage names, in the store; put it first",
                    reason="ARTIFACT_NOT_FOUND",
                )
        return taste or before, _renamed(tables, taste or before)

    def restore(self, connection: Connection, taste: str, tables: Tables, *, replace: bool) -> None:
        """Writes a checked lineage inside the caller's transaction; one that is here already stays.

        Raises:
            AlreadyExists: the taste has models here, or a run or model of the same id is here.
            InvalidArgument: its rows do not fit the tables.
        """
        if connection.execute(text("SELECT 1 FROM models WHERE taste = :taste"), {"taste": taste}).first():
            if _rows(connection, taste) == tables:
                return
            if not replace:
                raise AlreadyExists(
                    f"{taste} has models here already, which stay as they are; replace them, or restore without models",
                    reason="MODELS_EXIST",
                )
            _forget(connection, taste)
        for table, find in (("training_runs", runs.get), ("models", models.get)):
            for row in tables[table]:
                if find(connection, row["id"]) is not None:
                    raise AlreadyExists(
                        f"{table} {row['id']} is here already, under another taste; restore without models, "
                        "or in another home",
                        reason="MODELS_EXIST",
                    )
        given: dict[int, int] = {}
        try:
            for table in CARRIED:
                _insert(connection, table, tables[table], given)
            for row in tables["models"]:
                models.get(connection, row["id"])
        except (SQLAlchemyError, OverflowError, ValueError, TypeError, KeyError) as error:
            raise invalid(f"its rows do not fit the tables ({type(error).__name__})") from error


def _rows(connection: Connection, taste: str) -> Tables:
    """Returns the rows of a taste as they are carried; of a checkpoint's adapters only those that are models."""
    bound = {"taste": taste}
    tables = {name: rows_file.read_rows(connection, name, where, bound) for name, where in CARRIED.items()}
    _count(tables)
    kept = {row["adapter_digest"] for row in tables["models"]}
    for row in tables["training_checkpoints"]:
        row["adapter_digest"] = row["adapter_digest"] if row["adapter_digest"] in kept else ""
    return tables


def _count(tables: Tables) -> None:
    """Numbers promotions from 1 within the taste and leaves out the numbers the database gave the others."""
    numbers = {row["sequence"]: place for place, row in enumerate(tables["promotions"], start=1)}
    for row in tables["promotions"]:
        row["sequence"], row["before"] = numbers[row["sequence"]], numbers.get(row["before"])
    for row in tables["current_models"]:
        row["promotion"] = numbers[row["promotion"]]
    for row in [*tables["training_runs"], *tables["models"]]:
        del row["sequence"]


def _insert(connection: Connection, table: str, rows: list[Row], given: dict[int, int]) -> None:
    """Inserts rows; `given` learns by which number the database knows each promotion."""
    if table == "promotions":
        for row in rows:
            number = connection.execute(
                text(
                    "INSERT INTO promotions (taste, action, model, before, time)"
                    " VALUES (:taste, :action, :model, :before, :time) RETURNING sequence"
                ),
                {**row, "before": None if row["before"] is None else given[row["before"]]},
            )
            given[row["sequence"]] = int(number.scalar_one())
        return
    if table == "current_models":
        rows = [{**row, "promotion": given[row["promotion"]]} for row in rows]
    rows_file.insert_rows(connection, table, rows)


def _named(tables: Tables) -> dict[str, LineagePart]:
    parts = {row["adapter_digest"]: LineagePart.ADAPTER for row in tables["models"]}
    parts |= {row["manifest_digest"]: LineagePart.MANIFEST for row in tables["models"]}
    parts |= {row["sheet_digest"]: LineagePart.SHEET for row in tables["training_checkpoints"]}
    return {digest: part for digest, part in parts.items() if digest}


def _check(tables: Tables, taste: str) -> None:
    """Refuses rows of another taste, malformed digests and runs that would go on here."""
    for table in ("training_runs", "models", "promotions", "current_models"):
        if any(row.get("taste") != taste for row in tables[table]):
            raise invalid(f"a row of {table} is of another taste")
    ids = {want(row, "id", str) for row in tables["training_runs"]}
    for row in tables["training_runs"]:
        if row.get("state") not in runs.ENDED or not _parses(want(row, "request", bytes)):
            raise invalid(f"its run {row['id'][:80]} has not ended, or holds no request")
    for row in tables["models"]:
        want(row, "id", str), want_digest(row, "adapter_digest")
        if row["manifest_digest"]:
            want_digest(row, "manifest_digest")
    if {row.get("run") for row in tables["training_checkpoints"]} - ids:
        raise invalid("a checkpoint is of a run it does not hold")
    for row in tables["training_checkpoints"]:
        if row.get("sheet_digest"):
            want_digest(row, "sheet_digest")


def _parses(request: bytes) -> bool:
    try:
        pb.CreateTrainingRunRequest.FromString(request)
    except DecodeError:
        return False
    return True


def _renamed(tables: Tables, taste: str) -> Tables:
    """Returns the rows for a taste of another name; ids stay, because images and parents name them."""

    def renamed(table: str, row: Row) -> Row:
        fields: dict[str, Any] = {} if table == "training_checkpoints" else {"taste": taste}
        if table == "training_runs":
            request = pb.CreateTrainingRunRequest.FromString(row["request"])
            request.taste = taste
            fields["request"] = request.SerializeToString()
        return {**row, **fields}

    if all(row["taste"] == taste for row in tables["models"]):
        return tables
    return {table: [renamed(table, row) for row in rows] for table, rows in tables.items()}


def _forget(connection: Connection, taste: str) -> None:
    """Deletes the models of a taste with all that hangs on them."""
    rows_file.delete_rows(connection, "collected_checkpoints", f"run IN {_OF_TASTE}", {"taste": taste})
    for table in ("current_models", "promotions", "training_checkpoints"):
        rows_file.delete_rows(connection, table, CARRIED[table].partition(" ORDER")[0], {"taste": taste})
    gone = [row.training_run for row in connection.execute(text(f"{_OF_TASTE[1:-1]}"), {"taste": taste})]
    rows_file.delete_rows(connection, "models", "taste = :taste", {"taste": taste})
    for run in gone:
        rows_file.delete_rows(connection, "training_runs", "id = :run", {"run": run})
