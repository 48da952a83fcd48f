"""The durable record of slates: how the space is divided, what was predicted of a region, what was shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from konomi_rater.embedding.names import space_of
from konomi_rater.selection.slates import ShownImage


@dataclass(frozen=True)
class SlateMap:
    """How a taste's space is divided for its slates, once for all under one embedder.

    Attributes:
        regions: how many.
        seed: of the regions.
        base_count: the first so many base images say what the main directions are.
        after: labels there were before the first slate.
    """

    regions: int
    seed: int
    base_count: int
    after: int


@dataclass(frozen=True)
class Bet:
    """What was predicted of a region before it was first shown, and the median over all regions then."""

    region: int
    predicted: float
    median: float


def read_map(connection: Connection, taste: str, embedder: str) -> SlateMap | None:
    """Returns how the space is divided; None before the first slate."""
    row = connection.execute(
        text("SELECT regions, seed, base_count, after FROM slate_maps WHERE taste = :taste AND space = :space"),
        {"taste": taste, "space": space_of(embedder)},
    ).first()
    return SlateMap(*row) if row else None


def keep_map(connection: Connection, taste: str, embedder: str, slate_map: SlateMap, now: float) -> None:
    """Notes how the space is divided, where it was not yet."""
    connection.execute(
        text(
            "INSERT INTO slate_maps VALUES (:taste, :space, :regions, :seed, :base_count, :after, :now) "
            "ON CONFLICT DO NOTHING"
        ),
        {"taste": taste, "space": space_of(embedder), "now": now, **vars(slate_map)},
    )


def keep_slate(
    connection: Connection, taste: str, embedder: str, bets: Sequence[Bet], shown: Mapping[str, int], now: float
) -> None:
    """Notes what is predicted of regions shown for the first time, then what is shown (digest to region)."""
    bound = {"taste": taste, "space": space_of(embedder), "now": now}
    for bet in bets:
        connection.execute(
            text(
                "INSERT INTO slate_bets VALUES (:taste, :space, :region, :predicted, :median, :now) "
                "ON CONFLICT DO NOTHING"
            ),
            {**bound, **vars(bet)},
        )
    for digest, region in shown.items():
        connection.execute(
            text("INSERT INTO slate_images VALUES (:taste, :space, :digest, :region, :now) ON CONFLICT DO NOTHING"),
            {**bound, "digest": digest, "region": region},
        )


def bets(connection: Connection, taste: str, embedder: str) -> dict[int, Bet]:
    """Returns what was predicted of every region shown so far."""
    rows = connection.execute(
        text("SELECT region, predicted, median FROM slate_bets WHERE taste = :taste AND space = :space"),
        {"taste": taste, "space": space_of(embedder)},
    )
    return {row.region: Bet(*row) for row in rows}


def visits(connection: Connection, taste: str, embedder: str) -> dict[int, int]:
    """Returns how many images of each region were shown."""
    rows = connection.execute(
        text("SELECT region, COUNT(*) AS n FROM slate_images WHERE taste = :taste AND space = :space GROUP BY region"),
        {"taste": taste, "space": space_of(embedder)},
    )
    return {row.region: row.n for row in rows}


def shown(connection: Connection, taste: str, embedder: str) -> list[ShownImage]:
    """Returns the graded images slates showed, each with its grade in force."""
    rows = connection.execute(
        text(
            "SELECT s.region, s.digest, l.grade, l.sequence FROM slate_images AS s JOIN labels_in_force AS l "
            "ON l.taste = s.taste AND l.digest = s.digest WHERE s.taste = :taste AND s.space = :space AND l.grade > 0"
        ),
        {"taste": taste, "space": space_of(embedder)},
    )
    return [ShownImage(*row) for row in rows]


def labels_after(connection: Connection, taste: str, sequence: int) -> int:
    """Returns how many grades in force came after an entry of the log."""
    return connection.execute(
        text("SELECT COUNT(*) FROM labels_in_force WHERE taste = :taste AND grade > 0 AND sequence > :sequence"),
        {"taste": taste, "sequence": sequence},
    ).scalar_one()
