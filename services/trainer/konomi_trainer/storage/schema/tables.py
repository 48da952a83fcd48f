"""The newest form of the trainer's tables, as both engines have them; who adds a migration changes it here too."""

from sqlalchemy import CheckConstraint, ForeignKey, MetaData, Table, UniqueConstraint

from konomi_chassis.storage.schema import binary, counted, number, text, whole

TABLES = MetaData()

_RUN = "training_runs.id"

EVERY = (
    Table(
        "training_runs",
        TABLES,
        counted("sequence"),
        text("id", unique=True),
        *map(text, ("taste", "manifest_digest", "config_digest")),
        binary("request"),
        *map(text, ("configuration", "state", "phase")),
        *map(whole, ("step", "total_steps")),
        number("loss"),
        whole("cancel_requested"),
        text("model"),
        whole("error_code"),
        *map(text, ("error_reason", "error_message")),
        number("create_time"),
        UniqueConstraint("taste", "manifest_digest", "config_digest"),
    ),
    Table(
        "models",
        TABLES,
        counted("sequence"),
        text("id", unique=True),
        text("training_run", ForeignKey(_RUN), unique=True),
        *map(text, ("taste", "display_name", "method", "base_model", "base_digest", "parents", "adapter_digest")),
        *map(text, ("manifest_digest", "rater_version", "config_digest", "configuration")),
        whole("seed"),
        *map(text, ("metrics", "night")),
        number("create_time"),
    ),
    Table(
        "promotions",
        TABLES,
        counted("sequence"),
        text("taste"),
        text("action"),
        text("model", ForeignKey("models.id"), nullable=True),
        whole("before", ForeignKey("promotions.sequence"), nullable=True),
        number("time"),
        CheckConstraint("action IN ('promote', 'rollback')"),
    ),
    Table(
        "current_models",
        TABLES,
        text("taste", primary_key=True),
        text("model", ForeignKey("models.id")),
        whole("promotion", ForeignKey("promotions.sequence")),
    ),
    Table(
        "training_checkpoints",
        TABLES,
        text("run", ForeignKey(_RUN), primary_key=True),
        whole("step", primary_key=True, autoincrement=False),
        number("loss"),
        number("validation_loss", nullable=True),
        *map(text, ("adapter_digest", "sheet_digest")),
    ),
    Table(
        "collected_checkpoints",
        TABLES,
        text("run", ForeignKey(_RUN), primary_key=True),
        whole("step", primary_key=True, autoincrement=False),
        text("adapter_digest"),
        whole("bytes"),
        text("policy"),
        number("created"),
    ),
)
"""The tables in the order the migrations made them."""
