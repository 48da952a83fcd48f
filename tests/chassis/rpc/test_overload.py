"""More work than there is room for: it is refused before it is carried here, quickly, and nobody else notices."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status

from konomi.client import load
from konomi.errors import from_rpc_error
from konomi.v1 import rater_pb2, rater_pb2_grpc
from konomi_chassis.auth.authentication import issue_token
from konomi_chassis.rpc import admission
from tests.chassis import raw_http2 as raw
from tests.chassis.conftest import Caller

RATER = "/konomi.v1.RaterService/"
SCORE, RECORD = RATER + "ScoreImages", RATER + "RecordLabels"
LABEL = rater_pb2.RecordLabelsRequest(
    taste="tastes/mine",
    request_id="0190b2c4-0000-7000-8000-000000000001",
    labels=[rater_pb2.Label(image_digest="0" * 64, grade=5)],
)


class Rater(rater_pb2_grpc.RaterServiceServicer):
    """Scores nothing until it is told to."""

    def __init__(self):
        self.entered, self.release, self.sizes = threading.Semaphore(0), threading.Event(), []

    def ScoreImages(self, request, context):
        self.sizes.append(request.ByteSize())
        self.entered.release()
        self.release.wait(20)
        return rater_pb2.ScoreImagesResponse()

    def RecordLabels(self, request, context):
        return rater_pb2.RecordLabelsResponse()

    def GetTaste(self, request, context):
        return rater_pb2.Taste()


@pytest.fixture
def rater():
    servicer = Rater()
    yield servicer
    servicer.release.set()


def score(size):
    return rater_pb2.ScoreImagesRequest(taste="tastes/mine", images=[rater_pb2.ImageInput(content=bytes(size))])


@pytest.fixture
def busy(serve, rater, owner):
    """A server that takes a million bytes or ten million pixels at once, full of one call, and a caller of it."""
    running = serve(rater, max_bytes_in_flight=1_000_000, max_pixels_in_flight=10_000_000)
    caller = owner(running)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(caller.call, SCORE, score(1_200_000), timeout=30)
        assert rater.entered.acquire(timeout=60)
        yield running, caller
        rater.release.set()
        assert first.result(60)


def test_the_client_and_the_server_mean_the_same_metadata():
    assert (load.BYTES_KEY, load.PIXELS_KEY) == (admission.BYTES_KEY, admission.PIXELS_KEY)


def test_a_call_there_is_no_room_for_is_refused_with_its_message_unsent(busy, rater):
    _, caller = busy
    unsent = threading.Event()

    def messages():
        unsent.wait(60)
        yield b""

    metadata = (*caller.metadata, (load.BYTES_KEY, "5000"), (load.PIXELS_KEY, "8000000"))
    began = time.monotonic()
    call = caller.channel.stream_stream(SCORE)(messages(), metadata=metadata, timeout=60)
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    unsent.set()
    assert time.monotonic() - began < 5
    failure = from_rpc_error(caught.value)
    assert (failure.code.name, failure.reason, failure.retry_after) == ("RESOURCE_EXHAUSTED", "BUSY", 1.0)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in rpc_status.from_call(caught.value).details)
    assert len(rater.sizes) == 1


def test_callers_that_wait_for_many_calls_at_once_are_told_when_to_come_back_too(busy):
    running, caller = busy

    async def refused():
        async with grpc.aio.insecure_channel(running.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(SCORE)(b"", metadata=caller.metadata, timeout=60)
        return from_rpc_error(caught.value)

    failures = [asyncio.run(refused()) for _ in range(3)]
    assert {(failure.code.name, failure.reason, failure.served) for failure in failures} == {
        ("RESOURCE_EXHAUSTED", "BUSY", True)
    }
    asked = [failure.retry_after for failure in failures]
    assert all(1 <= wait <= 30 for wait in asked)
    assert all(f"{wait:.1f} seconds" in failure.message for wait, failure in zip(asked, failures, strict=True))


def test_labels_reads_and_health_are_not_weighed(busy):
    running, caller = busy
    assert caller.outcome(SCORE, score(10)) == ("RESOURCE_EXHAUSTED", "BUSY")
    assert caller.outcome(RECORD, LABEL) == ("OK", "")
    assert caller.outcome(RATER + "GetTaste", rater_pb2.GetTasteRequest(name="tastes/mine")) == ("OK", "")
    anonymous = Caller(running.address)
    assert anonymous.outcome("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest()) == ("OK", "")


def test_room_is_given_back(busy, rater):
    running, caller = busy
    assert caller.outcome(SCORE, score(10)) == ("RESOURCE_EXHAUSTED", "BUSY")
    rater.release.set()
    assert running._interceptor.admission.wait_until_idle(60)
    assert caller.outcome(SCORE, score(10)) == ("OK", "")


def test_many_small_calls_fit_where_few_large_ones_do(serve, rater, owner):
    caller = owner(serve(rater, max_bytes_in_flight=1_000_000, max_pixels_in_flight=10_000_000))
    metadata = (*caller.metadata, (load.BYTES_KEY, "100"), (load.PIXELS_KEY, "4096"))
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(caller.call, SCORE, score(10), metadata=metadata, timeout=30) for _ in range(20)]
        for _ in range(20):
            assert rater.entered.acquire(timeout=60)
        rater.release.set()
        assert all(future.result() for future in waiting)


@pytest.mark.parametrize("said", ["0", "-5", "a lot", "9" * 400])
def test_whoever_says_less_than_comes_is_weighed_again(serve, rater, owner, said):
    caller = owner(serve(rater, max_bytes_in_flight=1_000_000, max_pixels_in_flight=10_000_000))
    metadata = (*caller.metadata, (load.BYTES_KEY, said), (load.PIXELS_KEY, "0"))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(caller.call, SCORE, score(1_200_000), metadata=metadata, timeout=30)
        assert rater.entered.acquire(timeout=60)
        with pytest.raises(Exception) as caught:
            caller.call(SCORE, score(1_200_000), metadata=metadata)
        assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "BUSY")
        rater.release.set()
        assert first.result(60)
    assert len(rater.sizes) == 1


def test_an_upload_that_was_refused_is_not_taken_in(serve, rater, home):
    running = serve(rater, max_in_flight_per_principal=1)
    token = issue_token(home, "flood", "tool", "mine")
    bearer = ("authorization", f"Bearer {token}")
    holding = raw.RawConnection(running.address)
    holding.open(SCORE, bearer, body=raw.message(score(10).SerializeToString()), complete=True)
    assert rater.entered.acquire(timeout=60)
    connections = raw.open_many(running.address, 40, SCORE, bearer, body=raw.message(bytes(8 << 20))[:60_000], each=1)
    assert raw.ended(connections, 40) == 40
    for connection in (holding, *connections):
        connection.close()
    assert len(rater.sizes) == 1
