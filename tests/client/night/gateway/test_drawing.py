"""Images are made known while others are drawn: in the order asked for, whatever order they come in; what may fail."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import grpc
import pytest

from konomi.client import Client
from konomi.errors import FailedPrecondition, InvalidArgument, Unavailable
from konomi.night.draws import Draw
from konomi.night.gateway.drawing import Drawing
from konomi.night.settings import NightSettings
from konomi.v1 import generator_pb2, generator_pb2_grpc, rater_pb2, rater_pb2_grpc

COUNT = 6
DRAWS = [Draw("a cat", seed, "base") for seed in range(COUNT)]


def digest(place: int) -> str:
    return f"{place:064x}"


class Backwards(generator_pb2_grpc.GeneratorServiceServicer):
    """Draws pairs, the later one of each first, as actors do; then ends as it was told.

    With `waits` the last image comes once the rater knows four.
    """

    def __init__(
        self,
        rater: "Catalogue",
        error: dict[str, object] | None = None,
        most: int = COUNT,
        *,
        waits: bool = False,
    ) -> None:
        self.rater, self.error, self.most, self.waits, self.known = rater, error, most, waits, list[int]()

    def GenerateImages(self, request, context):
        for place in (1, 0, 3, 2, 5, 4)[: self.most]:
            yield generator_pb2.GeneratedImage(index=place, artifact={"digest": digest(place)})
            if place == 5 and self.waits:
                until = time.monotonic() + 60
                while len(self.rater.digests) < 4 and time.monotonic() < until:
                    time.sleep(0.01)
            self.known.append(len(self.rater.digests))
        if self.error is not None:
            yield generator_pb2.GeneratedImage(index=5, error=self.error)


class Catalogue(rater_pb2_grpc.RaterServiceServicer):
    """Notes which images come; refuses one, or all in words."""

    def __init__(self, refused: int | None = None, *, away: bool = False) -> None:
        self.refused, self.away, self.digests = refused, away, list[str]()

    def AddImages(self, request_iterator, context):
        for request in request_iterator:
            if self.away:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the embedder is missing")
            self.digests.append(request.image.digest)
            answer = rater_pb2.AddImagesResponse(digest=request.image.digest)
            if request.image.seed == self.refused:
                answer.error.message = "no picture"
            yield answer


@contextmanager
def drawing(generator: Backwards, rater: Catalogue) -> Iterator[Drawing]:
    server = grpc.server(ThreadPoolExecutor(4))
    generator_pb2_grpc.add_GeneratorServiceServicer_to_server(generator, server)
    rater_pb2_grpc.add_RaterServiceServicer_to_server(rater, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    client = Client.from_addresses({"generator": address, "rater": address})
    try:
        yield Drawing(SimpleNamespace(client=client), "tastes/default")
    finally:
        client.close()
        server.stop(None)


def known(part: Drawing, *, meanwhile: bool) -> tuple[list[str], int]:
    return part.generate_known(DRAWS, None, NightSettings(), lambda *_beat: None, meanwhile=meanwhile)


@pytest.mark.parametrize("meanwhile", [True, False])
def test_images_are_known_in_the_order_of_the_draws(meanwhile: bool) -> None:
    rater = Catalogue(refused=2)
    generator = Backwards(rater, waits=meanwhile)
    with drawing(generator, rater) as part:
        assert known(part, meanwhile=meanwhile) == ([digest(place) for place in range(COUNT)], 1)
    assert rater.digests == [digest(place) for place in range(COUNT)]
    assert generator.known[-1] >= 4 if meanwhile else generator.known[-1] == 0


def test_what_was_drawn_before_a_failure_is_known_and_the_failure_is_told() -> None:
    rater = Catalogue()
    error = {"code": grpc.StatusCode.INVALID_ARGUMENT.value[0], "reason": "PROMPT", "message": "no such word"}
    with (
        drawing(Backwards(rater, error, most=3), rater) as part,
        pytest.raises(InvalidArgument, match="no such word"),
    ):
        known(part, meanwhile=True)
    assert rater.digests == [digest(0), digest(1)], "the fourth came, the third did not"


def test_a_stream_that_ends_short_is_tried_again() -> None:
    rater = Catalogue()
    with drawing(Backwards(rater, most=4), rater) as part, pytest.raises(Unavailable, match="2 images short"):
        known(part, meanwhile=True)


def test_a_rater_that_refuses_all_is_told_once_the_images_are_drawn() -> None:
    rater = Catalogue(away=True)
    with drawing(Backwards(rater), rater) as part, pytest.raises(FailedPrecondition, match="embedder is"):
        known(part, meanwhile=True)
