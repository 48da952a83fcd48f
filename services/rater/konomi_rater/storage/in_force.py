"""What the log of labels adds up to: for every image the grade in force, kept as a table as the log grows.

The log is the truth and append-only; the table `labels_in_force` follows it by triggers of the same transaction, so no
read ever groups the log. Here stands its definition, computed from the whole log, the check against it, and the copy
of a taste's grades that a rater keeps in memory and brings up to date by what is new in the log.
"""

import threading
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sqlalchemy import Connection, text

from konomi.errors import DataLoss
from konomi_rater.storage import labels, panel
from konomi_rater.storage.embeddings import MatrixView
from konomi_rater.storage.labels import LabelEntry

_COLUMNS = "digest, sequence, grade, labeller, reason, created"

_DEFINITION = f"""
SELECT {_COLUMNS} FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY digest ORDER BY reason = 4 AND grade > 0, sequence DESC) AS place
    FROM labels_standing AS s WHERE taste = :taste
    AND NOT EXISTS (SELECT 1 FROM revoked_images AS r WHERE r.taste = s.taste AND r.digest = s.digest)
) AS placed WHERE place = 1
"""
"""Of every image that was not revoked the last grade that stands; a hidden repeat (reason 4) where no other does."""

_TABLE = f"SELECT {_COLUMNS} FROM labels_in_force WHERE taste = :taste"
_EXCEPT = "SELECT * FROM ({left}) AS l EXCEPT SELECT * FROM ({right}) AS r LIMIT 1"


def verify_in_force(connection: Connection, taste: str) -> int:
    """Checks a taste's table of grades in force and its counts against log and images: O(log), for a deep check.

    Returns:
        How many images have an entry in force, cleared ones included.

    Raises:
        DataLoss: the table or a count differs; `rebuild_in_force` makes them anew.
    """
    bound = {"taste": taste}
    for left, right in ((_DEFINITION, _TABLE), (_TABLE, _DEFINITION)):
        row = connection.execute(text(_EXCEPT.format(left=left, right=right)), bound).first()
        if row is not None:
            raise _differs(taste, f"the grade in force of image {row.digest[:16]}")
    for column, query in _COUNTED.items():
        kept = connection.execute(text(f"SELECT {column} FROM taste_counts WHERE taste = :taste"), bound).scalar()
        if kept != connection.execute(text(query), bound).scalar_one():
            raise _differs(taste, f"the count of {column}")
    return int(connection.execute(text(f"SELECT COUNT(*) FROM ({_TABLE}) AS held"), bound).scalar_one())


def rebuild_in_force(connection: Connection, taste: str) -> None:
    """Makes a taste's table and counts anew from log and images, inside the caller's transaction."""
    bound = {"taste": taste}
    connection.execute(text("DELETE FROM labels_in_force WHERE taste = :taste"), bound)
    connection.execute(
        text(f"INSERT INTO labels_in_force (taste, {_COLUMNS}) SELECT :taste, placed.* FROM ({_DEFINITION}) AS placed"),
        bound,
    )
    connection.execute(text("INSERT INTO taste_counts VALUES (:taste, 0, 0) ON CONFLICT DO NOTHING"), bound)
    for column, query in _COUNTED.items():
        connection.execute(text(f"UPDATE taste_counts SET {column} = ({query}) WHERE taste = :taste"), bound)


_COUNTED = {
    "images": "SELECT COUNT(*) FROM images WHERE taste = :taste",
    "graded": "SELECT COUNT(*) FROM labels_in_force WHERE taste = :taste AND grade > 0",
}


def _differs(taste: str, what: str) -> DataLoss:
    return DataLoss(
        f"{what} of tastes/{taste} differs from its log of labels; the log is the truth: rebuild the derived tables, "
        "or restore the database from a backup",
        reason="IN_FORCE_CHANGED",
    )


Moment = tuple[int, str, int, int]
"""Last entry of the log, its chained hash, the last revocation, and the size of the panel: equal ones, equal grades."""


@dataclass(frozen=True)
class Grades:
    """The grades in force of a taste at one moment; nobody changes them.

    Attributes:
        moment: names the state they are of.
        every: all of them by digest, in the order they were given.
        panel: digests of the panel.
        before: the state they were followed from, and the digests that may differ; None where they were read whole.
    """

    moment: Moment
    every: dict[str, LabelEntry]
    panel: frozenset[str]
    before: tuple[Moment, tuple[str, ...]] | None = None

    @cached_property
    def training(self) -> dict[str, LabelEntry]:
        """What a rater may be fitted on: this is the one gate, whatever is fitted takes its labels here."""
        return {digest: entry for digest, entry in self.every.items() if digest not in self.panel}

    @cached_property
    def aside(self) -> dict[str, LabelEntry]:
        """The grades of the panel, in the order they were given."""
        return {digest: entry for digest, entry in self.every.items() if digest in self.panel}


def seen(grades: dict[str, LabelEntry], view: MatrixView) -> dict[str, LabelEntry]:
    """Returns the grades of images in the view, by digest, in their order."""
    places = view.digests.places(list(grades)).tolist()
    return {digest: entry for (digest, entry), at in zip(grades.items(), places, strict=True) if at >= 0}


_NOTHING = Grades((0, "", 0, 0), {}, frozenset())


class GradesInMemory:
    """The grades in force of one taste, followed by what is new in the log: a label costs its image, not the log."""

    def __init__(self, taste: str) -> None:
        self._taste = taste
        self._lock = threading.Lock()
        self._grades = _NOTHING

    def at(self, connection: Connection) -> Grades:
        """Returns the grades as this connection's snapshot has them."""
        with self._lock:
            moment = self._moment(connection)
            if moment != self._grades.moment:
                members = frozenset(panel.members(connection, self._taste))
                if self._continues(connection, moment):
                    touched = self._touched(connection)
                    every = self._followed(connection, touched)
                    self._grades = Grades(moment, every, members, (self._grades.moment, touched))
                else:
                    self._grades = Grades(moment, labels.grades_in_force(connection, self._taste), members)
            return self._grades

    def _moment(self, connection: Connection) -> Moment:
        row = connection.execute(
            text(
                "SELECT sequence, chain, (SELECT COUNT(*) FROM revoked_images WHERE taste = :taste), "
                "(SELECT COUNT(*) FROM panel WHERE taste = :taste) "
                "FROM labels WHERE taste = :taste ORDER BY sequence DESC LIMIT 1"
            ),
            {"taste": self._taste},
        ).first()
        return (int(row[0]), str(row[1]), int(row[2]), int(row[3])) if row else _NOTHING.moment

    def _continues(self, connection: Connection, moment: Moment) -> bool:
        """Says whether the log goes on where what is held ends: another snapshot may be older, or of another log."""
        sequence, chain, revoked, members = self._grades.moment
        if not sequence or moment[2] < revoked or moment[3] < members:
            return False
        bound = {"taste": self._taste, "sequence": sequence}
        query = text("SELECT chain FROM labels WHERE taste = :taste AND sequence = :sequence")
        return bool(connection.execute(query, bound).scalar() == chain)

    def _touched(self, connection: Connection) -> tuple[str, ...]:
        """Returns the digests of images that were graded or revoked since."""
        bound = {"taste": self._taste, "sequence": self._grades.moment[0], "revoked": self._grades.moment[2]}
        rows = connection.execute(
            text(
                "SELECT digest FROM labels WHERE taste = :taste AND sequence > :sequence "
                "UNION SELECT digest FROM revoked_images WHERE taste = :taste AND sequence > :revoked"
            ),
            bound,
        )
        return tuple(row.digest for row in rows)

    def _followed(self, connection: Connection, touched: tuple[str, ...]) -> dict[str, LabelEntry]:
        every = dict(self._grades.every)
        for digest in touched:
            every.pop(digest, None)
        last = next(reversed(every.values())).sequence if every else 0
        fresh = labels.in_force_of(connection, self._taste, touched)
        every.update((entry.digest, entry) for entry in fresh)
        if fresh and fresh[0].sequence < last:  # an undo put an earlier grade in force again
            every = {entry.digest: entry for entry in sorted(every.values(), key=lambda entry: entry.sequence)}
        return every


@dataclass(frozen=True)
class GradeColumn:
    """The grade of every image of a view.

    Attributes:
        moment: the state of the grades.
        generation: of the view.
        grades: (N,) int8, 0 where ungraded.
        whole: whether every graded image was in the view.
    """

    moment: Moment
    generation: int
    grades: np.ndarray
    whole: bool


def grade_column(view: MatrixView, grades: Grades, earlier: GradeColumn | None = None) -> GradeColumn:
    """Returns the grade of every image; of an earlier column only what changed since is looked up."""
    column = np.zeros(len(view), np.int8)
    touched: tuple[str, ...] = tuple(grades.every)
    whole = True
    if earlier is not None and _leads_to(earlier, grades, view):
        column[: len(earlier.grades)] = earlier.grades
        touched = grades.before[1] if grades.before and earlier.moment != grades.moment else ()
    places = view.digests.places(touched)
    for digest, place in zip(touched, places.tolist(), strict=True):
        entry = grades.every.get(digest)
        if place >= 0:
            column[place] = entry.grade if entry else 0
        elif entry is not None:
            whole = False
    return GradeColumn(grades.moment, view.generation, column, whole)


def _leads_to(earlier: GradeColumn, grades: Grades, view: MatrixView) -> bool:
    same = earlier.moment == grades.moment or (grades.before is not None and grades.before[0] == earlier.moment)
    return same and earlier.whole and earlier.generation == view.generation and len(earlier.grades) <= len(view)
