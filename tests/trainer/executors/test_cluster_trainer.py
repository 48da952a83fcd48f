"""Runs on a Ray cluster: the bytes of a local run, also where a machine dies in its middle; what a caller hears."""

import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.data.manifest import ManifestItem, render
from konomi_trainer.jobs.shared_checkpoints import TENSORS_TYPE, SharedRunFiles
from tests.chassis.cluster.ray_cluster import RayPlace, ray_place
from tests.postgresql import Rows
from tests.trainer.conftest import Bench

NUMBERS = {"steps": 60, "checkpoint_steps": 5, "ema_decay": 0.9}


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayPlace]:
    with ray_place(1) as place:
        yield place


@pytest.fixture
def on_ray(cluster: RayPlace, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A trainer whose runs are actors'."""
    monkeypatch.setenv("KONOMI_SCALE_TRAIN_EXECUTOR", "ray")
    monkeypatch.setenv("KONOMI_SCALE_ADDRESS", cluster.cluster.address)
    monkeypatch.setenv("KONOMI_SCALE_PATIENCE_SECONDS", "120")
    bench = Bench(home).start()
    yield bench
    bench.stop()


@pytest.fixture
def expected(bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_in: Rows) -> tuple:
    """What an undisturbed run on this machine makes: adapter, metrics, and what it published."""
    place = tmp_path / "local"
    shutil.copytree(bases, place / "models")
    kept_in.settings(place)
    monkeypatch.setenv("KONOMI_THREADS", "1")
    bench = Bench(place).start()
    try:
        return made(bench, bench.client.trainer.create_training_run(asked(bench)).name)
    finally:
        bench.stop()


def asked(bench: Bench, **numbers: float) -> pb.CreateTrainingRunRequest:
    request = bench.request(bench.manifest(4), **{**NUMBERS, **numbers})
    request.reports.CopyFrom(pb.CheckpointReports(adapters=True))
    return request


def made(bench: Bench, name: str) -> tuple:
    run = bench.finish(name)
    assert run.state == pb.TRAINING_STATE_SUCCEEDED, run
    model = bench.client.trainer.get_model(name=run.model)
    return model.adapter_digest, dict(model.metrics), [(c.step, c.loss, c.adapter_digest) for c in run.checkpoints]


def test_a_run_whose_node_is_killed_goes_on_elsewhere_and_makes_the_same_bytes(
    cluster: RayPlace, expected: tuple, on_ray: Bench
) -> None:
    name = on_ray.client.trainer.create_training_run(asked(on_ray)).name
    files, run = SharedRunFiles(on_ray.home, on_ray.store), name.removeprefix("trainingRuns/")
    deadline = time.monotonic() + 120
    while not files.noted(run):  # soon, so that a busy machine does not finish the run before the node is killed
        assert time.monotonic() < deadline, on_ray.client.trainer.get_training_run(name=name)
        time.sleep(0.02)
    cluster.kill()
    for left in on_ray.home.joinpath("checkpoints", run).glob("*step-*"):  # another machine has none of it
        left.unlink()
    noted = files.noted(run)
    assert noted[-1].step < 60, "it was killed in the middle"
    cluster.add()
    assert made(on_ray, name) == expected
    assert not (on_ray.home / "checkpoints" / run).exists()


@pytest.mark.chaos
def test_cancelling_reaches_the_actor_and_what_is_wrong_is_said_in_the_same_words(on_ray: Bench) -> None:
    trainer = on_ray.client.trainer
    name = trainer.create_training_run(asked(on_ray, steps=100_000)).name
    reached = until(on_ray, name, 6)
    trainer.cancel_training_run(name=name)
    assert on_ray.finish(name).state == pb.TRAINING_STATE_CANCELLED
    assert trainer.get_training_run(name=name).step >= reached
    unreadable = on_ray.store.put(b"no picture", "image/png").digest
    broken = render((ManifestItem(unreadable, "a face", 1.0, "selected"),))
    failing = on_ray.request(on_ray.store.put(broken, "application/json").digest)
    failed = on_ray.finish(trainer.create_training_run(failing).name)
    assert failed.error.reason == "IMAGE_TYPE" and f"image {unreadable} of the manifest" in failed.error.message


@pytest.mark.chaos
def test_a_service_that_is_started_again_goes_on_from_the_noted_checkpoint_and_a_finished_run_leaves_nothing(
    expected: tuple, on_ray: Bench
) -> None:
    before = set(on_ray.store.digests())
    name = on_ray.client.trainer.create_training_run(asked(on_ray)).name
    files, run = SharedRunFiles(on_ray.home, on_ray.store), name.removeprefix("trainingRuns/")
    until(on_ray, name, 11)
    on_ray.stop()
    noted = files.noted(run)
    assert len(noted) == 2 and 10 <= noted[-1].step < 60
    shared = {digest for one in noted for digest in (one.tensors, one.record)}
    assert shared <= set(on_ray.store.digests()), "what a run may go on from is kept"
    assert types(on_ray, set(on_ray.store.digests()) - before).count(TENSORS_TYPE) == 2, "and nothing older"
    on_ray.start()
    steps = {state.step for state in on_ray.client.trainer.watch_training_run(name=name) if state.phase == "training"}
    assert min(steps - {0}) >= noted[-1].step, "0 is said until the first step"
    assert made(on_ray, name) == expected
    assert TENSORS_TYPE not in types(on_ray, set(on_ray.store.digests())) and not files.unfinished()


@pytest.mark.chaos
def test_a_cluster_without_room_fails_the_run_in_words_and_the_run_can_be_asked_for_again(
    cluster: RayPlace, on_ray: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_ray.stop()
    with monkeypatch.context() as patched:
        patched.setenv("KONOMI_SCALE_PATIENCE_SECONDS", "2")
        patched.setenv("KONOMI_SCALE_ACTOR_CPUS", "64")
        on_ray.start()
        request = asked(on_ray, steps=5)
        name = on_ray.client.trainer.create_training_run(request).name
        ended = on_ray.finish(name)
        assert ended.state == pb.TRAINING_STATE_FAILED and ended.error.reason == "CLUSTER_AWAY"
        assert "No machine of the Ray cluster has room for the training run" in ended.error.message
        assert "it takes 64 cores of one machine. Start the run again" in ended.error.message
        on_ray.stop()
    on_ray.start()
    request.request_id = str(uuid.uuid4())
    assert made(on_ray, on_ray.client.trainer.create_training_run(request).name)[0]


def until(bench: Bench, name: str, step: int) -> int:
    """Waits until a run has taken a step and returns the one it has taken last."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        run = bench.client.trainer.get_training_run(name=name)
        assert run.state in (pb.TRAINING_STATE_QUEUED, pb.TRAINING_STATE_RUNNING), run
        if run.step >= step:
            return int(run.step)
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached in time")


def types(bench: Bench, digests: set[str]) -> list[str]:
    return [bench.store.stat(digest).media_type for digest in digests]
