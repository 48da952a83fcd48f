"""The newest form of the rater's tables, as both engines have them; who adds a migration changes it here too."""

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
)
from sqlalchemy import text as sql

from konomi_chassis.storage.schema import binary, counted, number, text, whole

TABLES = MetaData()


def _taste(**options: Any) -> Column[str]:
    return text("taste", ForeignKey("tastes.id"), **options)


def _key(name: str) -> Column[int]:
    return whole(name, primary_key=True, autoincrement=False)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sql(condition), "postgresql_where": sql(condition)}


def _of_version() -> tuple[Any, ...]:
    """Returns key and reference of what belongs to one rater version."""
    reference = ForeignKeyConstraint(["taste", "number"], ["rater_versions.taste", "rater_versions.number"])
    return text("taste", primary_key=True), _key("number"), reference


def _table(name: str, *parts: Any) -> Table:
    return Table(name, TABLES, *parts)


_OF_CERTIFICATE = (["taste", "certificate"], ["certificates.taste", "certificates.number"])

EVERY = (
    _table(
        "tastes",
        text("id", primary_key=True),
        *map(text, ("uid", "display_name", "embedder", "base_model")),
        number("created"),
        whole("active", server_default=sql("0")),
    ),
    _table(
        "images",
        counted("row"),
        _taste(),
        text("digest"),
        whole("source"),
        text("prompt"),
        whole("seed"),
        *map(text, ("unit", "night", "parents", "licence", "consent", "parameters")),
        whole("width"),
        whole("height"),
        number("created"),
        text("path", server_default=""),
        text("elsewhere_model", server_default=""),
        UniqueConstraint("taste", "digest"),
        Index("images_by_taste", "taste", "row"),
        Index("images_by_consent", "taste", "consent", "source", **_where("consent > ''")),
    ),
    _table("embeddings", text("digest", primary_key=True), text("embedder", primary_key=True), binary("vector")),
    _table(
        "labels",
        _taste(primary_key=True),
        _key("sequence"),
        text("digest"),
        whole("grade"),
        text("labeller"),
        whole("reason"),
        number("created"),
        whole("undoes", nullable=True),
        text("chain"),
        CheckConstraint("grade BETWEEN 0 AND 5"),
        Index("labels_undone_once", "taste", "undoes", unique=True, **_where("undoes IS NOT NULL")),
        Index("labels_by_image", "taste", "digest", "sequence"),
        Index("labels_repeated", "taste", "digest", **_where("reason = 4")),
    ),
    _table(
        "comparisons",
        _taste(primary_key=True),
        _key("sequence"),
        text("winner"),
        text("loser"),
        whole("tie"),
        text("labeller"),
        number("created"),
        whole("undoes", nullable=True),
        Index("comparisons_undone_once", "taste", "undoes", unique=True, **_where("undoes IS NOT NULL")),
    ),
    _table(
        "rater_versions",
        _taste(primary_key=True),
        _key("number"),
        number("created"),
        whole("label_count"),
        *map(text, ("head", "embedder", "metrics", "candidates", "alarms", "artifact", "label_digest")),
        whole("comparison_count", server_default=sql("0")),
    ),
    _table("panel", _taste(primary_key=True), text("digest", primary_key=True), number("joined")),
    _table("version_diffs", *_of_version(), text("diff")),
    _table(
        "selections",
        _taste(primary_key=True),
        text("chosen", primary_key=True),
        _key("version"),
        text("policy", primary_key=True),
        number("kept_share"),
        number("created"),
        text("purpose", server_default=""),
        Index("selections_by_time", "taste", "created"),
    ),
    _table(
        "certificates",
        _taste(primary_key=True),
        _key("number"),
        text("set_digest"),
        text("limits"),
        whole("seed"),
        whole("version"),
        number("created"),
        UniqueConstraint("taste", "set_digest", "limits"),
    ),
    _table(
        "audit_answers",
        text("taste", primary_key=True),
        _key("certificate"),
        _key("sequence"),
        text("digest"),
        whole("grade"),
        text("labeller"),
        number("created"),
        CheckConstraint("grade BETWEEN 1 AND 5"),
        ForeignKeyConstraint(*_OF_CERTIFICATE),
    ),
    _table(
        "audits_ended",
        text("taste", primary_key=True),
        _key("certificate"),
        text("artifact"),
        number("created"),
        ForeignKeyConstraint(*_OF_CERTIFICATE),
    ),
    _table("embedder_changes", _taste(primary_key=True), text("embedder"), whole("seed"), number("created")),
    _table(
        "images_forgotten",
        counted("sequence"),
        text("taste"),
        whole("row"),
        Index("images_forgotten_by_taste", "taste", "sequence"),
    ),
    _table(
        "blind_audits",
        _taste(primary_key=True),
        _key("number"),
        *map(text, ("night", "unit", "against", "labeller")),
        number("created"),
    ),
    _table(
        "blind_pairs",
        text("taste", primary_key=True),
        _key("audit"),
        _key("place"),
        text("unit"),
        text("against"),
        whole("choice"),
        CheckConstraint("choice BETWEEN 1 AND 3"),
        ForeignKeyConstraint(["taste", "audit"], ["blind_audits.taste", "blind_audits.number"]),
    ),
    _table(
        "consents",
        _taste(primary_key=True),
        _key("sequence"),
        *map(text, ("reference", "giver", "licence")),
        number("created"),
        Index("consents_by_reference", "taste", "reference", "sequence"),
    ),
    _table(
        "revoked_consents",
        _taste(primary_key=True),
        text("reference", primary_key=True),
        text("why"),
        number("created"),
    ),
    _table(
        "revoked_images",
        _taste(primary_key=True),
        text("digest", primary_key=True),
        whole("sequence"),
        whole("source"),
        *map(text, ("licence", "consent", "why")),
        number("created"),
        Index("revoked_images_by_consent", "taste", "consent"),
    ),
    _table(
        "slate_maps",
        _taste(primary_key=True),
        text("space", primary_key=True),
        *map(whole, ("regions", "seed", "base_count", "after")),
        number("created"),
    ),
    _table(
        "slate_bets",
        _taste(primary_key=True),
        text("space", primary_key=True),
        _key("region"),
        *map(number, ("predicted", "median", "created")),
    ),
    _table(
        "slate_images",
        _taste(primary_key=True),
        text("space", primary_key=True),
        text("digest", primary_key=True),
        whole("region"),
        number("created"),
    ),
    _table("version_alarms", *_of_version(), text("alarms")),
    _table(
        "labels_in_force",
        text("taste", primary_key=True),
        text("digest", primary_key=True),
        *map(whole, ("sequence", "grade")),
        text("labeller"),
        whole("reason"),
        number("created"),
        Index("labels_in_force_by_sequence", "taste", "sequence"),
    ),
    _table("taste_counts", text("taste", primary_key=True), whole("images"), whole("graded")),
    _table(
        "collected_images",
        _taste(primary_key=True),
        _key("sequence"),
        text("digest"),
        whole("returned"),
        whole("bytes"),
        text("policy"),
        number("created"),
        CheckConstraint("returned IN (0, 1)"),
    ),
    _table(
        "images_without_pixels",
        _taste(primary_key=True),
        text("digest", primary_key=True),
        whole("unembedded", server_default=sql("0")),
        CheckConstraint("unembedded IN (0, 1)"),
    ),
    _table("pixels_leaving", text("digest", primary_key=True), number("created")),
    _table("version_populations", *_of_version(), text("uses")),
    _table(
        "population_images",
        text("population", primary_key=True),
        text("image", primary_key=True),
        whole("ratings"),
        number("learnt"),
    ),
    _table("second_embedders", _taste(primary_key=True), text("embedder"), whole("seed"), number("created")),
    _table("embedder_comparisons", *_of_version(), text("comparison")),
    _table(
        "favourites",
        _taste(primary_key=True),
        text("digest", primary_key=True),
        whole("sequence"),
        number("created"),
        Index("favourites_by_sequence", "taste", "sequence"),
    ),
)
"""The tables in the order the migrations made them."""
