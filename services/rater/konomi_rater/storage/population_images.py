"""Which images taught the populations of a home: kept here and not in their files, which may be passed on.

A population keeps what an image taught it when the image is revoked: it is a mean of many, and nobody can take one of
them out again. So that its owner hears of it, the home remembers the images, by the digest of the population's file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Revoked:
    """What was revoked of a population's images since it was learnt; 0 where its images are not known."""

    images: int = 0
    ratings: int = 0


NOTHING = Revoked()


def remember(
    connection: Connection, population: str, images: Sequence[str], ratings: Sequence[int], learnt: float
) -> None:
    """Notes the images of a population; what is noted already stays.

    Args:
        connection: a transaction.
        population: digest of its file.
        images: digests.
        ratings: how many ratings each of them has.
        learnt: when, Unix time.
    """
    rows = [
        {"population": population, "image": image, "ratings": int(count), "learnt": learnt}
        for image, count in zip(images, ratings, strict=True)
    ]
    if rows:
        line = "INSERT OR IGNORE INTO population_images VALUES (:population, :image, :ratings, :learnt)"
        connection.execute(text(line), rows)


def forget(connection: Connection, population: str) -> None:
    """Forgets the images of a population that was removed."""
    connection.execute(text("DELETE FROM population_images WHERE population = :digest"), {"digest": population})


def revoked(connection: Connection, population: str) -> Revoked:
    """Returns what any taste of this home revoked of a population's images after it was learnt."""
    row = connection.execute(
        text(
            "SELECT COUNT(*) AS images, COALESCE(SUM(ratings), 0) AS ratings FROM population_images AS p "
            "WHERE population = :digest AND EXISTS (SELECT 1 FROM tastes AS t CROSS JOIN revoked_images AS r "
            "WHERE r.taste = t.id AND r.digest = p.image AND r.created > p.learnt)"
        ),
        {"digest": population},
    ).one()
    return Revoked(row.images, row.ratings)
