"""Blind audits: a person's choices between two models' images at equal prompts and seeds, sides hidden; append-only.

They are the audit split of a taste: no rater is fitted on them, and no image of theirs enters a training set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, text

from konomi_rater.labels import OWNER
from konomi_rater.metrics import Estimate

Z95 = 1.959964


class Choice(IntEnum):
    """What a person said of a pair; the numbers are the contract's."""

    UNIT = 1
    AGAINST = 2
    TIE = 3


@dataclass(frozen=True)
class BlindPair:
    """One pair: digests of the judged unit's image and of the other model's, and the choice."""

    unit: str
    against: str
    choice: Choice


@dataclass(frozen=True)
class BlindAudit:
    """One finished audit.

    Attributes:
        taste: id of the taste.
        night: id of the night whose unit was judged; may be empty.
        unit: id of the judged model.
        against: "base" or the id of the model it was compared with.
        pairs: the answered pairs, in the order they were shown.
        labeller: who chose.
        number: position among the taste's blind audits, from 1; 0 before it is recorded.
        created: Unix time.
    """

    taste: str
    night: str
    unit: str
    against: str
    pairs: tuple[BlindPair, ...]
    labeller: str = OWNER
    number: int = 0
    created: float = 0.0

    def count(self, choice: Choice) -> int:
        """Returns how many pairs were answered so."""
        return sum(pair.choice is choice for pair in self.pairs)

    def win_rate(self) -> Estimate:
        """Returns the share of pairs the unit won, a tie counting half, with Wilson's interval."""
        return wilson(self.count(Choice.UNIT) + self.count(Choice.TIE) / 2, len(self.pairs))


def wilson(hits: float, n: int) -> Estimate:
    """Returns hits / n with the score interval of Wilson (1927); 0 to 1 where n is 0."""
    if not n:
        return Estimate(0.0, 0.0, 1.0, 0)
    p, z2 = hits / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half), n)


def record(connection: Connection, audit: BlindAudit, now: float) -> BlindAudit:
    """Appends an audit under the next number of its taste and returns it; `audit.number` is ignored."""
    number = connection.execute(
        text("SELECT COALESCE(MAX(number), 0) + 1 FROM blind_audits WHERE taste = :taste"), {"taste": audit.taste}
    ).scalar_one()
    facts = {name: getattr(audit, name) for name in ("taste", "night", "unit", "against", "labeller")}
    connection.execute(
        text("INSERT INTO blind_audits VALUES (:taste, :number, :night, :unit, :against, :labeller, :created)"),
        {**facts, "number": number, "created": now},
    )
    rows = [
        {
            "taste": audit.taste,
            "audit": number,
            "place": place,
            "unit": pair.unit,
            "against": pair.against,
            "choice": int(pair.choice),
        }
        for place, pair in enumerate(audit.pairs)
    ]
    connection.execute(text("INSERT INTO blind_pairs VALUES (:taste, :audit, :place, :unit, :against, :choice)"), rows)
    return BlindAudit(**facts, pairs=audit.pairs, number=int(number), created=now)


def last_end(connection: Connection, taste: str) -> float:
    """Returns when a person last finished a blind audit of a taste, Unix time; 0.0 where nobody did."""
    found = connection.execute(text("SELECT MAX(created) FROM blind_audits WHERE taste = :taste"), {"taste": taste})
    return float(found.scalar() or 0.0)


def held_out(connection: Connection, taste: str) -> frozenset[str]:
    """Returns the digests of all images a person judged blind: they stay out of every training set."""
    rows = connection.execute(
        text("SELECT unit, against FROM blind_pairs WHERE taste = :taste"), {"taste": taste}
    ).all()
    return frozenset(digest for row in rows for digest in (row.unit, row.against))


def pairs_of(rows: Sequence[tuple[str, str, int]]) -> tuple[BlindPair, ...]:
    """Returns pairs from (unit, against, number of the choice)."""
    return tuple(BlindPair(unit, against, Choice(choice)) for unit, against, choice in rows)
