"""Images whose pixels the storage policy took: why each image stays or may go, the log of what went, what is without.

An image may go only where it is known to be a rejected candidate: made here by a unit of a night, and nobody ever
graded, compared, audited or laid it out. Its row, its prompt and its embedding stay for ever.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from konomi_chassis.storage.dialects import elements, listed, next_number
from konomi_rater.embedding.names import space_of
from konomi_rater.selection.selection import SELF
from konomi_rater.storage.embeddings import BASE_UNITS

REJECTED = ""
"""Nothing in the database says that an image must stay."""

_REASONS = """
SELECT i.row, i.digest, i.unit, i.night, i.created, CASE
    WHEN i.digest IN (SELECT digest FROM panel WHERE taste = :taste) THEN 'panel'
    WHEN EXISTS (SELECT 1 FROM labels AS l WHERE l.taste = i.taste AND l.digest = i.digest) THEN 'graded'
    WHEN i.digest IN (
        SELECT winner FROM comparisons WHERE taste = :taste UNION SELECT loser FROM comparisons WHERE taste = :taste
    ) THEN 'compared'
    WHEN i.digest IN (
        SELECT unit FROM blind_pairs WHERE taste = :taste UNION SELECT against FROM blind_pairs WHERE taste = :taste
        UNION SELECT digest FROM audit_answers WHERE taste = :taste
    ) THEN 'audited'
    WHEN i.digest IN (SELECT digest FROM slate_images WHERE taste = :taste) THEN 'laid_out'
    WHEN i.source <> :own THEN 'imported'
    WHEN i.unit IN {base} THEN 'base'
    WHEN i.unit = '' OR i.night = '' THEN 'single'
    WHEN EXISTS (SELECT 1 FROM embedder_changes WHERE taste = :taste) THEN 'embedder_changing'
    WHEN :second <> '' AND NOT EXISTS (
        SELECT 1 FROM embeddings AS e WHERE e.digest = i.digest AND e.embedder = :second
    ) THEN 'embedder_changing'
    ELSE '' END AS reason
FROM images AS i WHERE i.taste = :taste
"""


@dataclass(frozen=True)
class Standing:
    """How an image stands in a taste; `reason` says why it must stay, REJECTED where nothing does."""

    taste: str
    row: int
    digest: str
    unit: str
    night: str
    created: float
    reason: str


def standings(connection: Connection, taste: str, digests: Sequence[str] | None = None) -> list[Standing]:
    """Returns how the images of a taste stand, all or those among `digests`, oldest first."""
    second = connection.execute(
        text("SELECT embedder FROM second_embedders WHERE taste = :taste"), {"taste": taste}
    ).scalar()
    bound: dict[str, object] = {"taste": taste, "own": SELF, "base": json.dumps(BASE_UNITS)}
    bound["second"] = space_of(str(second)) if second else ""
    reasons, among = _REASONS.format(base=listed(connection, "base")), ""
    if digests is not None:
        among, bound["digests"] = _among(connection), json.dumps(list(digests))
    rows = connection.execute(text(f"{reasons} {among} ORDER BY i.row"), bound)
    return [Standing(taste=taste, **row._mapping) for row in rows]


def newest_units(connection: Connection, taste: str, count: int) -> set[str]:
    """Returns the units of a taste whose first image is newest, the base model apart."""
    rows = connection.execute(
        text(
            "SELECT unit FROM images WHERE taste = :taste AND source = :own AND unit <> '' "
            f"AND unit NOT IN {listed(connection, 'base')} GROUP BY unit ORDER BY MIN(row) DESC LIMIT :count"
        ),
        {"taste": taste, "own": SELF, "base": json.dumps(BASE_UNITS), "count": count},
    )
    return {row.unit for row in rows}


def parents(connection: Connection, taste: str, after: int = 0) -> set[str]:
    """Returns the digests that images of a taste past a row name as what they were made from."""
    rows = connection.execute(
        text(
            f"SELECT DISTINCT p.value AS digest FROM images AS i, {elements(connection, 'i.parents')} "
            "WHERE i.taste = :taste AND i.row > :after AND i.parents <> '[]'"
        ),
        {"taste": taste, "after": after},
    )
    return {row.digest for row in rows}


def last_row(connection: Connection, taste: str) -> int:
    """Returns the newest row of a taste; 0 where it knows no image."""
    newest = connection.execute(text("SELECT MAX(row) FROM images WHERE taste = :taste"), {"taste": taste})
    return int(newest.scalar() or 0)


def certified_sets(connection: Connection, taste: str) -> frozenset[str]:
    """Returns the artifacts that list the members of the sets a taste audited or audits."""
    rows = connection.execute(text("SELECT set_digest FROM certificates WHERE taste = :taste"), {"taste": taste})
    return frozenset(row.set_digest for row in rows)


def without_pixels(connection: Connection, taste: str, digests: Sequence[str] | None = None) -> frozenset[str]:
    """Returns the digests of a taste's images without pixels, all or those among `digests`.

    They are never shown, drawn or chosen for training any more; for that `MatrixView.without_pixels` has them at hand.
    """
    bound, query = {"taste": taste}, "SELECT digest FROM images_without_pixels WHERE taste = :taste"
    if digests is not None:
        query, bound["digests"] = f"{query} {_among(connection)}", json.dumps(list(digests))
    return frozenset(row.digest for row in connection.execute(text(query), bound))


def note_collected(
    connection: Connection, images: Iterable[Standing], sizes: dict[str, int], policy: str, now: float
) -> None:
    """Writes down that the pixels of images go, before they do.

    Args:
        connection: the write transaction.
        images: how they stand in every taste that knows them.
        sizes: their bytes by digest.
        policy: what took them, in words.
        now: Unix time.
    """
    for image in images:
        bound = {"taste": image.taste, "digest": image.digest}
        connection.execute(
            text("INSERT INTO images_without_pixels VALUES (:taste, :digest, 0) ON CONFLICT DO NOTHING"), bound
        )
        _log(connection, image.taste, image.digest, 0, sizes.get(image.digest, 0), policy, now)


def note_returned(connection: Connection, taste: str, digests: Iterable[str], why: str, now: float) -> None:
    """Writes down that images have their pixels again, or never lost them; one without a vector counts as new."""
    for digest in digests:
        bound = {"taste": taste, "digest": digest}
        gone = connection.execute(
            text("DELETE FROM images_without_pixels WHERE taste = :taste AND digest = :digest RETURNING unembedded"),
            bound,
        ).first()
        if gone is None:
            continue
        if gone.unembedded:  # what is in memory goes by rising rows
            connection.execute(
                text(
                    f"UPDATE images SET row = {next_number(connection, 'images', 'row')} "
                    "WHERE taste = :taste AND digest = :digest"
                ),
                bound,
            )
        _log(connection, taste, digest, 1, 0, why, now)


def _log(connection: Connection, taste: str, digest: str, returned: int, size: int, policy: str, now: float) -> None:
    connection.execute(
        text(
            "INSERT INTO collected_images SELECT :taste, COALESCE(MAX(sequence), 0) + 1, :digest, :returned, :bytes, "
            ":policy, :now FROM collected_images WHERE taste = :taste"
        ),
        {"taste": taste, "digest": digest, "returned": returned, "bytes": size, "policy": policy, "now": now},
    )


def mark_unembedded(connection: Connection, taste: str, space: str) -> None:
    """Notes which images without pixels have no vector in the space their taste changes to."""
    connection.execute(
        text(
            "UPDATE images_without_pixels SET unembedded = CASE WHEN EXISTS (SELECT 1 FROM embeddings AS e "
            "WHERE e.digest = images_without_pixels.digest AND e.embedder = :space) THEN 0 ELSE 1 END "
            "WHERE taste = :taste"
        ),
        {"taste": taste, "space": space},
    )


def _among(connection: Connection) -> str:
    return f"AND digest IN {listed(connection, 'digests')}"


def leave(connection: Connection, digests: Iterable[str], now: float) -> None:
    """Writes down that the pixels of revoked images are to be removed, with the revocation itself."""
    for digest in digests:
        connection.execute(
            text("INSERT INTO pixels_leaving VALUES (:digest, :now) ON CONFLICT DO NOTHING"),
            {"digest": digest, "now": now},
        )


def leaving(connection: Connection) -> list[str]:
    """Returns the images whose pixels are still to be removed."""
    return [row.digest for row in connection.execute(text("SELECT digest FROM pixels_leaving ORDER BY digest"))]


def left(connection: Connection, digests: Iterable[str]) -> None:
    """Notes that the pixels of images were removed, or stay for another taste."""
    for digest in digests:
        connection.execute(text("DELETE FROM pixels_leaving WHERE digest = :digest"), {"digest": digest})


def known_elsewhere(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Returns which images any taste knows now."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT i.digest FROM tastes AS t CROSS JOIN images AS i "
            f"WHERE i.taste = t.id AND i.digest IN {listed(connection, 'digests')}"
        ),
        {"digests": json.dumps(list(digests))},
    )
    return {row.digest for row in rows}
