"""Callers that open calls and send no message, or take no answer: labels and health go on beside them."""

import threading
import time

import pytest
from grpc_health.v1 import health_pb2

from konomi.errors import DeadlineExceeded, InvalidArgument, KonomiError, ResourceExhausted, Unauthenticated
from konomi.v1 import rater_pb2, rater_pb2_grpc
from konomi_chassis.auth.authentication import issue_token
from konomi_chassis.rpc.lanes import OPEN_AT_ONCE, PROBES, WATCHES_AT_ONCE
from tests.chassis import raw_http2 as raw
from tests.chassis.conftest import Caller

RATER, HEALTH = "/konomi.v1.RaterService/", "/grpc.health.v1.Health/"
RECORD, SCORE, FIT = RATER + "RecordLabels", RATER + "ScoreImages", RATER + "FitRater"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
LABEL = rater_pb2.RecordLabelsRequest(
    taste="tastes/mine",
    request_id="0190b2c4-0000-7000-8000-000000000001",
    labels=[rater_pb2.Label(image_digest="0" * 64, grade=5)],
)
MANY = 200
"""More than any lane has threads: that many stopped the whole server while a message was awaited before any check."""


class Rater(rater_pb2_grpc.RaterServiceServicer):
    def __init__(self):
        self.calls = []

    def RecordLabels(self, request, context):
        self.calls.append("RecordLabels")
        return rater_pb2.RecordLabelsResponse()

    def ScoreImages(self, request, context):
        self.calls.append("ScoreImages")
        return rater_pb2.ScoreImagesResponse()

    def FitRater(self, request, context):
        self.calls.append("FitRater")
        yield rater_pb2.FitRaterResponse()

    def AddImages(self, request_iterator, context):
        for _ in request_iterator:
            self.calls.append("AddImages")
            yield rater_pb2.AddImagesResponse()


@pytest.fixture
def rater():
    return Rater()


@pytest.fixture
def labeller(home):
    """A person's caller; also says how many labels and probes out of five come through."""

    class Person(Caller):
        def labels(self):
            return sum(self.outcome(RECORD, LABEL) == ("OK", "") for _ in range(5))

        def probes(self):
            anonymous = Caller("", channel=self.channel)
            return sum(
                anonymous.outcome(HEALTH + "Check", health_pb2.HealthCheckRequest()) == ("OK", "") for _ in range(5)
            )

    return lambda running: Person(running.address, issue_token(home, "ann", "labeller", "mine"))


@pytest.fixture
def stall(request):
    def begin(running, rpc, *metadata, count=MANY, body=b"", each=100):
        connections = raw.open_many(running.address, count, rpc, *metadata, body=body, each=each)
        request.addfinalizer(lambda: [connection.close() for connection in connections])
        return connections

    return begin


def bearer(token):
    return ("authorization", f"Bearer {token}")


@pytest.mark.parametrize("credentials", [(), (("authorization", "Bearer konomi_invented"),)])
@pytest.mark.parametrize("rpc", [RECORD, SCORE, FIT, RATER + "AddImages", "/konomi.v1.Nothing/AtAll"])
def test_without_a_token_no_call_waits_for_its_message(serve, rater, labeller, stall, rpc, credentials):
    running = serve(rater)
    person = labeller(running)
    connections = stall(running, rpc, *credentials)
    assert (person.labels(), person.probes()) == (5, 5)
    assert raw.ended(connections, MANY) == MANY
    assert set(rater.calls) == {"RecordLabels"} and len(rater.calls) == 5


def test_a_refusal_comes_before_the_message_and_says_why(serve, rater):
    running = serve(rater)
    began, unsent = time.monotonic(), threading.Event()

    def messages():
        unsent.wait(60)
        yield LABEL.SerializeToString()

    caller = Caller(running.address)
    with pytest.raises(Exception) as caught:
        list(caller.channel.stream_stream(RECORD)(messages(), timeout=60))
    unsent.set()
    assert caught.value.code().name == "UNAUTHENTICATED" and time.monotonic() - began < 30
    assert caller.outcome(RECORD, LABEL) == ("UNAUTHENTICATED", "TOKEN_MISSING")
    assert rater.calls == []


def test_part_of_a_large_message_without_a_token_is_not_kept(serve, rater, labeller, stall):
    running = serve(rater)
    person = labeller(running)
    connections = stall(running, SCORE, count=64, body=raw.message(bytes(8 << 20))[:60_000], each=1)
    assert (person.labels(), person.probes()) == (5, 5)
    assert raw.ended(connections, 64) == 64


@pytest.mark.parametrize("rpc", [SCORE, FIT, RATER + "AddImages"])
def test_a_tool_that_stalls_keeps_only_its_own_places(serve, rater, labeller, holder, home, stall, rpc):
    running = serve(rater, message_seconds=60.0)
    scope = "tool" if rpc == SCORE else "service"
    token = issue_token(home, "stalling", scope, "mine")
    connections = stall(running, rpc, bearer(token))
    person = labeller(running)
    assert (person.labels(), person.probes()) == (5, 5)
    assert raw.ended(connections, MANY - 32) == MANY - 32, "all beyond its share are refused at once"
    other = holder(running, "tool", "mine", name="other")
    assert other.outcome(SCORE, score()) == ("OK", "")
    assert Caller(running.address, token).outcome(rpc, b"") == ("RESOURCE_EXHAUSTED", "BUSY")


def test_a_labeller_that_stalls_keeps_no_other_from_labelling(serve, rater, labeller, owner, home, stall):
    running = serve(rater, message_seconds=60.0)
    connections = stall(running, RECORD, bearer(issue_token(home, "stalling", "labeller", "mine")))
    assert raw.ended(connections, MANY - 32) == MANY - 32
    person = labeller(running)
    assert (person.labels(), person.probes()) == (5, 5)
    stall(running, RECORD, bearer(issue_token(home, "too", "labeller", "mine")))
    stall(running, RECORD, bearer(issue_token(home, "and this", "labeller", "mine")))
    assert owner(running).outcome(RECORD, LABEL) == ("OK", ""), "the owner has places nobody else may take"


def test_a_message_that_does_not_come_in_time_ends_the_call(serve, rater, owner):
    running = serve(rater, message_seconds=0.3)
    caller, unsent = owner(running), threading.Event()

    def messages():
        unsent.wait(60)
        yield b""

    for rpc in (RECORD, FIT, RATER + "AddImages"):
        call = caller.channel.stream_stream(rpc)(messages(), metadata=caller.metadata, timeout=60)
        with pytest.raises(KonomiError) as caught:
            read(call)
        assert isinstance(caught.value, DeadlineExceeded) and caught.value.reason == "MESSAGE_SLOW"
    unsent.set()
    assert rater.calls == []
    assert caller.outcome(RECORD, LABEL) == ("OK", "")


def test_only_the_first_message_of_a_stream_has_to_hurry(serve, rater, owner):
    caller = owner(serve(rater, message_seconds=0.3))
    image = rater_pb2.AddImagesRequest(taste="tastes/mine", image=rater_pb2.Image(digest="0" * 64)).SerializeToString()

    def messages():
        yield image
        time.sleep(0.8)
        yield image

    call = caller.channel.stream_stream(RATER + "AddImages")(messages(), metadata=caller.metadata, timeout=60)
    assert len(list(call)) == 2


def test_a_call_without_any_message_is_told_so(serve, rater, owner):
    with pytest.raises(InvalidArgument) as caught:
        owner(serve(rater)).call(RECORD)
    assert caught.value.reason == "MESSAGE_MISSING" and rater.calls == []


def test_probes_come_through_beside_stalled_ones_and_the_oldest_is_told_to_go(serve, rater, labeller, stall):
    running = serve(rater)
    person = labeller(running)
    unsent = threading.Event()

    def messages():
        unsent.wait(60)
        yield b""

    first = person.channel.stream_stream(HEALTH + "Check")(messages(), timeout=60)
    connections = stall(running, HEALTH + "Check")
    assert (person.labels(), person.probes()) == (5, 5)
    with pytest.raises(KonomiError) as caught:
        read(first)
    unsent.set()
    assert isinstance(caught.value, (ResourceExhausted, DeadlineExceeded))
    assert caught.value.reason in ("BUSY", "MESSAGE_SLOW")
    assert raw.ended(connections, MANY - PROBES) >= MANY - PROBES


def test_watches_of_health_are_bounded_and_probes_are_not(serve, rater, labeller, stall):
    running = serve(rater)
    connections = stall(running, HEALTH + "Watch", body=raw.message(b""))
    person = labeller(running)
    assert raw.ended(connections, MANY - WATCHES_AT_ONCE) == MANY - WATCHES_AT_ONCE
    assert (person.labels(), person.probes()) == (5, 5)
    anonymous = Caller(running.address)
    assert anonymous.outcome(HEALTH + "Watch", health_pb2.HealthCheckRequest()) == ("RESOURCE_EXHAUSTED", "BUSY")


def test_reflection_without_a_token_is_bounded(serve, rater, labeller, stall):
    running = serve(rater)
    connections = stall(running, REFLECTION)
    person = labeller(running)
    assert raw.ended(connections, MANY - OPEN_AT_ONCE) == MANY - OPEN_AT_ONCE
    assert (person.labels(), person.probes()) == (5, 5)
    assert Caller(running.address).outcome(REFLECTION, b"") == ("RESOURCE_EXHAUSTED", "BUSY")


def test_callers_that_take_no_answer_are_cut_off(serve, rater, labeller, home):
    running = serve(rater, message_seconds=0.5)
    token = issue_token(home, "greedy", "labeller", "mine")
    deaf = raw.RawConnection(running.address, window=0)
    for _ in range(50):
        deaf.open(RECORD, bearer(token), body=raw.message(LABEL.SerializeToString()), complete=True)
        deaf.open(HEALTH + "Check", body=raw.message(b""), complete=True)
    person = labeller(running)
    assert (person.labels(), person.probes()) == (5, 5)
    assert raw.ended([deaf], 100) == 100
    deaf.close()


def test_a_dropped_connection_gives_its_places_back(serve, rater, home, holder, stall):
    running = serve(rater, message_seconds=300.0)
    token = issue_token(home, "stalling", "tool", "mine")
    connections = raw.open_many(running.address, 40, SCORE, bearer(token))  # 8 more than places: a slow one may be lost
    caller = Caller(running.address, token)
    deadline = time.monotonic() + 60
    while caller.outcome(SCORE, score()) != ("RESOURCE_EXHAUSTED", "BUSY"):
        assert time.monotonic() < deadline
    for connection in connections:
        connection.close()
    assert running._interceptor.admission.wait_until_idle(60)
    assert caller.outcome(SCORE, score()) == ("OK", "")


def test_nothing_of_a_refused_call_is_kept(serve, rater, stall):
    running = serve(rater)
    for _ in range(3):
        assert raw.ended(stall(running, RECORD), MANY) == MANY
    deadline = time.monotonic() + 60
    while running._server._state.rpc_states:
        assert time.monotonic() < deadline, "grpc still keeps calls that were refused"
        time.sleep(0.05)


def test_a_revoked_token_between_the_two_looks_is_refused(serve, rater, owner, monkeypatch):
    running = serve(rater)
    authenticator = running._interceptor._authenticator
    monkeypatch.setattr(authenticator, "holder", lambda metadata, real=authenticator.holder: real({}))
    assert owner(running).outcome(RECORD, LABEL)[0] in ("UNAUTHENTICATED", "UNAVAILABLE")
    assert rater.calls == []


def score():
    return rater_pb2.ScoreImagesRequest(taste="tastes/mine", images=[rater_pb2.ImageInput(digest="0" * 64)])


def read(call):
    import grpc

    from konomi.errors import from_rpc_error

    try:
        return list(call)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


def test_a_stalled_call_is_unauthenticated_like_any_other(serve, rater):
    with pytest.raises(Unauthenticated):
        Caller(serve(rater).address).call(RECORD)
