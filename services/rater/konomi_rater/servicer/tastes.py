"""The rpcs that make and show tastes."""

import grpc
import sqlalchemy

from konomi.v1 import rater_pb2
from konomi_chassis.rpc.pagination import page
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart
from konomi_rater.servicer.messages import taste_id
from konomi_rater.storage import tastes


class TasteServicer(ServicerPart):
    """Serves tastes."""

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
            return messages.taste(tastes.read(connection, taste_id(request.name)))

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
