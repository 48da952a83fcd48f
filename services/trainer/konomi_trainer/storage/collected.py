"""Adapters of checkpoints the storage policy took: which may go, the record of what went, and the taking.

Only an adapter is taken that a run published which succeeded, and that is no model's; the run keeps its sample sheets
and its figures. It is written down in one transaction, and removed inside a second one that looks again.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy
from sqlalchemy import Connection, text

from konomi_chassis.storage.artifacts import GRACE_SECONDS, ArtifactStore, elsewhere
from konomi_chassis.storage.database import reading
from konomi_chassis.storage.failpoints import failpoint
from konomi_trainer.storage.runs import SUCCEEDED

BATCH = 64
SUPERSEDED = "superseded"


@dataclass
class CheckpointsTaken:
    """What a run found by kind (digest to bytes), and what it took or would take."""

    kinds: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    digests: list[str] = field(default_factory=list)
    size: int = 0


class CheckpointCollection:
    """Takes superseded adapters."""

    def __init__(self, engine: sqlalchemy.Engine, store: ArtifactStore, clock: Callable[[], float]) -> None:
        self._engine, self._store, self._clock = engine, store, clock

    def run(self, seconds: float, *, dry: bool) -> CheckpointsTaken:
        """Takes the superseded adapters nobody put or used for so many seconds, a day at least; none for 0.

        Raises:
            FailedPrecondition: the store is no folder of this machine.
        """
        if not dry and not self._store.is_local:
            raise elsewhere()
        cutoff = self._clock() - max(seconds, GRACE_SECONDS) if seconds else 0.0
        result = CheckpointsTaken()
        with reading(self._engine) as connection:
            for digest, kind in _kinds(connection).items():
                kind, size = self._kind(digest, kind, cutoff)
                result.kinds[kind][digest] = size
        going = sorted(result.kinds.get(SUPERSEDED, {}))
        if dry:
            result.digests, result.size = going, sum(result.kinds.get(SUPERSEDED, {}).values())
            return result
        policy = f"superseded checkpoints older than {seconds / 86400:g} days"
        for start in range(0, len(going), BATCH):
            self._take(going[start : start + BATCH], cutoff, policy, result)
        return result

    def _kind(self, digest: str, kind: str, cutoff: float) -> tuple[str, int]:
        """Returns the kind of an adapter where time and the store have their say, and its bytes."""
        size = self._store.size(digest)
        if size is None:
            return ("collected" if kind == "collected" else "absent"), 0
        if kind not in (SUPERSEDED, "collected"):
            return kind, size
        used = self._store.last_used(digest)
        return ("elsewhere" if used is None else "recent" if used >= cutoff else SUPERSEDED), size

    def _take(self, digests: list[str], cutoff: float, policy: str, result: CheckpointsTaken) -> None:
        with self._engine.begin() as connection:
            free = _still_superseded(connection, digests)
            for digest in free:
                _record(connection, digest, self._store.size(digest) or 0, policy, self._clock())
        failpoint("checkpoints.after_record")
        with self._engine.begin() as connection:
            free = _still_superseded(connection, free)
            done = self._store.discard(free, cutoff)
            for digest in done.kept:  # put again meanwhile: it is there, so it counts as never taken
                connection.execute(
                    text("DELETE FROM collected_checkpoints WHERE adapter_digest = :digest"), {"digest": digest}
                )
        failpoint("checkpoints.after_adapters")
        result.digests += sorted(done.freed)
        result.size += sum(done.freed.values())


def _kinds(connection: Connection) -> dict[str, str]:
    """Returns every published adapter and what the tables say of it."""
    rows = connection.execute(
        text(
            "SELECT c.adapter_digest AS digest,"
            " MAX(CASE WHEN c.adapter_digest IN (SELECT adapter_digest FROM models) THEN 1 ELSE 0 END) AS model,"
            " MAX(CASE WHEN r.state <> :succeeded THEN 1 ELSE 0 END) AS unfinished,"
            " MAX(CASE WHEN g.run IS NOT NULL THEN 1 ELSE 0 END) AS collected"
            " FROM training_checkpoints AS c JOIN training_runs AS r ON r.id = c.run"
            " LEFT JOIN collected_checkpoints AS g ON g.run = c.run AND g.step = c.step"
            " WHERE c.adapter_digest <> '' GROUP BY c.adapter_digest"
        ),
        {"succeeded": SUCCEEDED},
    )
    return {
        row.digest: "model"
        if row.model
        else "unfinished"
        if row.unfinished
        else "collected"
        if row.collected
        else SUPERSEDED
        for row in rows
    }


def _still_superseded(connection: Connection, digests: list[str]) -> list[str]:
    kinds = _kinds(connection)
    return [digest for digest in digests if kinds.get(digest) in (SUPERSEDED, "collected")]


def _record(connection: Connection, digest: str, size: int, policy: str, now: float) -> None:
    connection.execute(
        text(
            "INSERT INTO collected_checkpoints SELECT run, step, adapter_digest, :bytes, :policy, :now"
            " FROM training_checkpoints WHERE adapter_digest = :digest ON CONFLICT DO NOTHING"
        ),
        {"digest": digest, "bytes": size, "policy": policy, "now": now},
    )
