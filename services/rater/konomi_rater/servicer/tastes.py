"""The rpcs that make and show tastes, and take one elsewhere: all the rater keeps of it, as artifacts and back."""

from collections.abc import Iterator

import grpc
import sqlalchemy

from konomi.v1 import artifact_pb2, rater_pb2
from konomi_chassis.rpc.pagination import page
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart
from konomi_rater.servicer.messages import taste_id
from konomi_rater.storage import comparisons, tastes


class TasteServicer(ServicerPart):
    """Serves tastes, and exports and imports of whole ones."""

    def CreateTaste(self, request: rater_pb2.CreateTasteRequest, context: grpc.ServicerContext) -> rater_pb2.Taste:
        """Creates a taste."""
        embedders, base = self._rater.workspace.embedders, request.taste.base_model or "starter"
        embedder = embedders.settle(request.taste.embedder or "starter")
        embedders.check(embedder)

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Taste:
            now = self._rater.workspace.clock()
            return messages.taste(
                tastes.create(connection, request.taste_id, request.taste.display_name, embedder, base, now)
            )

        return self._answer_once("CreateTaste", request, rater_pb2.Taste(), work)

    def GetTaste(self, request: rater_pb2.GetTasteRequest, context: grpc.ServicerContext) -> rater_pb2.Taste:
        """Returns a taste."""
        with self._rater.workspace.reading() as connection:
            return _whole(connection, taste_id(request.name))

    def ListTastes(
        self, request: rater_pb2.ListTastesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListTastesResponse:
        """Lists tastes; the page token is the last id."""
        with self._rater.workspace.reading() as connection:
            listed = page(
                request.page_size,
                lambda limit: tastes.read_all(connection, request.page_token, limit),
                lambda row: row.id,
            )
        return rater_pb2.ListTastesResponse(
            tastes=[messages.taste(row) for row in listed.rows], next_page_token=listed.next_token
        )

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
            return _whole(connection, snapshot.taste)

        reply = self._answer_once("ImportTaste", request, rater_pb2.Taste(), work)
        self._rater.workspace.forget_versions(snapshot.taste)
        return reply


def _whole(connection: sqlalchemy.Connection, taste: str) -> rater_pb2.Taste:
    """Returns a taste with what is counted of it alone, not of each in a list."""
    message = messages.taste(tastes.read(connection, taste))
    message.comparison_count = comparisons.count(connection, taste)
    return message
