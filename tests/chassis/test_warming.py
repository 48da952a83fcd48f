"""What a service loads after its port is open: who waits for it, and what becomes of a server that cannot load it."""

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from grpc_health.v1 import health_pb2

from konomi.errors import FailedPrecondition, Unavailable
from konomi.v1 import rater_pb2, rater_pb2_grpc
from konomi_chassis.entrypoint import run
from konomi_chassis.lazy_value import LazyServicer, LazyValue
from konomi_chassis.server import start
from konomi_chassis.settings import ServerSettings
from tests.chassis.conftest import Caller, service_of

GET, LIST = "/konomi.v1.RaterService/GetTaste", "/konomi.v1.RaterService/ListTastes"


class Heavy(rater_pb2_grpc.RaterServiceServicer):
    """What takes long to make."""

    def GetTaste(self, request, context):
        return rater_pb2.Taste(name=request.name)

    def ListRaterVersions(self, request, context):
        raise FailedPrecondition("reached", reason="REACHED")


class Light:
    """The rpcs that need nothing of it."""

    def ListTastes(self, request, context):
        return rater_pb2.ListTastesResponse(tastes=[rater_pb2.Taste(name="tastes/light")])


@contextlib.contextmanager
def running_with(home, store, make):
    heavy = LazyValue(make)
    service = service_of("konomi.v1.RaterService", LazyServicer(heavy, Light()), warm=heavy)
    running = start("rater", [service], ServerSettings(home=home), store)
    yield running, Caller(running.address, (home / "tokens" / "owner.token").read_text().strip())
    running.stop(1)


def health(caller):
    answer = caller.call("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest())
    return health_pb2.HealthCheckResponse.FromString(answer[0]).status


def test_it_serves_while_it_warms_and_what_needs_the_libraries_waits_for_them(home, store):
    loaded, began = threading.Event(), threading.Semaphore(0)

    def make():
        began.release()
        assert loaded.wait(20)
        return Heavy()

    with running_with(home, store, make) as (running, caller), ThreadPoolExecutor(2) as threads:
        assert began.acquire(timeout=10)
        assert health(caller) == health_pb2.HealthCheckResponse.SERVING
        listed = caller.call(LIST, rater_pb2.ListTastesRequest())
        assert rater_pb2.ListTastesResponse.FromString(listed[0]).tastes[0].name == "tastes/light"
        request = rater_pb2.GetTasteRequest(name="tastes/mine")
        waiting = [threads.submit(caller.call, GET, request, timeout=20) for _ in range(2)]
        time.sleep(0.2)
        assert not any(call.done() for call in waiting) and not running.wait_until_warm(0)
        loaded.set()
        assert [rater_pb2.Taste.FromString(call.result(20)[0]).name for call in waiting] == ["tastes/mine"] * 2
        assert running.wait_until_warm(20) and running.failure is None
        assert not began.acquire(blocking=False), "made once, however many asked"


class Quick(rater_pb2_grpc.RaterServiceServicer):
    """What needs none of the libraries, as far as it knows; says which rpcs came."""

    def __init__(self):
        self.came = []

    def CreateTaste(self, request, context):
        self.came.append("work")
        return rater_pb2.Taste(name="tastes/mine")

    def RecordLabels(self, request, context):
        self.came.append("labels")
        return rater_pb2.RecordLabelsResponse()


@contextlib.contextmanager
def warming(home, store):
    """A server that warms up until it is let, its servicer, and a caller."""
    quick, let = Quick(), threading.Event()
    service = service_of("konomi.v1.RaterService", quick, warm=lambda: let.wait(60))
    running = start("rater", [service], ServerSettings(home=home), store)
    yield running, quick, let, Caller(running.address, (home / "tokens" / "owner.token").read_text().strip())
    let.set()
    running.stop(1)


CREATE = "/konomi.v1.RaterService/CreateTaste"
ASKED = rater_pb2.CreateTasteRequest(taste_id="mine", request_id=str(uuid.uuid4()))


def test_work_waits_for_the_libraries_whatever_it_needs_and_a_label_does_not(home, store):
    label = rater_pb2.Label(image_digest="a" * 64, grade=rater_pb2.GRADE_R)
    labels = rater_pb2.RecordLabelsRequest(taste="tastes/mine", labels=[label], request_id=str(uuid.uuid4()))
    with warming(home, store) as (_, quick, let, caller), ThreadPoolExecutor(1) as threads:
        created = threads.submit(caller.call, CREATE, ASKED, timeout=30)
        time.sleep(0.3)
        caller.call("/konomi.v1.RaterService/RecordLabels", labels, timeout=30)
        assert quick.came == ["labels"] and not created.done()
        let.set()
        assert rater_pb2.Taste.FromString(created.result(30)[0]).name == "tastes/mine"


def test_work_that_waits_is_refused_as_the_server_stops_and_never_begun(home, store):
    with warming(home, store) as (running, quick, _, caller), ThreadPoolExecutor(1) as threads:
        created = threads.submit(caller.call, CREATE, ASKED, timeout=30)
        time.sleep(0.3)
        running.stop(5, warm_seconds=0)
        with pytest.raises(Unavailable):
            created.result(30)
        assert quick.came == []


def test_a_server_whose_libraries_cannot_be_loaded_serves_no_more(home, store):
    broken = threading.Event()

    def make():
        assert broken.wait(20)
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    with running_with(home, store, make) as (running, caller):
        assert health(caller) == health_pb2.HealthCheckResponse.SERVING
        broken.set()
        assert running.ended.wait(20) and isinstance(running.failure, ModuleNotFoundError)
        assert health(caller) == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(Unavailable):
            caller.call(LIST, rater_pb2.ListTastesRequest())


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            FailedPrecondition("expected a device that is there; cuda:7 came", reason="DEVICE_MISSING"),
            78,
            "cuda:7",
        ),
        (ModuleNotFoundError("No module named 'torch'"), 1, "No module named 'torch'"),
    ],
)
def test_the_process_ends_with_what_kept_it_from_warming_up(home, capsys, error, code, says):
    def warm():
        raise error

    def build(settings, store):
        return [service_of("konomi.v1.RaterService", Heavy(), warm=warm)]

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert run("rater", build, ["--home", str(home)]) == code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        structlog.reset_defaults()
    assert says in capsys.readouterr().err


NEVER_LOADED = """
import sys, time

class Stuck:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("loading", file=sys.stderr, flush=True)
            time.sleep(600)

sys.meta_path.insert(0, Stuck())
from konomi_trainer.__main__ import main
sys.argv[1:] = ["--home", {home!r}, "--port", "0"]
sys.exit(main())
"""


@pytest.mark.slow
def test_a_trainer_told_to_end_while_its_libraries_load_ends_well_and_its_port_was_open(tmp_path):
    code = NEVER_LOADED.format(home=str(tmp_path))
    command, environment = [sys.executable, "-c", code], os.environ | {"KONOMI_SERVER_DRAIN_SECONDS": "1"}
    with (
        (tmp_path / "stderr").open("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as service,
    ):
        try:
            address = json.loads(service.stdout.readline())["address"]
            deadline = time.monotonic() + 60
            while "loading" not in (tmp_path / "stderr").read_text() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert "loading" in (tmp_path / "stderr").read_text()
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), 10).close()
            service.terminate()
            assert service.wait(60) == 0
        finally:
            service.kill()


def test_a_value_that_could_not_be_made_is_tried_again():
    answers = iter([OSError("busy"), 7])

    def make():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    value = LazyValue(make)
    with pytest.raises(OSError, match="busy"):
        value()
    assert value.if_made is None and value() == 7 and value() == 7 and value.if_made == 7


def test_the_collector_rests_while_a_service_warms_and_works_again_after(tmp_path, store):
    seen = []
    with running_with(tmp_path, store, lambda: seen.append((gc.isenabled(), gc.get_freeze_count())) or Heavy()) as (
        running,
        _,
    ):
        assert running.wait_until_warm(20)
        assert seen[0][0] is False and gc.isenabled() and gc.get_freeze_count() > seen[0][1]


@pytest.mark.slow
def test_torch_is_mapped_before_python_imports_it_and_imports_as_ever_after():
    code = """
import json, sys
from konomi_chassis.process import map_torch
mapped = map_torch()
maps = open("/proc/self/maps").read()
before = "torch" in sys.modules
import torch
again = map_torch()
print(json.dumps([mapped, "libtorch_cpu.so" in maps, before, again, float(torch.ones(2).sum())]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout) == [2, True, False, 0, 2.0]
