"""What the log of labels adds up to: for every image the grade in force, kept as a table as the log grows.

The log is the truth and append-only; the table `labels_in_force` follows it by triggers of the same transaction, so no
read ever groups the log. Here stands its definition, computed from the whole log, and the check against it.
"""

from sqlalchemy import Connection, text

from konomi.errors import DataLoss

_COLUMNS = "digest, sequence, grade, labeller, reason, created"

_DEFINITION = f"""
SELECT {_COLUMNS} FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY digest ORDER BY reason = 4 AND grade > 0, sequence DESC) AS place
    FROM labels_standing AS s WHERE taste = :taste
    AND NOT EXISTS (SELECT 1 FROM revoked_images AS r WHERE r.taste = s.taste AND r.digest = s.digest)
) WHERE place = 1
"""
"""Of every image that was not revoked the last grade that stands; a hidden repeat (reason 4) where no other does."""

_TABLE = f"SELECT {_COLUMNS} FROM labels_in_force WHERE taste = :taste"


def verify_in_force(connection: Connection, taste: str) -> int:
    """Checks a taste's table of grades in force and its counts against log and images: O(log), for a deep check.

    Returns:
        How many images have an entry in force, cleared ones included.

    Raises:
        DataLoss: the table or a count differs; `rebuild_in_force` makes them anew.
    """
    bound = {"taste": taste}
    for left, right in ((_DEFINITION, _TABLE), (_TABLE, _DEFINITION)):
        row = connection.execute(text(f"SELECT * FROM ({left}) EXCEPT SELECT * FROM ({right}) LIMIT 1"), bound).first()
        if row is not None:
            raise _differs(taste, f"the grade in force of image {row.digest[:16]}")
    for column, query in _COUNTED.items():
        kept = connection.execute(text(f"SELECT {column} FROM taste_counts WHERE taste = :taste"), bound).scalar()
        if kept != connection.execute(text(query), bound).scalar_one():
            raise _differs(taste, f"the count of {column}")
    return int(connection.execute(text(f"SELECT COUNT(*) FROM ({_TABLE})"), bound).scalar_one())


def rebuild_in_force(connection: Connection, taste: str) -> None:
    """Makes a taste's table and counts anew from log and images, inside the caller's transaction."""
    bound = {"taste": taste}
    connection.execute(text("DELETE FROM labels_in_force WHERE taste = :taste"), bound)
    connection.execute(
        text(f"INSERT INTO labels_in_force (taste, {_COLUMNS}) SELECT :taste, * FROM ({_DEFINITION})"), bound
    )
    connection.execute(text("INSERT OR IGNORE INTO taste_counts VALUES (:taste, 0, 0)"), bound)
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
