"""The rpcs that take a taste elsewhere: everything the rater keeps of it, as artifacts and back."""

from collections.abc import Iterator

import grpc
import sqlalchemy

from konomi.v1 import artifact_pb2, rater_pb2
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart
from konomi_rater.servicer.messages import taste_id
from konomi_rater.storage import tastes


class SnapshotServicer(ServicerPart):
    """Serves exports and imports of whole tastes."""

    def ExportTaste(
        self, request: rater_pb2.ExportTasteRequest, context: grpc.ServicerContext
    ) -> Iterator[artifact_pb2.SnapshotArtifact]:
        """Writes a taste as artifacts and names them."""
        for stored, part in self._rater.snapshots.export(taste_id(request.taste), images=request.images):
            artifact = artifact_pb2.Artifact(
                digest=stored.digest, media_type=stored.media_type, size_bytes=stored.size_bytes
            )
            yield artifact_pb2.SnapshotArtifact(artifact=artifact, part=artifact_pb2.SnapshotPart.ValueType(int(part)))

    def ImportTaste(self, request: rater_pb2.ImportTasteRequest, context: grpc.ServicerContext) -> rater_pb2.Taste:
        """Restores a taste in one transaction."""
        snapshot = self._rater.snapshots.read(request.rows_digest, taste_id(request.taste))

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Taste:
            self._rater.snapshots.restore(connection, snapshot, replace=request.replace)
            return messages.taste(tastes.read(connection, snapshot.taste))

        reply = self._answer_once("ImportTaste", request, rater_pb2.Taste(), work)
        self._rater.workspace.forget_versions(snapshot.taste)
        return reply
