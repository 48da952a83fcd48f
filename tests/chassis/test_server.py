"""The assembled server on a real socket: errors, limits, health, drain."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status

from konomi.errors import (
    Cancelled,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    KonomiError,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from konomi.v1 import rater_pb2, rater_pb2_grpc
from konomi_chassis.auth.authentication import principal
from konomi_chassis.server import bind, start
from konomi_chassis.settings import ServerSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from tests.chassis.conftest import Caller, service_of

RATER = "/konomi.v1.RaterService/"
GET, FIT, ADD, SCORE = RATER + "GetTaste", RATER + "FitRater", RATER + "AddImages", RATER + "ScoreImages"
UUID = "0190b2c4-0000-7000-8000-000000000001"


class Rater(rater_pb2_grpc.RaterServiceServicer):
    """Misbehaves on demand, as the taste's name says."""

    def __init__(self):
        self.release, self.entered, self.cancelled = threading.Event(), threading.Semaphore(0), threading.Event()

    def GetTaste(self, request, context):
        kind = request.name.removeprefix("tastes/")
        if kind == "bug":
            raise ValueError("select * from secrets where path = /etc/shadow")
        if kind == "full":
            raise OSError(28, "No space left on device", "/var/lib/konomi")
        if kind == "memory":
            raise MemoryError
        if kind == "missing":
            raise NotFound("There is no such taste.", reason="TASTE_NOT_FOUND")
        if kind == "stub":
            raise NotImplementedError("deep inside a library")
        if kind == "big":
            return rater_pb2.Taste(display_name="x" * 2_000_000)
        if kind == "wait":
            self.entered.release()
            self.release.wait(20)
        return rater_pb2.Taste(name=request.name, display_name=principal().name)

    def ScoreImages(self, request, context):
        if request.taste != "tastes/wait":
            return super().ScoreImages(request, context)
        self.entered.release()
        self.release.wait(20)
        return rater_pb2.ScoreImagesResponse()

    def RecordLabels(self, request, context):
        return rater_pb2.RecordLabelsResponse()

    def FitRater(self, request, context):
        kind = request.taste.removeprefix("tastes/")
        if kind == "early":
            raise FailedPrecondition("Too few labels.", reason="TOO_FEW_LABELS")
        context.add_callback(self.cancelled.set if kind in ("forever", "blocked") else lambda: None)
        yield rater_pb2.FitRaterResponse(progress=rater_pb2.Progress(phase="one"))
        if kind == "late":
            raise FailedPrecondition("Too few labels.", reason="TOO_FEW_LABELS")
        if kind == "bug":
            raise KeyError("secret column")
        if kind == "forever":
            while context.is_active():
                time.sleep(0.01)
                yield rater_pb2.FitRaterResponse(progress=rater_pb2.Progress(phase="more"))
        if kind == "blocked":
            self.cancelled.wait(20)

    def AddImages(self, request_iterator, context):
        for request in request_iterator:
            yield rater_pb2.AddImagesResponse(digest=request.image.digest)


@pytest.fixture
def rater():
    servicer = Rater()
    yield servicer
    servicer.release.set()


def get(caller, name, **options):
    return caller.call(GET, rater_pb2.GetTasteRequest(name=f"tastes/{name}"), **options)


def details(caught, kind):
    status = rpc_status.from_call(caught.value.__cause__)
    message = kind()
    return next(message for detail in status.details if detail.Unpack(message))


def test_a_call_is_answered_and_knows_its_caller(serve, owner, rater):
    taste = rater_pb2.Taste.FromString(get(owner(serve(rater)), "mine")[0])
    assert (taste.name, taste.display_name) == ("tastes/mine", "owner")


def test_konomi_errors_carry_reason_and_domain(serve, owner, rater):
    with pytest.raises(NotFound) as caught:
        get(owner(serve(rater)), "missing")
    info = details(caught, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("TASTE_NOT_FOUND", "konomi")
    assert caught.value.message == "There is no such taste."


@pytest.mark.parametrize("rpc", [GET, FIT])
def test_a_bug_shows_an_id_and_nothing_of_its_inside(serve, owner, rater, capfd, rpc):
    make = rater_pb2.GetTasteRequest if rpc == GET else rater_pb2.FitRaterRequest
    request = make(**{"name" if rpc == GET else "taste": "tastes/bug"})
    with pytest.raises(Internal) as caught:
        owner(serve(rater)).call(rpc, request)
    message = caught.value.message
    assert not any(word in message for word in ("secret", "shadow", "Error", "Traceback"))
    error_id = message.rstrip(".").rpartition(" ")[2]
    logged = capfd.readouterr().err
    assert len(error_id) == 16 and error_id in logged and "secret" in logged


def test_a_full_disk_is_resource_exhausted(serve, owner, rater):
    with pytest.raises(ResourceExhausted) as caught:
        get(owner(serve(rater)), "full")
    assert caught.value.reason == "DISK_FULL" and caught.value.retry_after and "/var" not in caught.value.message


def test_memory_errors_do_not_end_the_server(serve, owner, rater):
    caller = owner(serve(rater))
    with pytest.raises(ResourceExhausted) as caught:
        get(caller, "memory")
    assert caught.value.reason == "OUT_OF_MEMORY"
    assert get(caller, "mine")


def test_streams_are_translated_before_and_after_their_first_answer(serve, owner, rater):
    caller = owner(serve(rater))
    for kind, before in (("early", 0), ("late", 1)):
        stream = caller.channel.unary_stream(FIT)(
            rater_pb2.FitRaterRequest(taste=f"tastes/{kind}").SerializeToString(), metadata=caller.metadata, timeout=10
        )
        seen = []
        with pytest.raises(grpc.RpcError) as caught:
            seen.extend(stream)
            seen.extend(stream)
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        status = rpc_status.from_call(caught.value)
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info) and info.reason == "TOO_FEW_LABELS"
        assert kind == "late" or len(seen) == before


def test_bad_messages_inside_a_request_stream_are_refused(serve, owner, rater):
    caller = owner(serve(rater))
    good = rater_pb2.AddImagesRequest(taste="tastes/mine", image=rater_pb2.Image(digest="0" * 64))
    assert len(caller.call(ADD, good, good)) == 2
    with pytest.raises(InvalidArgument) as caught:
        caller.call(ADD, good, rater_pb2.AddImagesRequest(taste="../mine"))
    assert caught.value.field == "taste"


def test_rpcs_nobody_serves_answer_with_a_sentence(serve, owner, rater):
    caller = owner(serve(rater))
    for rpc, request in (
        (RATER + "ListTastes", rater_pb2.ListTastesRequest()),
        (RATER + "ListImages", rater_pb2.ListImagesRequest(taste="tastes/mine")),
        ("/konomi.v1.TrainerService/ListModels", b""),
    ):
        with pytest.raises(Unimplemented) as caught:
            caller.call(rpc, request)
        assert "not served here" in caught.value.message


def test_a_library_that_lacks_something_is_a_bug_not_an_unserved_rpc(serve, owner, rater):
    with pytest.raises(Internal):
        get(owner(serve(rater)), "stub")


def test_bytes_that_are_no_message_are_refused(serve, owner, rater):
    with pytest.raises(InvalidArgument) as caught:
        owner(serve(rater)).call(GET, b"\xff\xff\xff")
    assert caught.value.reason == "MALFORMED"


def test_the_message_limit_is_exact_and_says_what_to_do(serve, owner, rater):
    caller = owner(serve(rater, max_message_bytes=1_000_000))
    empty = rater_pb2.ScoreImagesRequest(taste="tastes/mine", images=[rater_pb2.ImageInput(content=b"x" * 900_000)])
    fits = b"x" * (900_000 + 1_000_000 - empty.ByteSize())
    for data, reason in ((fits, "NOT_SERVED"), (fits + b"x", "MESSAGE_TOO_LARGE")):
        request = rater_pb2.ScoreImagesRequest(taste="tastes/mine", images=[rater_pb2.ImageInput(content=data)])
        assert request.ByteSize() == 1_000_000 + (reason == "MESSAGE_TOO_LARGE")
        assert caller.outcome(SCORE, request)[1] == reason
    with pytest.raises(ResourceExhausted, match="ArtifactService"):
        get(caller, "big")
    assert get(caller, "mine")


def test_far_beyond_the_limit_grpc_itself_refuses_and_the_server_lives(serve, owner, rater):
    caller = owner(serve(rater, max_message_bytes=100_000))
    with pytest.raises(ResourceExhausted):
        caller.call(SCORE, b"x" * 300_000)
    assert get(caller, "mine")


def test_all_violations_come_at_once(serve, owner, rater):
    request = rater_pb2.RecordLabelsRequest(taste="mine", labels=[rater_pb2.Label(image_digest="no", grade=9)])
    with pytest.raises(InvalidArgument) as caught:
        owner(serve(rater)).call(RATER + "RecordLabels", request)
    fields = {violation.field for violation in details(caught, error_details_pb2.BadRequest).field_violations}
    assert fields == {"taste", "labels[0].image_digest", "labels[0].grade", "request_id"}


def test_a_cancelled_stream_stops_its_handler(serve, owner, rater):
    caller = owner(serve(rater))
    request = rater_pb2.FitRaterRequest(taste="tastes/forever").SerializeToString()
    stream = caller.channel.unary_stream(FIT)(request, metadata=caller.metadata, timeout=30)
    next(stream)
    stream.cancel()
    assert rater.cancelled.wait(5)


def test_a_hundred_cancelled_calls_leave_no_handler_running(serve, owner, rater):
    running = serve(rater, max_in_flight=64, max_in_flight_per_principal=64)
    caller = owner(running)
    request = rater_pb2.FitRaterRequest(taste="tastes/forever").SerializeToString()
    for _ in range(5):
        streams = [caller.channel.unary_stream(FIT)(request, metadata=caller.metadata, timeout=30) for _ in range(20)]
        for stream in streams:
            next(stream)
        for stream in streams:
            stream.cancel()
        assert running._interceptor.admission.wait_until_idle(5)


@pytest.mark.parametrize("host", ["localhost", "::1", "[::1]", "127.0.0.2"])
def test_every_loopback_address_is_served_without_tls(serve, owner, rater, host):
    try:
        running = serve(rater, host=host)
    except FailedPrecondition as error:
        assert error.reason == "PORT_TAKEN" and "::1" in host
        pytest.skip("this machine has no IPv6")
    assert get(owner(running), "mine")


def test_a_call_without_a_deadline_gets_the_servers(serve, owner, rater):
    caller = owner(serve(rater, default_deadline_seconds=0.3))
    began = time.monotonic()
    with pytest.raises(Cancelled):
        caller.call(FIT, rater_pb2.FitRaterRequest(taste="tastes/blocked"), timeout=None)
    assert rater.cancelled.wait(5) and time.monotonic() - began < 5


def test_a_clients_own_deadline_is_not_cut(serve, owner, rater):
    caller = owner(serve(rater, default_deadline_seconds=0.1))
    rater.release.set()
    timer = threading.Timer(0.4, rater.cancelled.set)
    timer.start()
    assert caller.call(FIT, rater_pb2.FitRaterRequest(taste="tastes/blocked"), timeout=10)
    timer.join()


def test_beyond_its_share_a_caller_is_refused_fast_and_others_are_not(serve, owner, holder, rater):
    running = serve(rater, max_in_flight=8, max_in_flight_per_principal=2, label_reserve=1)
    greedy, modest = holder(running, "tool", "wait", name="greedy"), holder(running, "tool", "mine", name="modest")
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(get, greedy, "wait") for _ in range(2)]
        for _ in range(2):
            assert rater.entered.acquire(timeout=5)
        began = time.monotonic()
        with pytest.raises(ResourceExhausted) as caught:
            get(greedy, "wait")
        assert time.monotonic() - began < 0.5
        assert caught.value.reason == "BUSY" and caught.value.retry_after == 1.0
        assert get(modest, "mine")
        rater.release.set()
        assert all(future.result() for future in waiting)
    assert get(greedy, "wait")


def test_when_all_work_is_taken_labels_and_reads_still_find_a_place(serve, owner, rater):
    running = serve(rater, max_in_flight=2, max_in_flight_per_principal=8, label_reserve=1)
    caller = owner(running)
    label = rater_pb2.RecordLabelsRequest(
        taste="tastes/mine", request_id=UUID, labels=[rater_pb2.Label(image_digest="0" * 64, grade=5)]
    )
    work = rater_pb2.ScoreImagesRequest(taste="tastes/wait", images=[rater_pb2.ImageInput(digest="0" * 64)])
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(caller.call, SCORE, work) for _ in range(2)]
        for _ in range(2):
            assert rater.entered.acquire(timeout=5)
        assert caller.outcome(SCORE, work) == ("RESOURCE_EXHAUSTED", "BUSY")
        caller.call(RATER + "RecordLabels", label)
        assert get(caller, "mine")
        rater.release.set()
        assert all(future.result() for future in waiting)


def test_five_times_the_capacity_is_refused_within_bounds_and_the_rest_is_served(serve, owner, rater):
    caller = owner(serve(rater, max_in_flight=4, max_in_flight_per_principal=4, label_reserve=0))
    get(caller, "mine")

    def attempt(_):
        try:
            return len(get(caller, "mine"))
        except ResourceExhausted as error:
            assert error.retry_after
            return 0

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(attempt, range(400)))
    assert sum(answers) >= 4
    assert get(caller, "mine")


def test_guessing_is_slowed_down_but_the_owner_gets_through(serve, owner, rater):
    running = serve(rater, auth_failures_per_minute=3)
    guesser = Caller(running.address, "konomi_guess")
    outcomes = [guesser.outcome(GET, b"")[0] for _ in range(5)]
    assert outcomes == ["UNAUTHENTICATED"] * 3 + ["RESOURCE_EXHAUSTED"] * 2
    assert get(owner(running), "mine")


def test_health_follows_readiness_and_calls_wait_their_turn(home, store: ArtifactStore, rater):
    ready = threading.Event()
    closed = threading.Event()
    service = service_of("konomi.v1.RaterService", rater, prepare=ready.wait, drain=closed.set)
    running = bind("rater", [service], ServerSettings(home=home), store)
    caller = Caller(running.address, (home / "tokens" / "owner.token").read_text().strip())

    def health(name=""):
        answer = caller.call("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest(service=name))
        return health_pb2.HealthCheckResponse.FromString(answer[0]).status

    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert health() == health("konomi.v1.RaterService") == not_serving
    with pytest.raises(Unavailable) as caught:
        get(caller, "mine")
    assert caught.value.retry_after == 1.0
    preparing = threading.Thread(target=running.prepare)
    preparing.start()
    assert health() == not_serving
    ready.set()
    preparing.join()
    assert health() == health("konomi.v1.RaterService") == health("konomi.v1.ArtifactService") == serving
    assert get(caller, "mine")
    assert not closed.is_set()
    assert running.stop(1)
    assert closed.is_set()


def test_a_draining_server_finishes_what_it_has_and_refuses_the_rest(home, store, rater):
    service = service_of("konomi.v1.RaterService", rater)
    running = start("rater", [service], ServerSettings(home=home), store)
    caller = Caller(running.address, (home / "tokens" / "owner.token").read_text().strip())
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(get, caller, "wait")
        assert rater.entered.acquire(timeout=5)
        stopped = pool.submit(running.stop, 10)
        assert running.draining.wait(5)
        with pytest.raises(Unavailable) as caught:
            get(caller, "mine")
        assert caught.value.reason == "DRAINING" and caught.value.retry_after
        answer = caller.call("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest())
        assert health_pb2.HealthCheckResponse.FromString(answer[0]).status == health_pb2.HealthCheckResponse.NOT_SERVING
        rater.release.set()
        assert waiting.result(5)
        assert stopped.result(10)


def test_a_health_watcher_does_not_hold_up_the_drain(home, store, rater):
    running = start("rater", [], ServerSettings(home=home), store)
    caller = Caller(running.address, (home / "tokens" / "owner.token").read_text().strip())
    watch = caller.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", metadata=caller.metadata, timeout=30)
    next(watch)
    began = time.monotonic()
    assert running.stop(20)
    assert time.monotonic() - began < 5


def test_two_servers_never_share_a_port(serve, rater):
    port = int(serve(rater).address.rpartition(":")[2])
    with pytest.raises(FailedPrecondition, match="port is taken"):
        serve(rater, port=port)


def test_one_log_line_a_call_and_no_token_in_any(serve, owner, home, rater, capfd):
    caller = owner(serve(rater))
    get(caller, "mine")
    for name in ("bug", "missing"):
        with pytest.raises(KonomiError):
            get(caller, name)
    Caller(caller.channel, "konomi_secretguess", channel=caller.channel).outcome(GET, b"")
    time.sleep(0.1)
    logged = capfd.readouterr().err
    assert sum('"event": "rpc"' in line for line in logged.splitlines()) == 4
    assert (home / "tokens" / "owner.token").read_text().strip() not in logged
    assert "secretguess" not in logged


def test_a_service_with_a_request_no_rules_check_is_refused_at_the_start(home, store, rater):
    service = service_of("konomi.v1.RaterService", rater)
    rules = {name: fields for name, fields in service.rules.items() if name != "GetTasteRequest"}
    with pytest.raises(Internal, match="GetTasteRequest is missing in the rules"):
        bind("rater", [replace(service, rules=rules)], ServerSettings(home=home), store)
