"""The table of training runs: one row for each taste, manifest and configuration, and never a second one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, text

from konomi.errors import KonomiError

QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "queued", "running", "succeeded", "failed", "cancelled"
ENDED = (SUCCEEDED, FAILED, CANCELLED)


@dataclass(frozen=True)
class Run:
    """One row; the fields of TrainingRun in trainer.proto.

    Attributes:
        request: serialized CreateTrainingRunRequest, defaults filled in.
        configuration: canonical JSON of the configuration.
        state: queued, running, succeeded, failed or cancelled.
        cancel_requested: whether it shall stop after its current step.
        model: id of the model it made, or "".
        error_code: gRPC status code, 0 while nothing failed.
    """

    sequence: int
    id: str
    taste: str
    manifest_digest: str
    config_digest: str
    request: bytes
    configuration: str
    state: str
    phase: str
    step: int
    total_steps: int
    loss: float
    cancel_requested: bool
    model: str
    error_code: int
    error_reason: str
    error_message: str
    create_time: float

    @property
    def retryable(self) -> bool:
        """True where asking again makes sense: cancelled, or failed by something that may have been put right."""
        return self.state == CANCELLED or (self.state == FAILED and self.error_reason != "DIVERGED")


def run_id(taste: str, manifest_digest: str, config_digest: str) -> str:
    """Returns the id a run has on every machine: what it trains on decides it."""
    return hashlib.sha256(f"{taste}\n{manifest_digest}\n{config_digest}".encode()).hexdigest()[:32]


_QUEUE_NEW = (
    "INSERT INTO training_runs (id, taste, manifest_digest, config_digest, request, configuration, state,"
    " phase, step, total_steps, loss, cancel_requested, model, error_code, error_reason, error_message,"
    " create_time) VALUES (:id, :taste, :manifest, :config, :request, :configuration, 'queued', 'queued',"
    " 0, :total, 0.0, 0, '', 0, '', '', :now)"
)
_QUEUE_AGAIN = (
    "UPDATE training_runs SET state = 'queued', phase = 'queued', cancel_requested = 0, error_code = 0,"
    " error_reason = '', error_message = '' WHERE id = :id"
)


def create(
    connection: Connection,
    taste: str,
    manifest_digest: str,
    config_digest: str,
    *,
    request: bytes,
    configuration: str,
    total_steps: int,
    now: float,
) -> Run:
    """Returns the run of this taste, manifest and configuration: a new one, or the one there is.

    One that was cancelled, or failed by something that may have been put right, is queued again and goes on
    from its last checkpoint.
    """
    name = run_id(taste, manifest_digest, config_digest)
    existing = get(connection, name)
    if existing is None:
        connection.execute(
            text(_QUEUE_NEW),
            {
                "id": name,
                "taste": taste,
                "manifest": manifest_digest,
                "config": config_digest,
                "request": request,
                "configuration": configuration,
                "total": total_steps,
                "now": now,
            },
        )
    elif existing.retryable:
        connection.execute(text(_QUEUE_AGAIN), {"id": name})
    run = get(connection, name)
    assert run is not None
    return run


def get(connection: Connection, name: str) -> Run | None:
    """Returns a run by its id, or None."""
    row = connection.execute(text("SELECT * FROM training_runs WHERE id = :id"), {"id": name}).one_or_none()
    return None if row is None else _run(row)


def page(connection: Connection, before: int, size: int) -> Sequence[Run]:
    """Returns up to `size` runs below a sequence number, newest first."""
    rows = connection.execute(
        text("SELECT * FROM training_runs WHERE sequence < :before ORDER BY sequence DESC LIMIT :size"),
        {"before": before, "size": size},
    )
    return [_run(row) for row in rows]


def next_unfinished(connection: Connection) -> Run | None:
    """Returns the run to work on: one that was interrupted before any that waits, then the oldest."""
    row = connection.execute(
        text(
            "SELECT * FROM training_runs WHERE state IN ('running', 'queued')"
            " ORDER BY state = 'queued', sequence LIMIT 1"
        )
    ).one_or_none()
    return None if row is None else _run(row)


def start(connection: Connection, name: str) -> bool:
    """Marks a run as running; False where it was cancelled meanwhile."""
    changed = connection.execute(
        text(
            "UPDATE training_runs SET state = 'running' WHERE id = :id AND state IN ('queued', 'running')"
            " AND cancel_requested = 0"
        ),
        {"id": name},
    )
    return changed.rowcount == 1


def request_cancel(connection: Connection, name: str) -> None:
    """Asks a run to stop: at once where it waits, after its current step where it runs, never where it has ended."""
    connection.execute(
        text(
            "UPDATE training_runs SET cancel_requested = 1,"
            " phase = CASE state WHEN 'queued' THEN 'cancelled' ELSE phase END,"
            " state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END"
            " WHERE id = :id AND state IN ('queued', 'running')"
        ),
        {"id": name},
    )


@dataclass(frozen=True)
class Published:
    """A published checkpoint; the fields of TrainingCheckpoint in trainer.proto."""

    step: int
    loss: float
    validation_loss: float | None
    adapter_digest: str
    sheet_digest: str
    adapter_collected: bool = False


def publish(connection: Connection, name: str, checkpoint: Published) -> None:
    """Adds a published checkpoint of a run, or puts it in the place of one of the same step."""
    connection.execute(
        text(
            "INSERT INTO training_checkpoints (run, step, loss, validation_loss, adapter_digest, sheet_digest)"
            " VALUES (:run, :step, :loss, :validation_loss, :adapter_digest, :sheet_digest)"
            " ON CONFLICT (run, step) DO UPDATE SET loss = excluded.loss, validation_loss = excluded.validation_loss,"
            " adapter_digest = excluded.adapter_digest, sheet_digest = excluded.sheet_digest"
        ),
        {"run": name, **{key: value for key, value in vars(checkpoint).items() if key != "adapter_collected"}},
    )


def published(connection: Connection, name: str) -> tuple[Published, ...]:
    """Returns what a run published, by rising step."""
    rows = connection.execute(
        text(
            "SELECT c.step, c.loss, c.validation_loss, c.adapter_digest, c.sheet_digest,"
            " g.run IS NOT NULL AS adapter_collected FROM training_checkpoints AS c"
            " LEFT JOIN collected_checkpoints AS g ON g.run = c.run AND g.step = c.step"
            " WHERE c.run = :run ORDER BY c.step"
        ),
        {"run": name},
    )
    return tuple(Published(**{**row._mapping, "adapter_collected": bool(row.adapter_collected)}) for row in rows)


def succeed(connection: Connection, name: str, model: str, step: int, loss: float) -> None:
    """Ends a run with its model; belongs into the transaction that registers the model."""
    connection.execute(
        text(
            "UPDATE training_runs SET state = 'succeeded', phase = 'done', model = :model, step = :step, loss = :loss"
            " WHERE id = :id"
        ),
        {"id": name, "model": model, "step": step, "loss": loss},
    )


def fail(connection: Connection, name: str, error: KonomiError, step: int, loss: float) -> None:
    """Ends a run with an error, unless somebody has finished it meanwhile."""
    connection.execute(
        text(
            "UPDATE training_runs SET state = 'failed', phase = 'failed', step = :step, loss = :loss,"
            " error_code = :code, error_reason = :reason, error_message = :message"
            " WHERE id = :id AND state != 'succeeded'"
        ),
        {
            "id": name,
            "code": error.code.value[0],
            "reason": error.reason,
            "message": error.message,
            "step": step,
            "loss": loss,
        },
    )


def cancel(connection: Connection, name: str, step: int, loss: float) -> None:
    """Ends a run because somebody asked for it, unless somebody has finished it meanwhile."""
    connection.execute(
        text(
            "UPDATE training_runs SET state = 'cancelled', phase = 'cancelled', step = :step, loss = :loss"
            " WHERE id = :id AND state != 'succeeded'"
        ),
        {"id": name, "step": step, "loss": loss},
    )


def _run(row: Row) -> Run:
    fields = {**row._mapping}
    return Run(**{**fields, "request": bytes(fields["request"]), "cancel_requested": bool(fields["cancel_requested"])})
