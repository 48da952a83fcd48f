"""The append-only log of grades: an undo is another entry, every entry is chained to the one before.

In force is, for every image, the last grade that stands; a hidden repeat counts there only where no other grade stands.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from konomi.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from konomi_chassis.storage.dialects import NO_LIMIT, listed

OWNER = "owner"
REPEAT_CHECK = 4
CHAINED = ("taste", "sequence", "digest", "grade", "labeller", "reason", "created", "undoes")
"""Columns a row's hash covers, beside the hash before it."""


@dataclass(frozen=True, slots=True)
class LabelEntry:
    """One row of the log.

    Attributes:
        sequence: position in the taste's log, from 1.
        digest: graded image.
        grade: 0 cleared or 1..5; for an undo, the grade that stands afterwards.
        labeller: who graded.
        reason: why the image was shown, the contract's number.
        created: Unix time.
        undoes: sequence of the entry this one undoes.
        undone: a later entry undid this one.
    """

    sequence: int
    digest: str
    grade: int
    labeller: str
    reason: int
    created: float
    undoes: int | None = None
    undone: bool = False


@dataclass(frozen=True)
class NewLabel:
    """A grade to record; `given` is the Unix time it was given at where that was before, None for now."""

    digest: str
    grade: int
    labeller: str = OWNER
    reason: int = 0
    given: float | None = None


def record(
    connection: Connection, taste: str, labels: Sequence[NewLabel], now: float, by: str | None = None
) -> list[LabelEntry]:
    """Appends grades in order, inside the caller's transaction.

    Args:
        connection: the transaction.
        taste: id of the taste.
        labels: the grades.
        now: Unix time.
        by: whose grades may be cleared; None for anybody's.

    Raises:
        PermissionDenied: a grade of somebody else would be cleared; nothing is written.
        InvalidArgument: a rater version as labeller: a score fed back as a label would confirm itself.
        NotFound: an image the taste does not know; nothing is written.
    """
    machine = next(
        (label.labeller for label in labels if label.labeller.startswith(f"tastes/{taste}/raterVersions/")), ""
    )
    if machine:
        raise InvalidArgument(
            f"expected a person as labeller, found the rater version {machine[:80]!r}; scores are never labels",
            reason="SCORE_AS_LABEL",
            field="labels",
        )
    query = text("SELECT 1 FROM images WHERE taste = :taste AND digest = :digest")
    for index, label in enumerate(labels):
        if connection.execute(query, {"taste": taste, "digest": label.digest}).first() is None:
            raise NotFound(
                f"expected labels of images the taste knows, labels[{index}] names {label.digest[:80]!r}; "
                "add the image with AddImages first; none of the labels was recorded",
                reason="IMAGE_NOT_FOUND",
            )
        if not label.grade and by is not None:
            _check_own(_grader_in_force(connection, taste, label.digest), by, f"labels[{index}]")
    return [_append(connection, taste, label, now, None) for label in labels]


def undo(connection: Connection, taste: str, sequence: int | None, now: float, by: str | None = None) -> LabelEntry:
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
    entry = read_one(connection, taste, sequence)
    if by is not None:
        _check_own(entry.labeller, by, f"label {sequence}")
    if entry.undoes is not None:
        raise InvalidArgument(
            f"label {sequence} is itself an undo; record the grade again instead", reason="UNDO_OF_UNDO", field="name"
        )
    if entry.undone:
        raise FailedPrecondition(
            f"label {sequence} was undone already; nothing is left to undo", reason="ALREADY_UNDONE"
        )
    grade = _grade_without(connection, taste, entry.digest, sequence)
    return _append(connection, taste, NewLabel(entry.digest, grade, entry.labeller), now, sequence)


def _last_standing(connection: Connection, taste: str, by: str | None) -> int:
    """Returns the last entry that stands, of one labeller or of anybody.

    Raises:
        FailedPrecondition: none stands.
    """
    last = text(
        "SELECT MAX(sequence) FROM labels_standing "
        "WHERE taste = :taste AND (CAST(:by AS TEXT) IS NULL OR labeller = :by)"
    )
    sequence: int | None = connection.execute(last, {"taste": taste, "by": by}).scalar()
    if sequence is None:
        raise FailedPrecondition(
            "expected a label to undo, found none in force; grade an image first", reason="NOTHING_TO_UNDO"
        )
    return sequence


def read_one(connection: Connection, taste: str, sequence: int) -> LabelEntry:
    """Returns one entry.

    Raises:
        NotFound: no such entry.
    """
    entries = _read(connection, taste, "l.sequence = :bound", {"bound": sequence}, 1)
    if not entries:
        raise NotFound(
            f"expected a label of tastes/{taste}, found no label {sequence}; list them with ListLabels",
            reason="LABEL_NOT_FOUND",
        )
    return entries[0]


def read(connection: Connection, taste: str, after: int, limit: int, in_force: bool) -> list[LabelEntry]:
    """Returns up to `limit` entries past sequence `after`; with `in_force` only the grades that count."""
    if not in_force:
        return _read(connection, taste, "l.sequence > :bound", {"bound": after}, limit)
    rows = connection.execute(
        text(
            "SELECT sequence, digest, grade, labeller, reason, created FROM labels_in_force "
            "WHERE taste = :taste AND sequence > :after AND grade > 0 ORDER BY sequence LIMIT :limit"
        ),
        {"taste": taste, "after": after, "limit": limit},
    )
    return [LabelEntry(*row) for row in rows]


def grades_in_force(connection: Connection, taste: str) -> dict[str, LabelEntry]:
    """Returns the grade that counts of every graded image, by digest."""
    return {entry.digest: entry for entry in read(connection, taste, 0, NO_LIMIT, in_force=True)}


def in_force_of(connection: Connection, taste: str, digests: Sequence[str]) -> list[LabelEntry]:
    """Returns the grades in force of some images, in the order they were given."""
    rows = connection.execute(
        text(
            "SELECT sequence, digest, grade, labeller, reason, created FROM labels_in_force "
            # Sorted here: asked to, SQLite would walk the whole log in that order and look for the few.
            f"WHERE taste = :taste AND grade > 0 AND digest IN {listed(connection, 'digests')}"
        ),
        {"taste": taste, "digests": json.dumps(list(digests))},
    )
    return sorted((LabelEntry(*row) for row in rows), key=lambda entry: entry.sequence)


def retests(connection: Connection, taste: str) -> list[tuple[int, int]]:
    """Returns (first, repeated) grades of images shown again as a hidden repeat.

    A repeat is evidence of noise and nothing else: the grade before it stays in force, and no fit sees the repeat.
    """
    rows = connection.execute(
        text(
            "SELECT digest, grade, reason FROM labels_standing WHERE taste = :taste AND grade > 0 "
            f"AND digest IN (SELECT digest FROM labels WHERE taste = :taste AND reason = {REPEAT_CHECK}) "
            "ORDER BY sequence"
        ),
        {"taste": taste},
    )
    last: dict[str, int] = {}
    pairs = []
    for row in rows:
        if row.reason == REPEAT_CHECK and row.digest in last:
            pairs.append((last[row.digest], row.grade))
        elif row.reason != REPEAT_CHECK:
            last[row.digest] = row.grade
    return pairs


def repeated(connection: Connection, taste: str) -> set[str]:
    """Returns the digests of images that were ever shown again as a hidden repeat, undone or not."""
    rows = connection.execute(
        text(f"SELECT DISTINCT digest FROM labels WHERE taste = :taste AND reason = {REPEAT_CHECK}"), {"taste": taste}
    )
    return {row.digest for row in rows}


def last_sequence(connection: Connection, taste: str) -> int:
    """Returns the last entry of a taste's log; 0 where it is empty."""
    newest = text("SELECT COALESCE(MAX(sequence), 0) FROM labels WHERE taste = :taste")
    return int(connection.execute(newest, {"taste": taste}).scalar_one())


def digest_of(grades: dict[str, LabelEntry]) -> str:
    """Returns the sha256 of the grades in force, independent of the order they were given in."""
    rows = sorted((digest, entry.grade) for digest, entry in grades.items())
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def verify(connection: Connection, taste: str) -> int:
    """Checks the chained hash over a taste's whole log and returns its length.

    Raises:
        DataLoss: an entry was changed, or is missing.
    """
    rows = connection.execute(
        text("SELECT * FROM labels WHERE taste = :taste ORDER BY sequence"), {"taste": taste}
    ).mappings()
    return check_chain(rows, taste)


def check_chain(rows: Iterable[Mapping[Any, Any]], taste: str) -> int:
    """Checks the chained hash over rows of the table, in order, and returns how many there are.

    Raises:
        DataLoss: an entry was changed, or is missing.
    """
    chain, expected = "", 0
    for expected, row in enumerate(rows, start=1):
        chain = link_of(chain, row)
        if row["chain"] != chain or row["sequence"] != expected or row["taste"] != taste:
            raise DataLoss(
                f"label {expected} of tastes/{taste} differs from its hash chain; restore the database from a backup",
                reason="LABELS_CHANGED",
            )
    return expected


def link_of(chain: str, row: Mapping[Any, Any]) -> str:
    """Returns the chained hash of a row of the table after the one before it."""
    return _link(chain, *(row[name] for name in CHAINED))


def _grader_in_force(connection: Connection, taste: str, digest: str) -> str | None:
    query = text("SELECT labeller FROM labels_in_force WHERE taste = :taste AND digest = :digest AND grade > 0")
    return connection.execute(query, {"taste": taste, "digest": digest}).scalar()


def _grade_without(connection: Connection, taste: str, digest: str, sequence: int) -> int:
    """Returns the grade an image has once an entry is undone; 0 for none."""
    query = text(
        "SELECT grade FROM labels_standing WHERE taste = :taste AND sequence <> :sequence AND sequence IN "
        "(SELECT sequence FROM labels WHERE taste = :taste AND digest = :digest) "  # or the whole log is read
        f"ORDER BY reason = {REPEAT_CHECK} AND grade > 0, sequence DESC LIMIT 1"
    )
    return connection.execute(query, {"taste": taste, "digest": digest, "sequence": sequence}).scalar() or 0


def _check_own(labeller: str | None, by: str, what: str) -> None:
    if labeller not in (None, by):
        raise PermissionDenied(
            f"{what} would take back what {labeller} said; {by} may take back only what {by} said, the owner anything",
            reason="LABEL_OF_ANOTHER",
        )


def _append(connection: Connection, taste: str, label: NewLabel, now: float, undoes: int | None) -> LabelEntry:
    last = connection.execute(
        text("SELECT sequence, chain FROM labels WHERE taste = :taste ORDER BY sequence DESC LIMIT 1"), {"taste": taste}
    ).first()
    sequence, chain = (last.sequence + 1, last.chain) if last else (1, "")
    created = float(now if label.given is None else min(label.given, now))
    entry = LabelEntry(sequence, label.digest, label.grade, label.labeller, label.reason, created, undoes)
    row = {
        "digest": label.digest,
        "grade": label.grade,
        "labeller": label.labeller,
        "reason": label.reason,
        "created": created,
        "undoes": undoes,
    }
    link = _link(chain, taste, sequence, *row.values())
    connection.execute(
        text(
            "INSERT INTO labels VALUES (:taste, :sequence, :digest, :grade, :labeller, :reason, :created, :undoes, "
            ":chain)"
        ),
        {"taste": taste, "sequence": sequence, **row, "chain": link},
    )
    return entry


def _link(chain: str, *facts: object) -> str:
    return hashlib.sha256(json.dumps([chain, *facts], separators=(",", ":")).encode()).hexdigest()


def _read(connection: Connection, taste: str, where: str, bounds: dict[str, object], limit: int) -> list[LabelEntry]:
    rows = connection.execute(
        text(
            "SELECT l.sequence, l.digest, l.grade, l.labeller, l.reason, l.created, l.undoes, "
            "u.sequence IS NOT NULL AS undone "
            "FROM labels AS l LEFT JOIN labels AS u ON u.taste = l.taste AND u.undoes = l.sequence "
            f"WHERE l.taste = :taste AND {where} ORDER BY l.sequence LIMIT :limit"
        ),
        {"taste": taste, "limit": limit, **bounds},
    )
    return [
        LabelEntry(r.sequence, r.digest, r.grade, r.labeller, r.reason, r.created, r.undoes, bool(r.undone))
        for r in rows
    ]
