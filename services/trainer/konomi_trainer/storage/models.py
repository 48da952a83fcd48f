"""The catalogue of models: where each came from, and which is the current one of a taste."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Row, text

from konomi.errors import FailedPrecondition


@dataclass(frozen=True)
class ModelRow:
    """One model; the fields of Model in trainer.proto.

    Attributes:
        method: "lora".
        parents: ids or names as they were given.
        configuration: canonical JSON of the run's configuration.
        current: whether the taste uses it now.
    """

    id: str
    training_run: str
    taste: str
    display_name: str
    method: str
    base_model: str
    base_digest: str
    parents: tuple[str, ...]
    adapter_digest: str
    manifest_digest: str
    rater_version: str
    config_digest: str
    configuration: str
    seed: int
    metrics: dict[str, float]
    night: str
    create_time: float
    current: bool = False
    sequence: int = 0


_SELECT = (
    "SELECT m.*, c.model IS NOT NULL AS current FROM models m"
    " LEFT JOIN current_models c ON c.taste = m.taste AND c.model = m.id"
)


def register(connection: Connection, model: ModelRow) -> None:
    """Adds a model; its adapter must be in the store already, so that no row names what is not there."""
    fields = {name: value for name, value in vars(model).items() if name not in ("current", "sequence")}
    fields |= {"parents": json.dumps(model.parents), "metrics": json.dumps(model.metrics, sort_keys=True)}
    names = ", ".join(fields)
    values = ", ".join(f":{name}" for name in fields)
    connection.execute(text(f"INSERT INTO models ({names}) VALUES ({values})"), fields)


def get(connection: Connection, name: str) -> ModelRow | None:
    """Returns a model by its id, or None."""
    row = connection.execute(text(f"{_SELECT} WHERE m.id = :id"), {"id": name}).one_or_none()
    return None if row is None else _model(row)


def page(connection: Connection, taste: str, before: int, size: int) -> Sequence[ModelRow]:
    """Returns up to `size` models below a sequence number, newest first; of one taste, or of all with ""."""
    rows = connection.execute(
        text(
            f"{_SELECT} WHERE m.sequence < :before AND (:taste = '' OR m.taste = :taste)"
            " ORDER BY m.sequence DESC LIMIT :size"
        ),
        {"taste": taste, "before": before, "size": size},
    )
    return [_model(row) for row in rows]


def promote(connection: Connection, model: ModelRow, metrics: Mapping[str, float], now: float) -> ModelRow:
    """Makes a model its taste's current one and adds figures to it; where it is that already, only the figures."""
    merged = {**model.metrics, **metrics}
    connection.execute(
        text("UPDATE models SET metrics = :metrics WHERE id = :id"),
        {"id": model.id, "metrics": json.dumps(merged, sort_keys=True)},
    )
    if not model.current:
        before = _current(connection, model.taste)
        sequence = _log(connection, model.taste, "promote", model.id, before.promotion if before else None, now)
        connection.execute(
            text(
                "INSERT INTO current_models VALUES (:taste, :model, :promotion)"
                " ON CONFLICT (taste) DO UPDATE SET model = excluded.model, promotion = excluded.promotion"
            ),
            {"taste": model.taste, "model": model.id, "promotion": sequence},
        )
    return replace(model, metrics=merged, current=True)


def roll_back_to(connection: Connection, taste: str, to: str, now: float) -> ModelRow | None:
    """Takes promotions back until a model is current again, and returns it; None is the base model.

    Args:
        connection: the caller's transaction, which an error undoes.
        taste: the taste.
        to: "models/{model}", "base", or empty for the model before.
        now: Unix time.

    Raises:
        FailedPrecondition: the base model is current already, or the model asked for was not current before.
    """
    while True:
        model = roll_back(connection, taste, now)
        if not to or (to == "base" if model is None else to == f"models/{model.id}"):
            return model
        if model is None:
            raise FailedPrecondition(
                f"expected a model that was current before, found {to}; promote it instead",
                reason="NEVER_CURRENT",
            )


def roll_back(connection: Connection, taste: str, now: float) -> ModelRow | None:
    """Returns a taste to the model that was current before, None being the base model; the history keeps both steps.

    Raises:
        FailedPrecondition: the base model is current already.
    """
    current = _current(connection, taste)
    if current is None:
        raise FailedPrecondition(
            f"expected a promoted model of {taste}; the base model is current: there is nothing to roll back",
            reason="NOTHING_TO_ROLL_BACK",
        )
    before = connection.execute(
        text(
            "SELECT b.sequence, b.model FROM promotions p JOIN promotions b ON b.sequence = p.before"
            " WHERE p.sequence = :promotion"
        ),
        {"promotion": current.promotion},
    ).one_or_none()
    _log(connection, taste, "rollback", before.model if before else None, current.promotion, now)
    if before is None:
        connection.execute(text("DELETE FROM current_models WHERE taste = :taste"), {"taste": taste})
        return None
    connection.execute(
        text("UPDATE current_models SET model = :model, promotion = :promotion WHERE taste = :taste"),
        {"taste": taste, "model": before.model, "promotion": before.sequence},
    )
    return get(connection, before.model)


def was_promoted(connection: Connection, model: ModelRow) -> bool:
    """Says whether a model was ever its taste's current one."""
    promotions = connection.execute(text("SELECT 1 FROM promotions WHERE model = :id LIMIT 1"), {"id": model.id})
    return promotions.one_or_none() is not None


def exchange(connection: Connection, model: ModelRow, adapter_digest: str, metrics: Mapping[str, float]) -> None:
    """Gives a model that was never promoted another checkpoint of its own run."""
    connection.execute(
        text("UPDATE models SET adapter_digest = :adapter, metrics = :metrics WHERE id = :id"),
        {"id": model.id, "adapter": adapter_digest, "metrics": json.dumps(dict(metrics), sort_keys=True)},
    )


def _current(connection: Connection, taste: str) -> Row | None:
    row: Row | None = connection.execute(
        text("SELECT model, promotion FROM current_models WHERE taste = :taste"), {"taste": taste}
    ).one_or_none()
    return row


def _log(connection: Connection, taste: str, action: str, model: str | None, before: int | None, now: float) -> int:
    sequence = connection.execute(
        text(
            "INSERT INTO promotions (taste, action, model, before, time)"
            " VALUES (:taste, :action, :model, :before, :now) RETURNING sequence"
        ),
        {"taste": taste, "action": action, "model": model, "before": before, "now": now},
    ).scalar_one()
    return int(sequence)


def _model(row: Row) -> ModelRow:
    fields = {**row._mapping}
    fields |= {"parents": tuple(json.loads(fields["parents"])), "metrics": json.loads(fields["metrics"])}
    return ModelRow(**{**fields, "current": bool(fields["current"])})
