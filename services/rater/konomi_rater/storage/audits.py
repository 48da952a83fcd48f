"""The durable record of audits: what was drawn, what was answered, what ended; nothing of it is ever changed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, RowMapping, text

from konomi.errors import NotFound
from konomi_rater.preference.metrics import Estimate, wilson
from konomi_rater.selection.certificate import AuditLimits
from konomi_rater.storage.labels import OWNER


@dataclass(frozen=True)
class Terms:
    """What one audit is about.

    Attributes:
        limits: what shall be promised.
        threshold: lowest grade that counts as good, 1..5.
        stages: sizes of the nested sets, increasing; the last one is the whole set.
    """

    limits: AuditLimits
    threshold: int
    stages: tuple[int, ...]

    def to_json(self) -> str:
        """Returns the terms as canonical JSON: equal terms, equal text."""
        facts = {
            "alpha": self.limits.alpha,
            "delta": self.limits.delta,
            "allowed_rejections": self.limits.rejections,
            "threshold": self.threshold,
            "stages": self.stages,
        }
        return json.dumps(facts, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, stored: str) -> "Terms":
        """Reads terms back."""
        facts = json.loads(stored)
        limits = AuditLimits(facts["alpha"], facts["delta"], facts["allowed_rejections"])
        return cls(limits, facts["threshold"], tuple(facts["stages"]))


@dataclass(frozen=True)
class AuditRow:
    """One audit, numbered from 1 within its taste.

    Attributes:
        taste: id of the taste.
        number: its number.
        set_digest: artifact that lists the members in order.
        terms: what it is about.
        seed: of the draw.
        version: rater version that scored when it was drawn, 0 where there was none.
        created: Unix time of the draw.
        artifact: the certificate, empty while the audit goes on.
    """

    taste: str
    number: int
    set_digest: str
    terms: Terms
    seed: int
    version: int
    created: float
    artifact: str


@dataclass(frozen=True)
class Answer:
    """One answer of an audit; a later one of the same image replaces it."""

    digest: str
    grade: int
    labeller: str
    created: float


_AUDIT = (
    "SELECT c.*, COALESCE(e.artifact, '') AS artifact FROM certificates AS c LEFT JOIN audits_ended AS e "
    "ON e.taste = c.taste AND e.certificate = c.number WHERE c.taste = :taste AND "
)


def add(connection: Connection, audit: AuditRow) -> AuditRow:
    """Stores an audit under the next number of its taste; `audit.number` is ignored."""
    number = connection.execute(
        text("SELECT COALESCE(MAX(number), 0) + 1 FROM certificates WHERE taste = :taste"), {"taste": audit.taste}
    ).scalar_one()
    connection.execute(
        text("INSERT INTO certificates VALUES (:taste, :number, :set_digest, :limits, :seed, :version, :created)"),
        {
            **{name: getattr(audit, name) for name in ("taste", "set_digest", "seed", "version", "created")},
            "number": number,
            "limits": audit.terms.to_json(),
        },
    )
    return read(connection, audit.taste, int(number))


def read(connection: Connection, taste: str, number: int) -> AuditRow:
    """Returns an audit.

    Raises:
        NotFound: there is none of that number.
    """
    result = connection.execute(text(_AUDIT + "c.number = :number"), {"taste": taste, "number": number})
    row = result.mappings().first()
    if row is None:
        raise NotFound(
            f"expected a certificate of tastes/{taste}, found no certificate {number}; konomi rater certify draws one",
            reason="CERTIFICATE_NOT_FOUND",
        )
    return _audit(row)


def find(connection: Connection, taste: str, set_digest: str, terms: Terms) -> AuditRow | None:
    """Returns the audit of a set under the same terms, where there is one."""
    result = connection.execute(
        text(_AUDIT + "c.set_digest = :set_digest AND c.limits = :limits"),
        {"taste": taste, "set_digest": set_digest, "limits": terms.to_json()},
    )
    row = result.mappings().first()
    return _audit(row) if row is not None else None


def record(connection: Connection, audit: AuditRow, answers: Sequence[Answer]) -> None:
    """Appends answers."""
    for answer in answers:
        connection.execute(
            text(
                "INSERT INTO audit_answers SELECT :taste, :number, COALESCE(MAX(sequence), 0) + 1, :digest, :grade, "
                ":labeller, :created FROM audit_answers WHERE taste = :taste AND certificate = :number"
            ),
            {"taste": audit.taste, "number": audit.number, **vars(answer)},
        )


def answers_of(connection: Connection, taste: str, number: int) -> dict[str, Answer]:
    """Returns the answer that counts of every answered image, by digest."""
    rows = connection.execute(
        text("SELECT * FROM audit_answers WHERE taste = :taste AND certificate = :number ORDER BY sequence"),
        {"taste": taste, "number": number},
    )
    return {row.digest: Answer(row.digest, row.grade, row.labeller, row.created) for row in rows}


def end(connection: Connection, audit: AuditRow, artifact: str, now: float) -> AuditRow:
    """Notes that an audit has ended."""
    connection.execute(
        text("INSERT INTO audits_ended VALUES (:taste, :number, :artifact, :now)"),
        {"taste": audit.taste, "number": audit.number, "artifact": artifact, "now": now},
    )
    return read(connection, audit.taste, audit.number)


def last_end(connection: Connection, taste: str) -> float:
    """Returns when a person last finished an audit of a taste, Unix time; 0.0 where nobody did."""
    newest = connection.execute(text("SELECT MAX(created) FROM audits_ended WHERE taste = :taste"), {"taste": taste})
    return float(newest.scalar() or 0.0)


def _audit(row: RowMapping) -> AuditRow:
    return AuditRow(
        taste=str(row["taste"]),
        number=int(row["number"]),
        set_digest=str(row["set_digest"]),
        terms=Terms.from_json(str(row["limits"])),
        seed=int(row["seed"]),
        version=int(row["version"]),
        created=float(row["created"]),
        artifact=str(row["artifact"]),
    )


class BlindChoice(IntEnum):
    """What a person said of a pair; the numbers are the contract's."""

    UNIT = 1
    AGAINST = 2
    TIE = 3


@dataclass(frozen=True)
class BlindPair:
    """One pair: digests of the judged unit's image and of the other model's, and the choice."""

    unit: str
    against: str
    choice: BlindChoice


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

    def count(self, choice: BlindChoice) -> int:
        """Returns how many pairs were answered so."""
        return sum(pair.choice is choice for pair in self.pairs)

    def win_rate(self) -> Estimate:
        """Returns the share of pairs the unit won, a tie counting half, with Wilson's interval."""
        return wilson(self.count(BlindChoice.UNIT) + self.count(BlindChoice.TIE) / 2, len(self.pairs))


def record_unit(connection: Connection, audit: BlindAudit, now: float) -> BlindAudit:
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


def last_unit_end(connection: Connection, taste: str) -> float:
    """Returns when a person last finished a blind audit of a taste, Unix time; 0.0 where nobody did."""
    newest = connection.execute(text("SELECT MAX(created) FROM blind_audits WHERE taste = :taste"), {"taste": taste})
    return float(newest.scalar() or 0.0)


def held_out(connection: Connection, taste: str) -> frozenset[str]:
    """Returns the digests of all images a person judged blind: they stay out of every training set."""
    rows = connection.execute(
        text("SELECT unit, against FROM blind_pairs WHERE taste = :taste"), {"taste": taste}
    ).all()
    return frozenset(digest for row in rows for digest in (row.unit, row.against))


def pairs_of(rows: Sequence[tuple[str, str, int]]) -> tuple[BlindPair, ...]:
    """Returns pairs from (unit, against, number of the choice)."""
    return tuple(BlindPair(unit, against, BlindChoice(choice)) for unit, against, choice in rows)
