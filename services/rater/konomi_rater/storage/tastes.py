"""Tastes and their rater versions: the rows that say what exists and which version scores."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from konomi.errors import AlreadyExists, FailedPrecondition, NotFound
from konomi_rater.preference.metrics import Estimate
from konomi_rater.preference.population.benefit import Benefit
from konomi_rater.preference.promotion import Diff, EmbedderComparison, PromotionDecision
from konomi_rater.sentences import Sentence


@dataclass(frozen=True)
class TasteRow:
    """One taste; `active` is the number of the version that scores, 0 before the first fit."""

    id: str
    uid: str
    display_name: str
    embedder: str
    base_model: str
    created: float
    active: int
    image_count: int = 0
    label_count: int = 0
    next_embedder: str = ""
    second_embedder: str = ""


@dataclass(frozen=True)
class SecondEmbedder:
    """An embedder a taste keeps beside its own; `seed` is that of the comparison."""

    taste: str
    embedder: str
    seed: int


@dataclass(frozen=True)
class VersionRow:
    """One rater version, numbered from 1 within its taste."""

    taste: str
    number: int
    created: float
    label_count: int
    head: str
    embedder: str
    metrics: Mapping[str, Estimate]
    candidates: Mapping[str, float]
    alarms: Sequence[Sentence]
    artifact: str
    label_digest: str
    populations: Sequence[Benefit] = ()
    comparison_count: int = 0


_TASTE = (
    "SELECT t.*, n.images AS image_count, n.graded AS label_count, "
    "COALESCE((SELECT c.embedder FROM embedder_changes AS c WHERE c.taste = t.id), '') AS next_embedder, "
    "COALESCE((SELECT s.embedder FROM second_embedders AS s WHERE s.taste = t.id), '') AS second_embedder "
    "FROM tastes AS t JOIN taste_counts AS n ON n.taste = t.id "
)


_OWNED = (
    "SELECT 1 FROM images WHERE taste = :taste AND digest = :digest",
    "SELECT 1 FROM rater_versions WHERE taste = :taste AND artifact = :digest",
    "SELECT 1 FROM certificates WHERE taste = :taste AND set_digest = :digest",
    "SELECT 1 FROM audits_ended WHERE taste = :taste AND artifact = :digest",
)


def owns_artifact(connection: Connection, taste: str, digest: str) -> bool:
    """Says whether an artifact is one of a taste: an image it knows, one of its raters, its certificates' sets."""
    bound = {"taste": taste, "digest": digest}
    return any(connection.execute(text(query), bound).first() is not None for query in _OWNED)


def create(
    connection: Connection, taste: str, display_name: str, embedder: str, base_model: str, now: float
) -> TasteRow:
    """Creates a taste.

    Raises:
        AlreadyExists: there is one of that id.
    """
    if connection.execute(text("SELECT 1 FROM tastes WHERE id = :id"), {"id": taste}).first():
        raise AlreadyExists(f"tastes/{taste} exists already; use it, or choose another taste_id", reason="TASTE_EXISTS")
    row = {
        "id": taste,
        "uid": str(uuid.uuid4()),
        "name": display_name,
        "embedder": embedder,
        "base": base_model,
        "now": now,
    }
    connection.execute(text("INSERT INTO tastes VALUES (:id, :uid, :name, :embedder, :base, :now, 0)"), row)
    return read(connection, taste)


def read(connection: Connection, taste: str) -> TasteRow:
    """Returns a taste with its counts.

    Raises:
        NotFound: there is none of that id.
    """
    row = connection.execute(text(_TASTE + "WHERE t.id = :id"), {"id": taste}).mappings().first()
    if row is None:
        raise NotFound(
            f"there is no tastes/{taste[:80]} here; adding pictures to it makes it: konomi import PATH…",
            reason="TASTE_NOT_FOUND",
        )
    return TasteRow(**row)


@dataclass(frozen=True)
class ScoringRow:
    """Which version of a taste scores: number and artifact of its head, 0 and empty where none was fitted."""

    taste: str
    embedder: str
    number: int
    artifact: str


def read_scoring(connection: Connection) -> list[ScoringRow]:
    """Returns what scores, of every taste."""
    rows = connection.execute(
        text(
            "SELECT t.id, t.embedder, t.active, COALESCE(v.artifact, '') AS artifact FROM tastes AS t "
            "LEFT JOIN rater_versions AS v ON v.taste = t.id AND v.number = t.active"
        )
    )
    return [ScoringRow(row.id, row.embedder, row.active, row.artifact) for row in rows]


def read_scored_by(connection: Connection, taste: str, number: int) -> TasteRow:
    """Returns a taste as if a version of it were the one that scores; 0 leaves the one that does.

    Raises:
        NotFound: there is no such taste, or no such version.
    """
    row = read(connection, taste)
    return replace(row, active=read_version(connection, taste, number).number) if number else row


def read_all(connection: Connection, after: str, limit: int) -> list[TasteRow]:
    """Returns up to `limit` tastes past the id `after`, by id; NO_LIMIT means all."""
    rows = connection.execute(
        text(_TASTE + "WHERE t.id > :after ORDER BY t.id LIMIT :limit"), {"after": after, "limit": limit}
    )
    return [TasteRow(**row) for row in rows.mappings()]


_PLAIN = ("taste", "created", "label_count", "head", "embedder", "artifact", "label_digest", "comparison_count")


def add_version(connection: Connection, version: VersionRow, *, activate: bool) -> VersionRow:
    """Stores a version under the next number of its taste; `version.number` is ignored."""
    bound = {"taste": version.taste}
    number = connection.execute(
        text("SELECT COALESCE(MAX(number), 0) + 1 FROM rater_versions WHERE taste = :taste"), bound
    ).scalar_one()
    connection.execute(
        text(
            "INSERT INTO rater_versions VALUES (:taste, :number, :created, :label_count, :head, :embedder, :metrics, "
            ":candidates, :alarms, :artifact, :label_digest, :comparison_count)"
        ),
        {
            **{name: getattr(version, name) for name in _PLAIN},
            "number": number,
            "metrics": json.dumps(
                {name: asdict(estimate) for name, estimate in version.metrics.items()}, sort_keys=True
            ),
            "candidates": json.dumps(dict(version.candidates), sort_keys=True),
            "alarms": json.dumps([str(alarm) for alarm in version.alarms]),
        },
    )
    details = [{"name": alarm.name, "numbers": alarm.numbers, "words": alarm.words} for alarm in version.alarms]
    connection.execute(
        text("INSERT INTO version_alarms VALUES (:taste, :number, :alarms)"),
        {"taste": version.taste, "number": number, "alarms": json.dumps(details, sort_keys=True)},
    )
    if version.populations:
        uses = json.dumps([asdict(benefit) for benefit in version.populations], sort_keys=True)
        connection.execute(
            text("INSERT INTO version_populations VALUES (:taste, :number, :uses)"),
            {"taste": version.taste, "number": number, "uses": uses},
        )
    if activate:
        set_active(connection, version.taste, number)
    return read_version(connection, version.taste, number)


def set_active(connection: Connection, taste: str, number: int) -> VersionRow:
    """Makes a version the one that scores.

    Raises:
        NotFound: no such version.
        FailedPrecondition: it reads another embedder than the taste has.
    """
    version, embedder = read_version(connection, taste, number), read(connection, taste).embedder
    if version.embedder != embedder:
        raise FailedPrecondition(
            f"expected a version that reads {embedder}, the embedder of tastes/{taste}, but version {number} reads "
            f"{version.embedder}; fit a new one, or change the embedder back (konomi rater embedder)",
            reason="EMBEDDER_CHANGED",
        )
    connection.execute(text("UPDATE tastes SET active = :number WHERE id = :taste"), {"taste": taste, "number": number})
    return version


def set_embedder(connection: Connection, taste: str, embedder: str) -> None:
    """Gives a taste another embedder; none of its versions scores any more."""
    bound = {"embedder": embedder, "taste": taste}
    connection.execute(text("UPDATE tastes SET embedder = :embedder, active = 0 WHERE id = :taste"), bound)


def set_second(connection: Connection, second: SecondEmbedder, now: float) -> None:
    """Gives a taste a second embedder, in the place of one it has."""
    bound = {**asdict(second), "now": now}
    connection.execute(
        text(
            "INSERT INTO second_embedders VALUES (:taste, :embedder, :seed, :now) ON CONFLICT (taste) DO UPDATE "
            "SET embedder = excluded.embedder, seed = excluded.seed, created = excluded.created"
        ),
        bound,
    )


def end_second(connection: Connection, taste: str) -> None:
    """Leaves a taste without a second embedder."""
    connection.execute(text("DELETE FROM second_embedders WHERE taste = :taste"), {"taste": taste})


def read_seconds(connection: Connection) -> list[SecondEmbedder]:
    """Returns the second embedders of all tastes, oldest first."""
    rows = connection.execute(text("SELECT taste, embedder, seed FROM second_embedders ORDER BY created, taste"))
    return [SecondEmbedder(row.taste, row.embedder, row.seed) for row in rows]


def embedders_in_use(connection: Connection) -> set[str]:
    """Returns every embedder a taste has, changes to, keeps as a second one, or has a version of."""
    tables = ("tastes", "embedder_changes", "second_embedders", "rater_versions")
    found = connection.execute(text(" UNION ".join(f"SELECT embedder FROM {table}" for table in tables)))
    return {row.embedder for row in found}


def put_embedder_comparison(connection: Connection, taste: str, number: int, found: EmbedderComparison) -> None:
    """Stores what a version's embedder is beside a second one, in the place of what was found before."""
    connection.execute(
        text(
            "INSERT INTO embedder_comparisons VALUES (:taste, :number, :found) "
            "ON CONFLICT (taste, number) DO UPDATE SET comparison = excluded.comparison"
        ),
        {"taste": taste, "number": number, "found": json.dumps(asdict(found), sort_keys=True)},
    )


def read_embedder_comparison(connection: Connection, taste: str, number: int) -> EmbedderComparison | None:
    """Returns what a version's embedder is beside a second one, None where none was compared."""
    document = connection.execute(
        text("SELECT comparison FROM embedder_comparisons WHERE taste = :taste AND number = :number"),
        {"taste": taste, "number": number},
    ).scalar()
    if document is None:
        return None
    facts = json.loads(str(document))
    for name in ("srcc", "second_srcc", "gain"):
        facts[name] = Estimate(**facts[name]) if facts[name] else None
    return EmbedderComparison(**facts)


def read_version(connection: Connection, taste: str, number: int) -> VersionRow:
    """Returns a version.

    Raises:
        NotFound: no such version.
    """
    versions = _versions(connection, "number = :bound", taste, number, 1)
    if not versions:
        raise NotFound(
            f"expected a rater version of tastes/{taste}, found no version {number}; "
            "konomi rater show lists them, konomi rater fit makes one",
            reason="RATER_VERSION_NOT_FOUND",
        )
    return versions[0]


def read_versions(connection: Connection, taste: str, before: int, limit: int) -> list[VersionRow]:
    """Returns up to `limit` versions below number `before`, newest first."""
    return _versions(connection, "number < :bound", taste, before, limit)


def add_diff(connection: Connection, taste: str, number: int, diff: Diff) -> None:
    """Stores what a version's comparison with the one before found."""
    connection.execute(
        text("INSERT INTO version_diffs VALUES (:taste, :number, :diff)"),
        {"taste": taste, "number": number, "diff": json.dumps(asdict(diff), sort_keys=True)},
    )


def read_diff(connection: Connection, taste: str, number: int) -> Diff | None:
    """Returns a version's comparison with the one that scored before it, None where there was none."""
    document = connection.execute(
        text("SELECT diff FROM version_diffs WHERE taste = :taste AND number = :number"),
        {"taste": taste, "number": number},
    ).scalar()
    if document is None:
        return None
    facts = json.loads(str(document))
    figures = {name: Estimate(**facts[name]) for name in ("srcc", "earlier_srcc", "gain") if facts[name]}
    return Diff(facts["against"], PromotionDecision(facts["verdict"]), facts["labels_changed"], **figures)


def _versions(connection: Connection, where: str, taste: str, bound: int, limit: int) -> list[VersionRow]:
    rows = connection.execute(
        text(
            "SELECT v.*, a.alarms AS details, p.uses FROM rater_versions AS v LEFT JOIN version_alarms AS a "
            "USING (taste, number) LEFT JOIN version_populations AS p USING (taste, number) "
            f"WHERE taste = :taste AND {where} ORDER BY number DESC LIMIT :limit"
        ),
        {"taste": taste, "bound": bound, "limit": limit},
    )
    return [_version(row) for row in rows.mappings()]


def _version(row: RowMapping) -> VersionRow:
    facts: dict[str, Any] = dict(row)
    details, uses = facts.pop("details"), json.loads(str(facts.pop("uses") or "[]"))
    for name in ("metrics", "candidates", "alarms"):
        facts[name] = json.loads(str(facts[name]))
    facts["metrics"] = {name: Estimate(**figure) for name, figure in facts["metrics"].items()}
    facts["alarms"] = _alarms(facts["alarms"], json.loads(str(details)) if details is not None else [])
    facts["populations"] = [Benefit(**{**use, "gain": Estimate(**use["gain"])}) for use in uses]
    return VersionRow(**facts)


def _alarms(english: Sequence[str], details: Sequence[Mapping[str, Any]]) -> list[Sentence]:
    """Joins sentences with their names; a version fitted before they had names has the sentences alone."""
    if not details:
        return [Sentence("", english=words) for words in english]
    return [
        Sentence(
            str(detail["name"]),
            {str(name): float(number) for name, number in detail["numbers"].items()},
            {str(name): str(word) for name, word in detail["words"].items()},
            words,
        )
        for words, detail in zip(english, details, strict=True)
    ]


def only_one(connection: Connection) -> str:
    """Returns the id of the only taste there is, or "default"."""
    ids = [row.id for row in connection.execute(text("SELECT id FROM tastes LIMIT 2"))]
    return ids[0] if len(ids) == 1 else "default"
