"""The rpcs that say whether a taste's embedder fits, change it, and keep a second one beside it."""

from collections.abc import Iterator

import grpc
import sqlalchemy

from konomi.v1 import rater_pb2
from konomi_rater.preference.fitting import Step
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart
from konomi_rater.servicer.messages import taste_id
from konomi_rater.storage import tastes
from konomi_rater.usecases.embedders.change import Changed
from konomi_rater.usecases.embedders.second import Compared


class EmbedderServicer(ServicerPart):
    """Serves advice on embedders and changes of them."""

    def AdviseEmbedder(
        self, request: rater_pb2.AdviseEmbedderRequest, context: grpc.ServicerContext
    ) -> rater_pb2.EmbedderAdvice:
        """Says whether the embedder fits."""
        advice = self._rater.advising.advise(taste_id(request.taste))
        return rater_pb2.EmbedderAdvice(
            embedder=advice.embedder,
            foreign_share=advice.foreign_share,
            n=advice.n,
            change=advice.change,
            reads_text=advice.reads_text,
            second_embedder=advice.second,
            offers=[
                rater_pb2.EmbedderOffer(embedder=offer.embedder, reads_text=offer.reads_text) for offer in advice.offers
            ],
        )

    def ChangeEmbedder(
        self, request: rater_pb2.ChangeEmbedderRequest, context: grpc.ServicerContext
    ) -> Iterator[rater_pb2.ChangeEmbedderResponse]:
        """Changes the embedder, or keeps a second one: progress, then the taste."""
        first = self._first_answer("ChangeEmbedder", request, rater_pb2.ChangeEmbedderResponse())
        if first is not None:
            yield first
            return
        for step in self._second(request) if request.second else self._changed(request):
            if isinstance(step, Step):
                yield rater_pb2.ChangeEmbedderResponse(progress=messages.progress(step))
                continue

            def work(
                connection: sqlalchemy.Connection, done: Changed | Compared = step
            ) -> rater_pb2.ChangeEmbedderResponse:
                reply = rater_pb2.ChangeEmbedderResponse(taste=messages.taste(done.taste))
                if done.version:
                    row = tastes.read_version(connection, done.taste.id, done.version)
                    reply.rater_version.CopyFrom(messages.rater_version(self._rater.versions.describe(connection, row)))
                return reply

            yield self._answer_once("ChangeEmbedder", request, rater_pb2.ChangeEmbedderResponse(), work)

    def _changed(self, request: rater_pb2.ChangeEmbedderRequest) -> Iterator[Step | Changed]:
        taste, reembedding = taste_id(request.taste), self._rater.reembedding
        embedder = reembedding.begin(taste, request.embedder or "starter", request.seed)
        return reembedding.watch(taste, embedder)

    def _second(self, request: rater_pb2.ChangeEmbedderRequest) -> Iterator[Step | Compared]:
        taste, seconds = taste_id(request.taste), self._rater.second_embedders
        embedder = seconds.begin(taste, request.embedder or "starter", request.seed)
        return seconds.watch(taste, embedder)
