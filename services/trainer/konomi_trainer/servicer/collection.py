"""The part of TrainerService that collects the adapters of checkpoints that became no model."""

from collections.abc import Callable

import grpc
import sqlalchemy

from konomi.v1 import trainer_pb2 as pb
from konomi.v1.trainer_pb2_grpc import TrainerServiceServicer
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import reading
from konomi_chassis.storage.idempotency import Idempotency
from konomi_trainer.storage.collected import CheckpointCollection


class CollectionRpcs(TrainerServiceServicer):
    """Serves the collection of superseded checkpoints; whoever inherits it joins the parts."""

    _engine: sqlalchemy.Engine
    _store: ArtifactStore
    _clock: Callable[[], float]
    _idempotency: Idempotency

    def CollectCheckpoints(
        self, request: pb.CollectCheckpointsRequest, context: grpc.ServicerContext
    ) -> pb.CollectCheckpointsResponse:
        """Collects superseded adapters, or says which would go; only the former is kept under the request id."""
        with reading(self._engine) as connection:
            earlier = self._idempotency.replay(connection, "CollectCheckpoints", request)
        if earlier is not None:
            return pb.CollectCheckpointsResponse.FromString(earlier)
        collection = CheckpointCollection(self._engine, self._store, self._clock)
        done = collection.run(request.checkpoint_seconds, dry=request.dry_run)
        reply = pb.CollectCheckpointsResponse(
            kinds=[
                pb.CheckpointKind(kind=name, count=len(sizes), bytes=sum(sizes.values()))
                for name, sizes in sorted(done.kinds.items())
            ],
            count=len(done.digests),
            bytes=done.size,
            digests=done.digests if request.dry_run else (),
        )
        if request.dry_run:
            return reply
        with self._engine.begin() as connection:
            earlier = self._idempotency.replay(connection, "CollectCheckpoints", request)
            if earlier is not None:
                return pb.CollectCheckpointsResponse.FromString(earlier)
            self._idempotency.remember(connection, "CollectCheckpoints", request, reply)
        return reply
