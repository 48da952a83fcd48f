"""The rpcs that add, list, search, keep in mind and collect the images of a taste."""

from collections.abc import Iterator

import grpc
import sqlalchemy

from konomi.v1 import rater_pb2
from konomi_chassis.rpc.pagination import page, page_size
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart, caller
from konomi_rater.servicer.messages import taste_id
from konomi_rater.servicer.streams import gather, stream_taste
from konomi_rater.storage import favourites, tastes
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.usecases.collection import RetentionPolicy
from konomi_rater.usecases.exploration import Nearest
from konomi_rater.usecases.images import Listing


class ImageServicer(ServicerPart):
    """Serves images."""

    def AddImages(
        self, request_iterator: Iterator[rater_pb2.AddImagesRequest], context: grpc.ServicerContext
    ) -> Iterator[rater_pb2.AddImagesResponse]:
        """Adds images as they come."""
        workspace, taste, waiting = self._rater.workspace, "", caller(context, patient=True)
        most = workspace.vectors.portion(workspace.embedders.batch)
        for batch in gather(request_iterator, most, workspace.settings.gather_seconds):
            taste = stream_taste(taste, [request.taste for request in batch])
            images = [_facts(request.image) for request in batch]
            for added in self._rater.adding.add(taste_id(taste), images, waiting):
                response = rater_pb2.AddImagesResponse(digest=added.digest, already_known=added.already_known)
                if added.error is not None:
                    response.error.CopyFrom(messages.item_error(added.error))
                yield response

    def ListImages(
        self, request: rater_pb2.ListImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListImagesResponse:
        """Lists images."""
        taste = taste_id(request.taste)
        listed = self._rater.browsing.page(taste, _listing(request))
        images = [messages.image(row, taste, score) for row, score in listed.images]
        return rater_pb2.ListImagesResponse(images=images, next_page_token=listed.next_token, total_size=listed.total)

    def GetImage(self, request: rater_pb2.GetImageRequest, context: grpc.ServicerContext) -> rater_pb2.Image:
        """Returns an image."""
        row, score = self._rater.browsing.get(taste_id(request.taste), request.digest)
        return messages.image(row, taste_id(request.taste), score)

    def SearchImages(
        self, request: rater_pb2.SearchImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.SearchImagesResponse:
        """Searches by image or text."""
        taste = taste_id(request.taste)
        query = request.text if request.WhichOneof("query") == "text" else messages.image_input(request.image)
        page = Nearest(request.count or 10, request.skip, request.with_scores)
        found = self._rater.searching.search(taste, query, page, caller(context))
        return rater_pb2.SearchImagesResponse(
            hits=[
                rater_pb2.SearchHit(image=messages.image(hit.image, taste, hit.score), similarity=hit.similarity)
                for hit in found.hits
            ],
            total_size=found.total,
        )

    def SetFavourites(
        self, request: rater_pb2.SetFavouritesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.SetFavouritesResponse:
        """Keeps images in mind, or no longer; the answer leaves only after the commit."""
        taste = taste_id(request.taste)

        def work(connection: sqlalchemy.Connection) -> rater_pb2.SetFavouritesResponse:
            tastes.read(connection, taste)
            unknown: list[str] = []
            if request.favourite:
                unknown = favourites.keep(connection, taste, request.digests, self._rater.workspace.clock())
            else:
                favourites.let_go(connection, taste, request.digests)
            total = favourites.count(connection, taste)
            return rater_pb2.SetFavouritesResponse(total_size=total, unknown_digests=unknown)

        return self._answer_once("SetFavourites", request, rater_pb2.SetFavouritesResponse(), work)

    def ListFavourites(
        self, request: rater_pb2.ListFavouritesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListFavouritesResponse:
        """Lists favourites; the page token is the last place."""
        taste = taste_id(request.taste)
        before = messages.number_in(request.page_token, "favourites", "page_token") if request.page_token else 0
        with self._rater.workspace.reading() as connection:
            tastes.read(connection, taste)
            total = favourites.count(connection, taste)
            listed = page(
                request.page_size,
                lambda limit: favourites.read(connection, taste, before, limit),
                lambda row: str(row.sequence),
            )
        return rater_pb2.ListFavouritesResponse(
            favourites=[
                rater_pb2.Favourite(image_digest=row.digest, create_time=messages.timestamp(row.created))
                for row in listed.rows
            ],
            next_page_token=listed.next_token,
            total_size=total,
        )

    def CollectImages(
        self, request: rater_pb2.CollectImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.CollectImagesResponse:
        """Collects rejected candidates, or says what would go; only the former is kept under the request id."""
        first = self._first_answer("CollectImages", request, rater_pb2.CollectImagesResponse())
        if first is not None:
            return first
        collecting = self._rater.collecting
        keep = frozenset(request.keep_digests) | collecting.keep_named(request.keep_artifacts)
        policy = RetentionPolicy(request.rejected_seconds, request.keep_units, keep, frozenset(request.keep_nights))
        done = collecting.run(taste_id(request.taste), policy, request.page_token, dry=request.dry_run)
        reply = rater_pb2.CollectImagesResponse(
            kinds=[
                rater_pb2.ImageKind(kind=name, count=kind.count, bytes=kind.size)
                for name, kind in sorted(done.kinds.items())
            ],
            count=len(done.digests),
            bytes=done.size,
            digests=done.digests if request.dry_run else (),
            next_page_token=done.next_token,
        )
        return reply if request.dry_run else self._keep_answer("CollectImages", request, reply)


def _facts(image: rater_pb2.Image) -> ImageFacts:
    """Reads what a request says of an image to add."""
    return ImageFacts(
        digest=image.digest,
        source=int(image.source),
        prompt=image.prompt,
        seed=image.seed,
        unit=image.unit,
        night=image.night,
        parents=tuple(image.parents),
        licence=image.licence,
        consent=image.consent,
        path=image.path,
        elsewhere_model=image.elsewhere_model,
        parameters=dict(image.parameters),
    )


def _listing(message: rater_pb2.ListImagesRequest) -> Listing:
    """Reads which images are asked for."""
    return Listing(
        messages.image_filter(message.filter),
        message.order_by,
        page_size(message.page_size),
        message.page_token,
        message.with_scores,
        message.skip,
    )
