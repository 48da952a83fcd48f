"""The rpc that measures a set of images."""

from dataclasses import asdict

import grpc

from konomi.v1 import rater_pb2
from konomi_rater.measures import coverage
from konomi_rater.servicer.base import ServicerPart, caller
from konomi_rater.servicer.messages import taste_id
from konomi_rater.usecases.measurement import ImageMeasures, MeasureRequest


class MeasureServicer(ServicerPart):
    """Serves measures."""

    def MeasureImages(
        self, request: rater_pb2.MeasureImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ImageMeasures:
        """Measures a set of images."""
        cut = request.near_copy_cosine if request.HasField("near_copy_cosine") else coverage.NEAR_COPY
        measured = MeasureRequest(request.digests, request.reference, request.training_sources, cut, request.seed)
        waiting = caller(context, patient=True)
        return _measures(self._rater.measuring.measure(taste_id(request.taste), measured, waiting))


def _measures(measures: ImageMeasures) -> rater_pb2.ImageMeasures:
    value, low, high = measures.kid
    reply = rater_pb2.ImageMeasures(
        n=measures.n,
        reference_n=measures.reference_n,
        kid=rater_pb2.Estimate(value=value, low=low, high=high, n=min(measures.n, measures.reference_n)),
        cmmd=measures.cmmd,
        precision=measures.prdc.precision,
        recall=measures.prdc.recall,
        density=measures.prdc.density,
        coverage=measures.prdc.coverage,
        liked_cells=measures.liked_cells,
        likes_covered=measures.likes_covered,
        reference_likes_covered=measures.reference_likes_covered,
        near_copies=measures.near_copies,
        reference_near_copies=measures.reference_near_copies,
        largest_cell_share=measures.spread.largest,
        cell_entropy=measures.spread.entropy,
    )
    if measures.graded is not None:
        reply.graded.CopyFrom(rater_pb2.GradedMeasures(**asdict(measures.graded)))
    return reply
