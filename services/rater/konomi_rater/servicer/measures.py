"""The part of RaterService that measures sets of images."""

import grpc

from konomi.v1 import rater_pb2
from konomi_chassis.auth.authentication import principal
from konomi_rater.embedding.requests import Caller
from konomi_rater.measures import coverage
from konomi_rater.servicer.labels import LabelServicer
from konomi_rater.servicer.messages import taste_id
from konomi_rater.usecases.measurement import Asked, Measures


class MeasureServicer(LabelServicer):
    """Serves measures."""

    def MeasureImages(
        self, request: rater_pb2.MeasureImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ImageMeasures:
        """Measures a set of images."""
        cut = request.near_copy_cosine if request.HasField("near_copy_cosine") else coverage.NEAR_COPY
        asked = Asked(request.digests, request.reference, request.training_sources, cut, request.seed)
        caller = Caller(principal().name, patient=True)
        if not context.add_callback(caller.end):
            caller.end()
        return _measures(self._rater.measuring.measure(taste_id(request.taste), asked, caller))


def _measures(found: Measures) -> rater_pb2.ImageMeasures:
    value, low, high = found.kid
    return rater_pb2.ImageMeasures(
        n=found.n,
        reference_n=found.reference_n,
        kid=rater_pb2.Estimate(value=value, low=low, high=high, n=min(found.n, found.reference_n)),
        cmmd=found.cmmd,
        precision=found.prdc.precision,
        recall=found.prdc.recall,
        density=found.prdc.density,
        coverage=found.prdc.coverage,
        liked_cells=found.liked_cells,
        likes_covered=found.likes_covered,
        reference_likes_covered=found.reference_likes_covered,
        near_copies=found.near_copies,
        reference_near_copies=found.reference_near_copies,
        largest_cell_share=found.spread.largest,
        cell_entropy=found.spread.entropy,
    )
