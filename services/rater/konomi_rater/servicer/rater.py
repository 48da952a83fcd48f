"""RaterService: proto in, proto out."""

from collections.abc import Iterator
from typing import TypeVar

import grpc
import sqlalchemy
from google.protobuf.message import Message

from konomi.v1 import rater_pb2
from konomi_rater.servicer import messages, selection
from konomi_rater.servicer.base import _caller
from konomi_rater.servicer.messages import taste_id
from konomi_rater.servicer.scores import _stream_taste
from konomi_rater.servicer.snapshots import SnapshotServicer
from konomi_rater.servicer.streams import gather
from konomi_rater.storage import tastes
from konomi_rater.usecases import versions
from konomi_rater.usecases.scoring import Request

Reply = TypeVar("Reply", bound=Message)


class RaterServicer(SnapshotServicer):
    """Serves one rater."""

    def CreateTaste(self, request: rater_pb2.CreateTasteRequest, context: grpc.ServicerContext) -> rater_pb2.Taste:
        """Creates a taste."""
        embedder, base = request.taste.embedder or "starter", request.taste.base_model or "starter"
        self._rater.workspace.embedders.check(embedder)

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Taste:
            now = self._rater.workspace.clock()
            return messages.taste(
                tastes.create(connection, request.taste_id, request.taste.display_name, embedder, base, now)
            )

        return self._once("CreateTaste", request, rater_pb2.Taste(), work)

    def GetTaste(self, request: rater_pb2.GetTasteRequest, context: grpc.ServicerContext) -> rater_pb2.Taste:
        """Returns a taste."""
        with self._rater.workspace.reading() as connection:
            return messages.taste(tastes.read(connection, taste_id(request.name)))

    def ListTastes(
        self, request: rater_pb2.ListTastesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListTastesResponse:
        """Lists tastes; the page token is the last name."""
        size = request.page_size or messages.DEFAULT_PAGE
        with self._rater.workspace.reading() as connection:
            rows = tastes.read_all(connection, request.page_token, size + 1)
        token = rows[size - 1].id if len(rows) > size else ""
        return rater_pb2.ListTastesResponse(tastes=[messages.taste(row) for row in rows[:size]], next_page_token=token)

    def AddImages(
        self, request_iterator: Iterator[rater_pb2.AddImagesRequest], context: grpc.ServicerContext
    ) -> Iterator[rater_pb2.AddImagesResponse]:
        """Adds images as they come."""
        settings, taste, caller = self._rater.workspace.settings, "", _caller(context, patient=True)
        for batch in gather(request_iterator, settings.embed_batch, settings.gather_seconds):
            taste = _stream_taste(taste, [request.taste for request in batch])
            images = [messages.facts(request.image) for request in batch]
            for added in self._rater.adding.add(taste_id(taste), images, caller):
                response = rater_pb2.AddImagesResponse(digest=added.digest, already_known=added.already_known)
                if added.error is not None:
                    response.error.CopyFrom(messages.item_error(added.error))
                yield response

    def ListImages(
        self, request: rater_pb2.ListImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListImagesResponse:
        """Lists images."""
        taste = taste_id(request.taste)
        page = self._rater.browsing.page(taste, messages.listing(request))
        images = [messages.image(row, taste, score) for row, score in page.images]
        return rater_pb2.ListImagesResponse(images=images, next_page_token=page.next_token, total_size=page.total)

    def GetImage(self, request: rater_pb2.GetImageRequest, context: grpc.ServicerContext) -> rater_pb2.Image:
        """Returns an image."""
        row, score = self._rater.browsing.get(taste_id(request.taste), request.digest)
        return messages.image(row, taste_id(request.taste), score)

    def ScoreImages(
        self, request: rater_pb2.ScoreImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ScoreImagesResponse:
        """Scores a batch."""
        inputs = [messages.image_input(item) for item in request.images]
        taste, found, diversity = self._rater.scoring.score_inputs(
            taste_id(request.taste), inputs, _caller(context), diversity=request.measure_diversity
        )
        reply = rater_pb2.ScoreImagesResponse(results=[messages.result(item, taste) for item in found])
        if diversity is not None:
            reply.diversity.CopyFrom(messages.diversity(diversity))
        return reply

    def ScoreImageStream(
        self, request_iterator: Iterator[rater_pb2.ScoreImageStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[rater_pb2.ScoreImageStreamResponse]:
        """Scores images as they come, in order; two batches are under way at most, then the sender is slowed down."""
        settings, scoring = self._rater.workspace.settings, self._rater.scoring
        caller = _caller(context, patient=True)

        def begin() -> Iterator[tuple[list[rater_pb2.ScoreImageStreamRequest], Request]]:
            name = ""
            for batch in gather(request_iterator, settings.embed_batch, settings.gather_seconds):
                name = _stream_taste(name, [request.taste for request in batch], required=False)
                inputs = [messages.image_input(request.image) for request in batch]
                yield batch, scoring.request(taste_id(name), inputs, caller)

        for ((batch, request),) in gather(begin(), 1, 0.0):
            taste, found, _ = scoring.answer(request, diversity=False)
            for asked, item in zip(batch, found, strict=True):
                yield rater_pb2.ScoreImageStreamResponse(key=asked.key, result=messages.result(item, taste))

    def SuggestImages(
        self, request: rater_pb2.SuggestImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.SuggestImagesResponse:
        """Suggests what to grade next."""
        taste, wanted = taste_id(request.taste), messages.image_filter(request.filter)
        if request.slate:
            return messages.slate(self._rater.slating.draw(taste, wanted, request.count, request.seed), taste)
        found = self._rater.suggesting.suggest(
            taste, wanted, request.count or 10, request.novel, request.seed, repeats=not request.no_repeats
        )
        suggestions = [
            rater_pb2.Suggestion(
                image=messages.image(row, taste), reason=rater_pb2.SuggestionReason.ValueType(int(reason))
            )
            for row, reason in found
        ]
        return rater_pb2.SuggestImagesResponse(suggestions=suggestions)

    def SelectImages(
        self, request: rater_pb2.SelectImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.SelectImagesResponse:
        """Selects a training set."""
        taste = taste_id(request.taste)
        if request.policy == selection.POLICY:
            found = self._rater.growing.grow(taste, selection.wish(request))
        else:
            found = self._rater.selecting.select(taste, messages.wish(request))
        with self._rater.workspace.writing() as connection:
            versions.remember_selection(connection, taste, found, request.policy, self._rater.workspace.clock())
        reply = messages.selection(found, taste)
        if found.growth is not None:
            reply.growth.CopyFrom(selection.growth(found.growth))
        return reply

    def SearchImages(
        self, request: rater_pb2.SearchImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.SearchImagesResponse:
        """Searches by image or text."""
        taste = taste_id(request.taste)
        query = request.text if request.WhichOneof("query") == "text" else messages.image_input(request.image)
        hits = self._rater.browsing.search(taste, query, request.count or 10, _caller(context))
        return rater_pb2.SearchImagesResponse(
            hits=[
                rater_pb2.SearchHit(image=messages.image(row, taste), similarity=similarity) for row, similarity in hits
            ]
        )
