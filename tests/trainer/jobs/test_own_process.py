"""A run in a process of its own: the same bytes, progress, cancel and errors; a sentence where it is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from konomi.errors import KonomiError
from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.data.manifest import ManifestItem, render
from konomi_trainer.jobs import own_process
from konomi_trainer.training.ranks import watched
from tests.trainer.conftest import Bench
from tests.trainer.training.test_ranks import others

RUN = "konomi_trainer.jobs.run_process"
NUMBERS = {"steps": 6, "checkpoint_steps": 2, "ema_decay": 0.9}


def bench_of(home: Path, monkeypatch: pytest.MonkeyPatch, own: str) -> Bench:
    """Returns a trainer on a copy of a home, whose runs have processes of their own or not."""
    monkeypatch.setenv("KONOMI_OWN_PROCESS", own)
    place = home.with_name(f"home-{own}")
    place.mkdir()
    (place / "models").symlink_to(home / "models")
    return Bench(place).start()


@pytest.mark.slow
def test_a_run_in_its_own_process_publishes_and_makes_the_same_bytes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for own in ("false", "true"):
        bench = bench_of(home, monkeypatch, own)
        try:
            request = bench.request(bench.manifest(4), **NUMBERS)
            request.reports.CopyFrom(pb.CheckpointReports(adapters=True, sample_prompts=["a face"], sample_steps=1))
            name = bench.client.trainer.create_training_run(request).name
            states = list(bench.client.trainer.watch_training_run(name=name))
            assert states[-1].state == pb.TRAINING_STATE_SUCCEEDED, states[-1]
            assert {"training", "encoding"} & {state.phase for state in states}
            model = bench.client.trainer.get_model(name=states[-1].model)
            checkpoints = [(c.step, c.loss, c.adapter_digest, c.sheet_digest) for c in states[-1].checkpoints]
            made.append((model.adapter_digest, dict(model.metrics), checkpoints))
            assert not others(os.getpid(), RUN) and not list((bench.home / "checkpoints").glob("*"))
        finally:
            bench.stop()
    assert made[0] == made[1] and len(made[0][2]) == 3


@pytest.mark.slow
def test_a_run_in_its_own_process_is_cancelled_and_its_errors_are_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(home, monkeypatch, "true")
    try:
        request = bench.request(bench.manifest(4), steps=100_000, checkpoint_steps=2)
        name = bench.client.trainer.create_training_run(request).name
        reached = until(bench, name, 3)
        bench.client.trainer.cancel_training_run(name=name)
        assert bench.finish(name).state == pb.TRAINING_STATE_CANCELLED
        assert not others(os.getpid(), RUN)
        assert bench.client.trainer.get_training_run(name=name).step >= reached
        unreadable = bench.store.put(b"no picture", "image/png").digest
        broken = render((ManifestItem(unreadable, "a face", 1.0, "selected"),))
        failing = bench.request(bench.store.put(broken, "application/json").digest)
        failed = bench.finish(bench.client.trainer.create_training_run(failing).name)
        assert failed.state == pb.TRAINING_STATE_FAILED and failed.error.reason == "IMAGE_TYPE"
        assert f"image {unreadable} of the manifest" in failed.error.message
    finally:
        bench.stop()


@pytest.mark.chaos
def test_a_killed_process_fails_its_run_in_a_sentence_which_goes_on_when_asked_again_and_is_cancelled(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(home, monkeypatch, "true")
    try:
        request = bench.request(bench.manifest(4), steps=100_000, checkpoint_steps=5)
        name = bench.client.trainer.create_training_run(request).name
        reached = until(bench, name, 10)
        (child,) = others(os.getpid(), RUN)
        os.kill(child, signal.SIGKILL)
        ended = bench.finish(name)
        assert ended.state == pb.TRAINING_STATE_FAILED and ended.error.reason == "RANK_LOST"
        assert "Start the run again: it goes on from its newest checkpoint" in ended.error.message
        request.request_id = str(uuid.uuid4())
        again = bench.client.trainer.create_training_run(request)
        assert again.name == name and again.state == pb.TRAINING_STATE_QUEUED
        assert next(state.step for state in bench.client.trainer.watch_training_run(name=name) if state.phase) >= 0
        assert until(bench, name, reached + 5) > reached
        bench.client.trainer.cancel_training_run(name=name)
        assert bench.finish(name).state == pb.TRAINING_STATE_CANCELLED
        assert not others(os.getpid(), RUN)
        assert bench.client.trainer.get_training_run(name=name).step > reached
    finally:
        bench.stop()


def until(bench: Bench, name: str, step: int) -> int:
    """Waits until a run has taken a step and returns the one it has taken last."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        run = bench.client.trainer.get_training_run(name=name)
        assert run.state in (pb.TRAINING_STATE_QUEUED, pb.TRAINING_STATE_RUNNING), run
        if run.step >= step:
            return int(run.step)
        time.sleep(0.1)
    raise AssertionError(f"step {step} was not reached in time")


@pytest.mark.parametrize(
    ("setting", "place", "own"),
    [("auto", "cpu", False), ("auto", "cuda", True), (True, "cpu", True), (False, "cuda:1", False)],
)
def test_on_a_gpu_a_run_has_its_own_process_unless_somebody_says_otherwise(
    setting: bool | str, place: str, own: bool
) -> None:
    assert own_process.wanted(setting, place) is own


def test_a_rank_that_fails_ends_what_waits_for_it_and_then_the_process() -> None:
    """NCCL waits for a rank that is gone for hours; nothing but its process tells."""
    aborted, ended = threading.Event(), list[KonomiError]()
    resorted = threading.Event()

    def last_resort(error: KonomiError) -> None:
        ended.append(error)
        resorted.set()

    with (
        subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as rank,
        watched([rank], aborted.set, last_resort, grace=0.05),
    ):
        assert aborted.wait(60) and resorted.wait(60)
    assert [error.reason for error in ended] == ["RANK_LOST"]


@pytest.mark.slow
def test_ranks_that_have_done_their_part_end_nothing() -> None:
    aborted = threading.Event()
    with subprocess.Popen([sys.executable, "-c", ""]) as rank, watched([rank], aborted.set):
        rank.wait()
        assert not aborted.wait(1.2)
