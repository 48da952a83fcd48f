"""The append-only log of comparisons: which of two images was preferred; an undo is another entry."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from konomi.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from konomi_rater.preference.comparisons import Preference
from konomi_rater.storage.embeddings import MatrixView
from konomi_rater.storage.labels import OWNER


@dataclass(frozen=True)
class ComparisonEntry:
    """One row of the log; an undo repeats what it undoes.

    Attributes:
        winner: digest of the preferred image, or of the first of a tie.
        loser: digest of the other image.
        tie: neither is preferred.
        labeller: who compared.
        created: Unix time.
        sequence: position in the taste's log, from 1; 0 before it is recorded.
        undoes: sequence of the entry this one undoes.
    """

    winner: str
    loser: str
    tie: bool
    labeller: str = OWNER
    created: float = 0.0
    sequence: int = 0
    undoes: int | None = None


def record(connection: Connection, taste: str, comparison: ComparisonEntry, now: float) -> ComparisonEntry:
    """Appends a comparison and returns its entry."""
    last = text("SELECT COALESCE(MAX(sequence), 0) FROM comparisons WHERE taste = :taste")
    row = {
        "sequence": connection.execute(last, {"taste": taste}).scalar_one() + 1,
        "winner": comparison.winner,
        "loser": comparison.loser,
        "tie": int(comparison.tie),
        "labeller": comparison.labeller,
        "created": now,
        "undoes": comparison.undoes,
    }
    connection.execute(
        text(
            "INSERT INTO comparisons (taste, sequence, winner, loser, tie, labeller, created, undoes) "
            "VALUES (:taste, :sequence, :winner, :loser, :tie, :labeller, :created, :undoes)"
        ),
        {"taste": taste, **row},
    )
    return ComparisonEntry(**{**row, "tie": comparison.tie})


def undo(
    connection: Connection, taste: str, sequence: int | None, now: float, by: str | None = None
) -> ComparisonEntry:
    """Appends an entry that undoes `sequence`, or the last one standing.

    Args:
        connection: the transaction.
        taste: id of the taste.
        sequence: of the entry; None for the last one of those that may be undone.
        now: Unix time.
        by: whose entries may be undone; None for anybody's.

    Raises:
        PermissionDenied: the entry is somebody else's.
        NotFound: no such entry.
        FailedPrecondition: nothing stands, or it was undone already.
        InvalidArgument: the entry is itself an undo.
    """
    if sequence is None:
        sequence = _last_standing(connection, taste, by)
    bound = {"taste": taste, "sequence": sequence}
    row = _read_one(connection, taste, sequence)
    if by is not None and row.labeller != by:
        raise PermissionDenied(
            f"comparison {sequence} is what {row.labeller} said; {by} may undo only what {by} said, the owner anything",
            reason="COMPARISON_OF_ANOTHER",
        )
    if row.undoes is not None:
        raise InvalidArgument(
            f"comparison {sequence} is itself an undo; compare again instead", reason="UNDO_OF_UNDO", field="name"
        )
    standing = text("SELECT 1 FROM comparisons_standing WHERE taste = :taste AND sequence = :sequence")
    if connection.execute(standing, bound).first() is None:
        raise FailedPrecondition(
            f"comparison {sequence} was undone already; nothing is left to undo", reason="ALREADY_UNDONE"
        )
    return record(
        connection, taste, ComparisonEntry(row.winner, row.loser, bool(row.tie), row.labeller, undoes=sequence), now
    )


def _read_one(connection: Connection, taste: str, sequence: int) -> Row[Any]:
    """Returns one entry as its row.

    Raises:
        NotFound: no such entry.
    """
    row = connection.execute(
        text("SELECT * FROM comparisons WHERE taste = :taste AND sequence = :sequence"),
        {"taste": taste, "sequence": sequence},
    ).first()
    if row is None:
        raise NotFound(
            f"expected a comparison of tastes/{taste}, found no comparison {sequence}", reason="COMPARISON_NOT_FOUND"
        )
    return row


def _last_standing(connection: Connection, taste: str, by: str | None) -> int:
    """Returns the last entry in force, of one labeller or of anybody.

    Raises:
        FailedPrecondition: none is in force.
    """
    last = text(
        "SELECT MAX(sequence) FROM comparisons_standing "
        "WHERE taste = :taste AND (CAST(:by AS TEXT) IS NULL OR labeller = :by)"
    )
    sequence: int | None = connection.execute(last, {"taste": taste, "by": by}).scalar()
    if sequence is None:
        raise FailedPrecondition(
            "expected a comparison to undo, found none in force; compare two images first", reason="NOTHING_TO_UNDO"
        )
    return sequence


def standing(connection: Connection, taste: str) -> list[tuple[str, str, bool]]:
    """Returns (winner, loser, tie) of every comparison in force, in the order recorded."""
    rows = connection.execute(
        text("SELECT winner, loser, tie FROM comparisons_standing WHERE taste = :taste ORDER BY sequence"),
        {"taste": taste},
    )
    return [(row.winner, row.loser, bool(row.tie)) for row in rows]


def count(connection: Connection, taste: str) -> int:
    """Returns how many comparisons are in force, without reading them: entries are numbered through from 1.

    An undo is an entry too, and takes the one it undoes out of force.
    """
    undone = text("SELECT COUNT(*) FROM comparisons WHERE taste = :taste AND undoes IS NOT NULL")
    return moment(connection, taste) - 2 * int(connection.execute(undone, {"taste": taste}).scalar_one())


def moment(connection: Connection, taste: str) -> int:
    """Returns the last entry of the log: equal ones, equal comparisons in force."""
    last = text("SELECT COALESCE(MAX(sequence), 0) FROM comparisons WHERE taste = :taste")
    return int(connection.execute(last, {"taste": taste}).scalar_one())


@dataclass(frozen=True)
class Learnable:
    """The comparisons a rater may be fitted on.

    Attributes:
        said: in the order recorded: rows of the graded images, then of `images`.
        images: digests of those that were compared and are not graded, in rising order.
        digest: sha256 of what was said, by digests; empty where nothing was.
    """

    said: list[Preference]
    images: list[str]
    digest: str


def learnable(
    connection: Connection, taste: str, view: MatrixView, graded: Collection[str], panel: Collection[str]
) -> Learnable:
    """Returns the comparisons in force of images that can be learnt from.

    One of a panel image tells of a label no version may know, one of an image that left its taste of nothing.

    Args:
        connection: a snapshot.
        taste: the taste.
        view: its images.
        graded: digests of the graded images, in the order of their rows.
        panel: digests of the panel.
    """
    whole = standing(connection, taste)
    named = sorted({digest for winner, loser, _ in whole for digest in (winner, loser)})
    known = {name for name, at in zip(named, view.digests.places(named).tolist(), strict=True) if at >= 0}
    known -= set(panel)
    said = [one for one in whole if one[0] in known and one[1] in known]
    images = sorted({digest for winner, loser, _ in said for digest in (winner, loser)} - set(graded))
    row = {digest: number for number, digest in enumerate([*graded, *images])}
    written = hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest() if said else ""
    return Learnable([Preference(row[winner], row[loser], tie) for winner, loser, tie in said], images, written)
