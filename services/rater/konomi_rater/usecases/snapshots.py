"""The use cases behind ExportTaste and ImportTaste: a taste's rows and the artifacts they name, out and in."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from konomi.errors import AlreadyExists, DataLoss, FailedPrecondition, KonomiError, NotFound
from konomi_chassis.storage import snapshots as rows_file
from konomi_chassis.storage.artifacts import Artifact
from konomi_chassis.storage.snapshots import Row, Tables, TableSchema, invalid, want, want_digest
from konomi_rater.embedding.names import space_of
from konomi_rater.storage import collected, image_records, labels, tastes
from konomi_rater.storage.files import vector_file
from konomi_rater.storage.schema import MIGRATIONS
from konomi_rater.usecases.images import check_facts
from konomi_rater.usecases.workspace import Workspace

KIND = "konomi.taste"
LEFT_BEHIND = frozenset({"embedder_changes", "images_forgotten", "labels_in_force", "pixels_leaving", "taste_counts"})
"""Tables of a taste that stay: work under way, rows that are gone, and what is derived from others as they come."""


class SnapshotPart(IntEnum):
    """What an artifact of a snapshot holds; the contract's numbers."""

    ROWS = 1
    EMBEDDINGS = 2
    HEAD = 3
    CERTIFICATE = 4
    IMAGE = 5


@dataclass(frozen=True)
class Restored:
    """A snapshot that was read and found whole; `header` and `tables` already speak of the taste it becomes."""

    taste: str
    tables: Tables
    vectors: dict[str, dict[str, np.ndarray]]


class TasteSnapshots:
    """Writes tastes as artifacts, and makes tastes of such artifacts."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def export(self, taste: str, *, images: bool) -> Iterator[tuple[Artifact, SnapshotPart]]:
        """Writes a taste as artifacts and yields them: its rows first. Images without pixels are rows alone.

        Raises:
            NotFound: no such taste, or an artifact its rows name is missing.
            DataLoss: its labels differ from their hash chain.
        """
        store = self._workspace.store
        with self._workspace.reading() as connection:
            tastes.read(connection, taste)
            labels.verify(connection, taste)
            tables = {
                table.name: rows_file.without_ids(
                    table, rows_file.read_rows(connection, table.name, where(table), {"taste": taste})
                )
                for table in carried(connection)
            }
            spaces = _vectors(connection, taste)
        vectors = store.put(vector_file.to_bytes(spaces), vector_file.MEDIA_TYPE)
        header = {"kind": KIND, "schema": len(MIGRATIONS), "taste": taste, "embeddings": vectors.digest}
        yield store.put(rows_file.render(header, tables), rows_file.MEDIA_TYPE), SnapshotPart.ROWS
        yield vectors, SnapshotPart.EMBEDDINGS
        for digest, part in _named(tables).items():
            yield store.stat(digest), part
        gone = {row["digest"] for row in tables["images_without_pixels"]}
        going = [row["digest"] for row in tables["images"] if row["digest"] not in gone] if images else []
        store.use(going)  # nothing takes them while the snapshot is read
        for digest in going:
            yield store.stat(digest), SnapshotPart.IMAGE

    def read(self, rows_digest: str, taste: str) -> Restored:
        """Reads a snapshot from the store and checks it, without changing anything.

        Args:
            rows_digest: its rows.
            taste: id it gets; empty keeps the one it had.

        Raises:
            NotFound: an artifact it names is not in the store.
            InvalidArgument: something in it cannot be right.
            FailedPrecondition: a newer konomi wrote it, or its embedder is not at hand.
        """
        workspace = self._workspace
        with workspace.reading() as connection:
            table_names = tuple(table.name for table in carried(connection))
        header, tables = rows_file.parse(workspace.store.get(rows_digest), KIND, len(MIGRATIONS), table_names)
        before, digest = str(want(header, "taste", str)), want_digest(header, "embeddings")
        _check(tables, before)
        workspace.embedders.check(tables["tastes"][0]["embedder"])
        vectors = vector_file.from_bytes(workspace.store.get(digest))
        name = space_of(tables["tastes"][0]["embedder"])
        space = vectors.get(name, {})
        blind = {row["digest"] for row in tables["images_without_pixels"] if row.get("unembedded")}
        if not all(row["digest"] in space or row["digest"] in blind for row in tables["images"]):
            raise invalid(f"an image has no vector of the taste's embedder, {name}; it holds those of {_list(vectors)}")
        self._check_artifacts(tables)
        return Restored(taste or before, _renamed(tables, before, taste or before), vectors)

    def restore(self, connection: Connection, snapshot: Restored, *, replace: bool) -> None:
        """Writes a checked snapshot inside the caller's transaction.

        Raises:
            AlreadyExists: there is a taste of that name and it shall not be replaced.
            FailedPrecondition: the embedder of that taste is being changed.
            InvalidArgument: its rows do not fit the tables.
        """
        bound = {"taste": snapshot.taste}
        if connection.execute(text("SELECT 1 FROM tastes WHERE id = :taste"), bound).first():
            if not replace:
                raise AlreadyExists(
                    f"tastes/{snapshot.taste} exists already and stays as it is; restore it under another name or "
                    "replace",
                    reason="TASTE_EXISTS",
                )
            _forget(connection, snapshot.taste)
        try:
            for table, rows in snapshot.tables.items():
                rows_file.insert_rows(connection, table, rows)
            for space, vectors in snapshot.vectors.items():
                image_records.remember_embeddings(connection, space, vectors)
            gone = collected.without_pixels(connection, snapshot.taste)
            back = sorted(digest for digest in gone if self._workspace.store.exists(digest))
            collected.note_returned(connection, snapshot.taste, back, "restored", self._workspace.clock())
            labels.verify(connection, snapshot.taste)
            for number in [row["number"] for row in snapshot.tables["rater_versions"]]:
                tastes.read_version(connection, snapshot.taste, number)
                tastes.read_diff(connection, snapshot.taste, number)
                tastes.read_embedder_comparison(connection, snapshot.taste, number)
        except (SQLAlchemyError, OverflowError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise invalid(f"its rows do not fit the tables ({type(error).__name__})") from error

    def _check_artifacts(self, tables: Tables) -> None:
        """Refuses a snapshot that lacks an artifact; a head that cannot be read is no reason: it is fitted anew."""
        store = self._workspace.store
        for digest in _named(tables):
            if not store.exists(digest):
                raise NotFound(
                    f"expected artifact {digest}, which the snapshot names, in the store; put it first",
                    reason="ARTIFACT_NOT_FOUND",
                )
        active = tables["tastes"][0]["active"]
        if active and active not in [row["number"] for row in tables["rater_versions"]]:
            raise invalid(f"its active version {active} is missing")


def carried(connection: Connection) -> list[TableSchema]:
    """Returns the tables a snapshot holds, parents before children: that of tastes, and all whose rows have a taste."""
    return [
        table
        for table in rows_file.read_tables(connection)
        if table.name == "tastes" or ("taste" in table.columns and table.name not in LEFT_BEHIND)
    ]


def where(table: TableSchema) -> str:
    """Returns the condition of a taste's rows, in the order they are carried."""
    key = "id" if table.name == "tastes" else "taste"
    return f"{key} = :taste ORDER BY {', '.join(table.key)}"


def _vectors(connection: Connection, taste: str) -> dict[str, dict[str, np.ndarray]]:
    rows = connection.execute(
        text(
            "SELECT e.embedder, e.digest, e.vector FROM embeddings AS e "
            "WHERE e.digest IN (SELECT digest FROM images WHERE taste = :taste)"
        ),
        {"taste": taste},
    )
    spaces: dict[str, dict[str, np.ndarray]] = {}
    for row in rows:
        spaces.setdefault(row.embedder, {})[row.digest] = np.frombuffer(row.vector, "<f4")
    return spaces


def _named(tables: Tables) -> dict[str, SnapshotPart]:
    """Returns the artifacts the rows name, images aside."""
    named = {row["artifact"]: SnapshotPart.HEAD for row in tables["rater_versions"]}
    named |= {row["set_digest"]: SnapshotPart.CERTIFICATE for row in tables["certificates"]}
    return named | {row["artifact"]: SnapshotPart.CERTIFICATE for row in tables["audits_ended"]}


def _check(tables: Tables, taste: str) -> None:
    """Refuses rows of another taste, malformed digests, facts no image may have and labels off their chain."""
    if [row.get("id") for row in tables["tastes"]] != [taste]:
        raise invalid("it does not hold exactly the taste its first line names")
    want(tables["tastes"][0], "embedder", str), want(tables["tastes"][0], "active", int)
    for table, rows in tables.items():
        if table != "tastes" and any(row.get("taste") != taste for row in rows):
            raise invalid(f"a row of {table} is of another taste")
    for table, column in (("rater_versions", "artifact"), ("certificates", "set_digest"), ("audits_ended", "artifact")):
        for row in tables[table]:
            want_digest(row, column)
    for row in tables["rater_versions"]:
        want(row, "number", int)
    for row in tables["second_embedders"]:
        want(row, "embedder", str), want(row, "seed", int)
    for row in tables["images"]:
        _check_image(row)
    without = [*tables["collected_images"], *tables["images_without_pixels"]]
    others = [*tables["panel"], *tables["audit_answers"], *tables["favourites"]]
    for row in [*tables["labels"], *others, *without]:
        want_digest(row, "digest")
    try:
        labels.check_chain(tables["labels"], taste)
    except (DataLoss, KeyError) as error:
        raise invalid("its labels differ from their hash chain") from error


def _list(vectors: Iterable[str]) -> str:
    return ", ".join(sorted(vectors)) or "none"


def _check_image(row: Row) -> None:
    try:
        check_facts(image_records.facts_of(row))
    except (KonomiError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise invalid(f"an image has facts no image may have ({error})"[:300]) from error


def _renamed(tables: Tables, before: str, after: str) -> Tables:
    """Returns the rows under another id, the labels chained anew."""
    if before == after:
        return tables

    def renamed(table: str, row: Row) -> Row:
        fields: dict[str, Any] = {"id" if table == "tastes" else "taste": after}
        return {**row, **fields}

    moved = {table: [renamed(table, row) for row in rows] for table, rows in tables.items()}
    chain = ""
    for row in moved["labels"]:
        row["chain"] = chain = labels.link_of(chain, row)
    return moved


def _forget(connection: Connection, taste: str) -> None:
    bound = {"taste": taste}
    if connection.execute(text("SELECT 1 FROM embedder_changes WHERE taste = :taste"), bound).first():
        raise FailedPrecondition(
            f"the embedder of tastes/{taste} is being changed; replace the taste when that has ended",
            reason="EMBEDDER_CHANGING",
        )
    for table in reversed(carried(connection)):
        rows_file.delete_rows(connection, table.name, where(table).partition(" ORDER")[0], bound)
