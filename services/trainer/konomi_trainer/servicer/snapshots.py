"""The part of TrainerService that takes a taste's models elsewhere: their lineage, as artifacts and back."""

from collections.abc import Iterator

import grpc
import sqlalchemy

from konomi.v1 import artifact_pb2
from konomi.v1 import trainer_pb2 as pb
from konomi.v1.trainer_pb2_grpc import TrainerServiceServicer
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.dialects import NO_LIMIT
from konomi_chassis.storage.failpoints import failpoint
from konomi_chassis.storage.idempotency import Idempotency
from konomi_trainer.storage import models
from konomi_trainer.storage.snapshots import LineageSnapshots


class SnapshotRpcs(TrainerServiceServicer):
    """Serves exports and imports of lineages; whoever inherits it joins the parts."""

    _engine: sqlalchemy.Engine
    _store: ArtifactStore
    _idempotency: Idempotency

    def ExportLineage(
        self, request: pb.ExportLineageRequest, context: grpc.ServicerContext
    ) -> Iterator[artifact_pb2.SnapshotArtifact]:
        """Writes a taste's lineage as artifacts and names them."""
        for stored, part in LineageSnapshots(self._engine, self._store).export(request.taste):
            artifact = artifact_pb2.Artifact(
                digest=stored.digest, media_type=stored.media_type, size_bytes=stored.size_bytes
            )
            yield artifact_pb2.SnapshotArtifact(artifact=artifact, part=artifact_pb2.SnapshotPart.ValueType(int(part)))

    def ImportLineage(
        self, request: pb.ImportLineageRequest, context: grpc.ServicerContext
    ) -> pb.ImportLineageResponse:
        """Restores a lineage in one transaction."""
        snapshots = LineageSnapshots(self._engine, self._store)
        taste, tables = snapshots.read(request.rows_digest, request.taste)
        with self._engine.begin() as connection:
            earlier = self._idempotency.replay(connection, "ImportLineage", request)
            if earlier is not None:
                return pb.ImportLineageResponse.FromString(earlier)
            snapshots.restore(connection, taste, tables, replace=request.replace)
            current = [row.id for row in models.page(connection, taste, 2**62, NO_LIMIT) if row.current]
            reply = pb.ImportLineageResponse(
                models=len(tables["models"]), current=f"models/{current[0]}" if current else ""
            )
            self._idempotency.remember(connection, "ImportLineage", request, reply)
            failpoint("trainer.before_import")
        return reply
