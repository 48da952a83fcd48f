"""The rpcs that measure a set of images, and lay all of a taste out on a plane."""

from dataclasses import asdict

import grpc

from konomi.v1 import rater_pb2
from konomi_rater.measures import coverage
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart, caller
from konomi_rater.servicer.messages import taste_id
from konomi_rater.usecases.measuring.image_map import ImageMap, MapPoint
from konomi_rater.usecases.measuring.measurement import ImageMeasures, MeasureRequest


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

    def MapImages(self, request: rater_pb2.MapImagesRequest, context: grpc.ServicerContext) -> rater_pb2.ImageMap:
        """Lays a taste's images out on a plane."""
        taste = taste_id(request.taste)
        return _map(self._rater.mapping.map(taste, request.count), taste)


def _map(found: ImageMap, taste: str) -> rater_pb2.ImageMap:
    return rater_pb2.ImageMap(
        points=[_point(point) for point in found.points],
        explained_variance=found.explained if found.total else (),
        regions=[
            rater_pb2.MapRegion(
                region=one.region,
                x=one.place[0],
                y=one.place[1],
                radius=one.radius,
                images=one.images,
                graded=one.graded,
                liked=one.liked,
                island=one.island,
            )
            for one in found.regions
        ],
        total_size=found.total,
        left_out=found.left_out,
        graded_left_out=found.graded_left_out,
        without_pixels=found.without_pixels,
        newest_unit=found.newest_unit,
        rater_version=messages.version_name(taste, found.version) if found.version else "",
    )


def _point(point: MapPoint) -> rater_pb2.MapPoint:
    return rater_pb2.MapPoint(
        digest=point.digest,
        x=point.place[0],
        y=point.place[1],
        grade=rater_pb2.Grade.ValueType(point.grade),
        utility=point.utility,
        std=point.std,
        unit=point.unit,
        region=point.region,
    )


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
