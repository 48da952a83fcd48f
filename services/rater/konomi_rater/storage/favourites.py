"""Favourites: images an owner keeps in mind, apart from any grade. No fit, score or selection ever reads them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from konomi.errors import FailedPrecondition
from konomi_rater.storage import image_records

MOST_FAVOURITES = 5000
"""Of a taste: a page holds all of them at once."""

_KNOWN = (
    "FROM favourites AS f WHERE f.taste = :taste "
    "AND EXISTS (SELECT 1 FROM images AS i WHERE i.taste = f.taste AND i.digest = f.digest)"
)


@dataclass(frozen=True)
class FavouriteRow:
    """An image that is kept in mind: its digest, its place among the favourites from 1, Unix time since when."""

    digest: str
    sequence: int
    created: float


def keep(connection: Connection, taste: str, digests: Sequence[str], now: float) -> list[str]:
    """Keeps images in mind, the last named newest; what is kept already stays where it is.

    Args:
        connection: the write transaction.
        taste: the taste.
        digests: of the images.
        now: Unix time.

    Returns:
        The digests that are no image of the taste: nothing is kept of them.

    Raises:
        FailedPrecondition: there would be more than MOST_FAVOURITES; none is kept then.
    """
    known = image_records.known(connection, taste, digests)
    new = [digest for digest in dict.fromkeys(digests) if digest in known]
    last = text("SELECT COALESCE(MAX(sequence), 0) FROM favourites WHERE taste = :taste")
    sequence = int(connection.execute(last, {"taste": taste}).scalar_one())
    added = text("INSERT INTO favourites VALUES (:taste, :digest, :sequence, :now) ON CONFLICT DO NOTHING")
    for place, digest in enumerate(new, start=sequence + 1):
        connection.execute(added, {"taste": taste, "digest": digest, "sequence": place, "now": now})
    held = count(connection, taste)
    if held > MOST_FAVOURITES:
        raise FailedPrecondition(
            f"expected at most {MOST_FAVOURITES} favourites in tastes/{taste}, these would make {held}; "
            "take some off first",
            reason="FAVOURITES_FULL",
        )
    return [digest for digest in dict.fromkeys(digests) if digest not in known]


def let_go(connection: Connection, taste: str, digests: Sequence[str]) -> None:
    """Keeps images in mind no longer; those that were not kept make no difference."""
    gone = text("DELETE FROM favourites WHERE taste = :taste AND digest = :digest")
    for digest in digests:
        connection.execute(gone, {"taste": taste, "digest": digest})


def read(connection: Connection, taste: str, before: int, limit: int) -> list[FavouriteRow]:
    """Returns up to `limit` favourites, newest first: those before a place, or from the newest where it is 0."""
    past = "AND f.sequence < :before " if before else ""
    query = f"SELECT f.digest, f.sequence, f.created {_KNOWN} {past}ORDER BY f.sequence DESC LIMIT :limit"  # nosec B608
    rows = connection.execute(text(query), {"taste": taste, "before": before, "limit": limit})
    return [FavouriteRow(**row) for row in rows.mappings()]


def count(connection: Connection, taste: str) -> int:
    """Returns how many images of a taste are favourites."""
    return int(connection.execute(text(f"SELECT COUNT(*) {_KNOWN}"), {"taste": taste}).scalar_one())  # nosec B608
