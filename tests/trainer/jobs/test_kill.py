"""`kill -9` of the trainer at every kind of moment: it always resumes, ends in the same bytes and trains once."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import pytest

from konomi.client import connect
from konomi.errors import KonomiError, Unavailable
from konomi.v1 import trainer_pb2 as pb
from tests.trainer.conftest import Bench, child_environment
from tests.trainer.methods.test_contrast import signed_manifest

NUMBERS = {"steps": 12, "checkpoint_steps": 3, "ema_decay": 0.9}
POINTS = (
    "trainer.before_create",
    "trainer.after_create",
    "trainer.checkpoint.mid_safetensors",
    "trainer.checkpoint.after_commit",
    "trainer.step@2",
    "trainer.checkpoint.after_tensors",
    "trainer.step@4",
    "trainer.checkpoint.mid_json",
    "trainer.before_adapter",
    "trainer.after_adapter",
    "trainer.in_register",
    "trainer.after_register",
)
"""In the order a run passes them; each kills a process of its own."""
FEW = (
    "trainer.after_create",
    "trainer.checkpoint.mid_safetensors",
    "trainer.step@2",
    "trainer.checkpoint.after_tensors",
    "trainer.before_adapter",
    "trainer.in_register",
)
"""One of every kind: accepted, in a file, between checkpoints, between the files of one, before the end, at the end."""


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["konomi_trainer.servicer.trainer", "konomi_trainer.base_models.catalogue", "konomi_chassis.entrypoint"]
)
"""Forks trainers from one process that has imported the libraries, which takes seconds, and done nothing else."""


def serve(home: str, failpoint: str, ready: Any) -> None:
    """Becomes `python -m konomi_trainer --home HOME`; the ready line goes to a file descriptor."""
    from konomi_trainer.__main__ import main

    os.dup2(ready.detach(), 1)
    os.dup2(os.open(f"{home}/trainer.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ.update(KONOMI_THREADS="1", KONOMI_FAILPOINT=failpoint)
    sys.argv = ["konomi_trainer", "--home", home]
    sys.exit(main())


class Child:
    """A trainer in a process of its own on a home."""

    def __init__(self, home: Path, failpoint: str = "") -> None:
        read, write = os.pipe()
        self.process = FORKS.Process(target=serve, args=(str(home), failpoint, DupFd(write)), daemon=True)
        self.process.start()
        os.close(write)
        with os.fdopen(read) as ready:
            line = ready.readline()
        self.client = connect(json.loads(line)["address"], home=home) if line else None

    def killed(self) -> bool:
        """Waits for the process and says whether a SIGKILL ended it."""
        return self._ended(60) == -signal.SIGKILL

    def kill(self) -> None:
        """Kills the process."""
        self.process.kill()
        self._ended(60)

    def terminate(self) -> int | None:
        """Asks the process to stop; returns its exit code."""
        self.process.terminate()
        return self._ended(40)

    def _ended(self, seconds: float) -> int | None:
        self.process.join(seconds)
        if self.client is not None:
            self.client.close()
        return self.process.exitcode


def finish(child: Child, request: pb.CreateTrainingRunRequest) -> pb.TrainingRun:
    """Sends a request, again where it was cut off, and watches the run to its end."""
    assert child.client is not None
    run = child.client.trainer.create_training_run(request)
    *_, last = child.client.trainer.watch_training_run(name=run.name)
    return last


@pytest.fixture(scope="module")
def elsewhere(bases: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[pb.CreateTrainingRunRequest, str]:
    """A request, and the adapter an unbroken run of it makes in a home of its own."""
    other = tmp_path_factory.mktemp("elsewhere") / "home"
    shutil.copytree(bases, other / "models")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KONOMI_THREADS", "1")
        bench = Bench(other).start()
        try:
            manifest = bench.manifest()
            digest = bench.trained(manifest, **NUMBERS).adapter_digest
        finally:
            bench.stop()
    return bench.request(manifest, **NUMBERS), digest


@pytest.fixture
def unbroken(home: Path, elsewhere: tuple[pb.CreateTrainingRunRequest, str]) -> tuple[pb.CreateTrainingRunRequest, str]:
    """That request and its adapter, the images of the request being in the home of the test."""
    Bench(home).manifest()
    return elsewhere


@pytest.mark.parametrize("points", [FEW, pytest.param(POINTS, marks=pytest.mark.chaos)], ids=["few", "all"])
def test_a_run_killed_at_every_point_ends_in_the_same_adapter(points: tuple[str, ...], home: Path, unbroken) -> None:  # type: ignore[no-untyped-def]
    request, digest = unbroken
    for point in points:
        child = Child(home, point)
        if child.client is not None:
            try:
                finish(child, request)
            except KonomiError as error:
                assert isinstance(error, Unavailable), error
        assert child.killed(), f"{point} was never passed"
    child = Child(home)
    run = finish(child, request)
    assert run.state == pb.TRAINING_STATE_SUCCEEDED
    assert child.client is not None
    models = child.client.trainer.list_models().models
    assert [model.adapter_digest for model in models] == [digest]
    assert len(child.client.trainer.list_training_runs().training_runs) == 1
    assert not list((home / "checkpoints").glob("*"))
    assert child.terminate() == 0


@pytest.mark.chaos
def test_a_run_with_signs_killed_in_mid_step_ends_in_the_same_adapter(home: Path, bases: Path, tmp_path: Path) -> None:
    digests = []
    for place, point in ((home, "trainer.step@4"), (tmp_path / "unbroken", "")):
        if not place.exists():
            shutil.copytree(bases, place / "models")
        bench = Bench(place)
        request = bench.request(signed_manifest(bench), **NUMBERS, contrast_beta=0.5)
        child = Child(place, point)
        if point:
            with pytest.raises(Unavailable):
                finish(child, request)
            assert child.killed()
            child = Child(place)
        assert finish(child, request).state == pb.TRAINING_STATE_SUCCEEDED
        assert child.client is not None
        digests.append(child.client.trainer.list_models().models[0].adapter_digest)
        child.kill()
    assert digests[0] == digests[1]


def test_a_stop_in_mid_run_is_quick_and_loses_nothing(home: Path, unbroken) -> None:  # type: ignore[no-untyped-def]
    request, digest = unbroken
    child = Child(home)
    assert child.client is not None
    name = child.client.trainer.create_training_run(request).name
    watch = child.client.trainer.watch_training_run(name=name)
    while next(watch).step < 4:
        pass
    began = time.monotonic()
    assert child.terminate() == 0 and time.monotonic() - began < 10
    child = Child(home)
    assert finish(child, request).state == pb.TRAINING_STATE_SUCCEEDED
    assert child.client is not None
    assert child.client.trainer.list_models().models[0].adapter_digest == digest
    child.kill()


def test_the_module_serves_and_stops(home: Path) -> None:
    command = [sys.executable, "-m", "konomi_trainer", "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment()) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["role"] == "trainer"
            with connect(ready["address"], home=home) as client:
                assert not client.trainer.list_models().models
            process.terminate()
            assert process.wait(40) == 0
        finally:
            process.kill()
