"""The rpcs that score images, in a batch or as they come."""

from collections.abc import Iterator

import grpc

from konomi.errors import KonomiError
from konomi.v1 import rater_pb2
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart, caller
from konomi_rater.servicer.messages import taste_id
from konomi_rater.servicer.streams import gather, stream_taste
from konomi_rater.usecases.scoring import Score, ScoreRequest


class ScoreServicer(ServicerPart):
    """Serves scores."""

    def ScoreImages(
        self, request: rater_pb2.ScoreImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ScoreImagesResponse:
        """Scores a batch."""
        inputs = [messages.image_input(item) for item in request.images]
        taste, scores, diversity = self._rater.scoring.score_inputs(
            taste_id(request.taste),
            inputs,
            caller(context),
            diversity=request.measure_diversity,
            version=messages.version_asked(request.taste, request.rater_version),
            compares_models=request.compares_models,
            signatures=request.include_signatures,
        )
        reply = rater_pb2.ScoreImagesResponse(results=[_result(item, taste) for item in scores])
        if diversity is not None:
            reply.diversity.CopyFrom(messages.diversity(diversity))
        return reply

    def ScoreImageStream(
        self, request_iterator: Iterator[rater_pb2.ScoreImageStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[rater_pb2.ScoreImageStreamResponse]:
        """Scores images as they come, in order; two batches are under way at most, then the sender is slowed down."""
        workspace, scoring = self._rater.workspace, self._rater.scoring
        waiting = caller(context, patient=True)

        def begin() -> Iterator[tuple[list[rater_pb2.ScoreImageStreamRequest], ScoreRequest]]:
            name = ""
            for batch in gather(request_iterator, workspace.embedders.batch, workspace.settings.gather_seconds):
                name = stream_taste(name, [request.taste for request in batch], required=False)
                inputs = [messages.image_input(request.image) for request in batch]
                yield batch, scoring.request(taste_id(name), inputs, waiting)

        for ((batch, request),) in gather(begin(), 1, 0.0):
            taste, scores, _ = scoring.answer(request, diversity=False)
            for message, item in zip(batch, scores, strict=True):
                yield rater_pb2.ScoreImageStreamResponse(key=message.key, result=_result(item, taste))


def _result(score: Score | KonomiError, taste: str) -> rater_pb2.ScoreResult:
    """Returns a score, or the error of the one image that has none."""
    if isinstance(score, KonomiError):
        return rater_pb2.ScoreResult(error=messages.item_error(score))
    return rater_pb2.ScoreResult(score=messages.score(score, taste))
