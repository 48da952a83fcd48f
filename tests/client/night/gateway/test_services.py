"""Before a fit the generator is asked for its memory; one that cannot give it back, or is away, does no harm."""

import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from konomi import errors
from konomi.cli.models.compare import _Attached
from konomi.client import Client
from konomi.errors import PermissionDenied
from konomi.night.draws import Draw
from konomi.night.engine.patience import Patience
from konomi.night.gateway import training
from konomi.night.gateway.services import NightServices, TrainingRun
from konomi.night.records.fit import Model
from konomi.night.settings import NightSettings
from konomi.v1 import artifact_pb2, generator_pb2, generator_pb2_grpc, trainer_pb2

FAILED, SUCCEEDED = trainer_pb2.TRAINING_STATE_FAILED, trainer_pb2.TRAINING_STATE_SUCCEEDED
RUN = TrainingRun("0" * 64, "starter", 1, "0190b2c4-0000-7000-8000-000000000001", "unit-1", (), "")


class Releasing(generator_pb2_grpc.GeneratorServiceServicer):
    """Gives its memory back, or refuses to."""

    def __init__(self, trainer_calls: list[str], code: grpc.StatusCode | None = None) -> None:
        self.calls, self.code = trainer_calls, code

    def ReleaseMemory(self, request, context):
        self.calls.append("release")
        if self.code is not None:
            context.abort(self.code, "no")
        return generator_pb2.ReleaseMemoryResponse(released_bytes=5)


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def gateway_of(tmp_path: Path, monkeypatch, calls: list[str]) -> Iterator:
    """Makes the services of a night with a generator of a kind; every run of the trainer fails at once."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    monkeypatch.setenv("STAND_IN_LOSS", "nan")
    stand_ins = importlib.import_module("stand_ins")
    create = stand_ins.Trainer.CreateTrainingRun
    monkeypatch.setattr(
        stand_ins.Trainer, "CreateTrainingRun", lambda *given: (calls.append("train"), create(*given))[1]
    )
    trainer, address = stand_ins.start("trainer", tmp_path)
    servers, clients = [trainer], []

    def gateway_of(generator: generator_pb2_grpc.GeneratorServiceServicer | None) -> NightServices:
        server = grpc.server(ThreadPoolExecutor(2))
        generator_pb2_grpc.add_GeneratorServiceServicer_to_server(
            generator or generator_pb2_grpc.GeneratorServiceServicer(), server
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        clients.append(Client.from_addresses({"trainer": address, "generator": f"127.0.0.1:{port}"}))
        return NightServices(_Attached(clients[-1]), "tastes/default")

    yield gateway_of
    for client in clients:
        client.close()
    for server in servers:
        server.stop(None)


def test_a_fit_begins_after_the_generator_gave_its_memory_back(gateway_of, calls: list[str]) -> None:
    fit = gateway_of(Releasing(calls)).train(RUN, {"steps": 2}, lambda *_beat: None, "lora")
    assert fit.why == "LOSS_NOT_FINITE" and calls == ["release", "train"]


@pytest.mark.parametrize("older", [True, False])
def test_an_older_generator_or_one_that_is_away_does_not_stop_a_fit(
    older: bool, gateway_of, calls, monkeypatch
) -> None:
    gateway = gateway_of(None if older else Releasing(calls, grpc.StatusCode.UNAVAILABLE))
    assert gateway.train(RUN, {"steps": 2}, lambda *_beat: None, "lora").why == "LOSS_NOT_FINITE"
    assert calls[-1] == "train"


def test_any_other_failure_is_told(gateway_of, calls: list[str]) -> None:
    with pytest.raises(PermissionDenied):
        gateway_of(Releasing(calls, grpc.StatusCode.PERMISSION_DENIED)).train(RUN, {}, lambda *_beat: None, "lora")
    assert calls == ["release"]


class Passing:
    """A trainer whose run fails until it was asked for often enough; under one request id it repeats its answer."""

    def __init__(self, code: int, reason: str, failures: int) -> None:
        self.code, self.reason, self.failures, self.asked, self.state = code, reason, failures, {}, None

    def create_training_run(self, request):
        if request.request_id not in self.asked:
            self.asked[request.request_id] = len(self.asked)
            self.state = trainer_pb2.TRAINING_STATE_RUNNING
        return trainer_pb2.TrainingRun(name="trainingRuns/r", state=trainer_pb2.TRAINING_STATE_QUEUED)

    def get_training_run(self, name):
        run = trainer_pb2.TrainingRun(name=name, state=self.state, model="models/m", step=5, total_steps=9)
        if self.state == FAILED:
            run.error.CopyFrom(artifact_pb2.ItemError(code=self.code, reason=self.reason, message="away"))
        return run

    def watch_training_run(self, name):
        yield self.get_training_run(name)
        self.state = FAILED if len(self.asked) <= self.failures else SUCCEEDED
        yield self.get_training_run(name)

    def ended(self) -> trainer_pb2.TrainingRun:
        request = trainer_pb2.CreateTrainingRunRequest(request_id="0190b2c4-0000-7000-8000-000000000001")
        return training.ended(SimpleNamespace(trainer=self), request, lambda *_beat: None)


def test_a_run_that_its_machine_was_lost_to_is_asked_for_again_and_its_failure_is_no_end():
    trainer = Passing(14, "CLUSTER_AWAY", failures=2)
    with pytest.raises(errors.Unavailable, match="away") as caught:
        trainer.ended()
    assert caught.value.reason == "CLUSTER_AWAY" and len(trainer.asked) == 1
    with pytest.raises(errors.Unavailable):
        trainer.ended()
    assert trainer.ended().state == SUCCEEDED and len(trainer.asked) == 3, "each time under a request id of its own"
    assert trainer.ended().state == SUCCEEDED and len(trainer.asked) == 3, "and never where it has a model"


def test_a_run_that_would_fail_again_is_at_its_end():
    trainer = Passing(9, "LOSS_NOT_FINITE", failures=9)
    assert [trainer.ended().error.reason for _ in range(2)] == ["LOSS_NOT_FINITE"] * 2 and len(trainer.asked) == 1


def test_a_cluster_that_is_away_is_waited_for_by_the_clock_and_all_else_by_tries():
    now = [0.0]
    patience = Patience(NightSettings(away_seconds=150, attempts=3, backoff_seconds=1), lambda: now[0])
    away, busy = errors.Unavailable("away", reason="CLUSTER_AWAY", retry_after=60.0), errors.Unavailable("busy")
    pauses = []
    while (pause := patience.pause(away)) is not None:
        pauses.append(pause)
        now[0] += pause + 5
    assert pauses == [60.0, 60.0, 20.0], "and a last time when the time is over"
    patience = Patience(NightSettings(away_seconds=150, attempts=3, backoff_seconds=1), lambda: now[0])
    assert [patience.pause(one) for one in (busy, away, busy, away, busy)] == [1.0, 60.0, 2.0, 60.0, None]
    assert Patience(NightSettings(away_seconds=0), lambda: 0.0).pause(away) is None


class Drawing(generator_pb2_grpc.GeneratorServiceServicer):
    """Draws one image by a base model with or without an unconditional half, and notes what it was asked."""

    def __init__(self, unguided: bool) -> None:
        self.unguided, self.asked, self.looked = unguided, [], 0

    def InspectModel(self, request, context):
        self.looked += 1
        return generator_pb2.BaseModel(id=request.id, unguided=self.unguided)

    def GenerateImages(self, request, context):
        self.asked.append(request.guide_from_base)
        yield generator_pb2.GeneratedImage(index=0, artifact={"digest": "1" * 64})


@pytest.mark.parametrize("unguided", [True, False])
def test_a_base_without_an_unconditional_half_does_not_guide_a_unit(unguided: bool, gateway_of) -> None:
    generator, unit = Drawing(unguided), Model(model="m", unit=1, adapter="a" * 64)
    gateway = gateway_of(generator)
    for seed in (1, 2):
        gateway.generate([Draw("a cat", seed, "served")], unit, NightSettings(base_model="flux"), lambda *_beat: None)
    gateway.generate([Draw("a cat", 3, "served")], unit, NightSettings(guide_from_base=False), lambda *_beat: None)
    assert generator.asked == [not unguided, not unguided, False] and generator.looked == 1


class Versions:
    """A rater that notes which version it was asked for, and has lost one."""

    def __init__(self, lost: str = "", reason: str = "") -> None:
        self.lost, self.reason, self.asked = lost, reason, []

    def score_images(self, taste, rater_version="", **fields):
        self.asked.append(rater_version)
        if self.lost and rater_version == self.lost:
            raise errors.FailedPrecondition("the version cannot score", reason=self.reason)
        return rater_version


def test_a_night_asks_for_the_version_it_keeps():
    gateway, rater = NightServices(None, "tastes/t"), Versions()
    gateway.by_version(rater.score_images, images=[])
    gateway.version = "tastes/t/raterVersions/3"
    gateway.by_version(rater.score_images, images=[])
    assert rater.asked == ["", "tastes/t/raterVersions/3"]


@pytest.mark.parametrize("reason", ["EMBEDDER_CHANGED", "RATER_VERSION_NOT_FOUND", "HEAD_MISSING"])
def test_a_version_that_can_score_no_more_is_given_up_so_that_the_guard_ends_the_night(reason):
    gateway, rater = NightServices(None, "tastes/t"), Versions("tastes/t/raterVersions/3", reason)
    gateway.version = rater.lost
    gateway.by_version(rater.score_images, images=[])
    assert (rater.asked, gateway.version) == ([rater.lost, ""], "")


def test_another_refusal_is_the_callers():
    gateway, rater = NightServices(None, "tastes/t"), Versions("tastes/t/raterVersions/3", "RATER_NOT_FITTED")
    gateway.version = rater.lost
    with pytest.raises(errors.FailedPrecondition, match="cannot score"):
        gateway.by_version(rater.score_images, images=[])
    assert gateway.version == rater.lost
