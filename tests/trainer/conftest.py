"""A home with tiny base models, a trainer on a real socket, and the parts of a request."""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from konomi.client import Client, connect
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.server import RunningServer, start
from konomi_chassis.settings import ServerSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_trainer.__main__ import build
from konomi_trainer.data.manifest import ManifestItem, render
from tests.postgresql import Rows
from tests.trainer import tiny


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of base models: "tiny" (SD 1.x layout, v-prediction) and "tiny-xl"."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bases")
    tiny.save_sd1(folder / "tiny")
    tiny.save_sdxl(folder / "tiny-xl")
    return folder


@pytest.fixture
def home(bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_in: Rows) -> Path:
    """A fresh home with those base models; one thread."""
    monkeypatch.setenv("KONOMI_THREADS", "1")
    shutil.copytree(bases, tmp_path / "home" / "models")
    kept_in.settings(tmp_path / "home")
    return tmp_path / "home"


class Bench:
    """A trainer and its client on one home, with the requests the tests send."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = ArtifactStore(StoreSettings(home=home))
        self.server: RunningServer | None = None
        self.client: Client

    def start(self) -> "Bench":
        settings = ServerSettings(home=self.home)
        self.server = start("trainer", build(settings, self.store), settings, self.store)
        self.client = connect(self.server.address, home=self.home)
        return self

    def stop(self) -> None:
        if self.server is not None:
            self.client.close()
            assert self.server.stop(5.0)
            self.server = None

    def manifest(self, count: int = 5, side: int = 64, first: int = 0) -> str:
        """Puts images and their manifest into the store; returns its digest."""
        items = [
            ManifestItem(
                self.store.put(tiny.png(first + i, side), "image/png").digest, f"face {i % 2}", 1.0 + i % 2, "selected"
            )
            for i in range(count)
        ]
        return self.store.put(render(tuple(items)), "application/json").digest

    def request(self, manifest: str, base: str = "tiny", **numbers: float) -> pb.CreateTrainingRunRequest:
        """Returns a request for a short run, with a fresh request id."""
        return pb.CreateTrainingRunRequest(
            taste="tastes/default",
            manifest_digest=manifest,
            method=pb.TRAINING_METHOD_LORA,
            base_model=base,
            hyper_parameters=pb.HyperParameters(**{"steps": 6, "batch_size": 4, "checkpoint_steps": 2, **numbers}),
            seed=7,
            request_id=str(uuid.uuid4()),
            display_name="unit-1",
        )

    def finish(self, name: str) -> pb.TrainingRun:
        """Watches a run to its end and returns it."""
        return list(self.client.trainer.watch_training_run(name=name))[-1]

    def trained(self, manifest: str, base: str = "tiny", **numbers: float) -> pb.Model:
        """Trains a model and returns it."""
        run = self.finish(self.client.trainer.create_training_run(self.request(manifest, base, **numbers)).name)
        assert run.state == pb.TRAINING_STATE_SUCCEEDED, run
        return self.client.trainer.get_model(name=run.model)


@pytest.fixture
def bench(home: Path) -> Iterator[Bench]:
    """A running trainer."""
    bench = Bench(home).start()
    yield bench
    bench.stop()


def child_environment() -> dict[str, str]:
    """Returns the environment of a trainer in its own process."""
    return {**os.environ, "KONOMI_THREADS": "1"}
