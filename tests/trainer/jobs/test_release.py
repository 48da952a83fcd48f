"""After a run nothing of its base is left in the process, whether it ended well, was stopped or failed."""

import gc
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from konomi.errors import FailedPrecondition
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.configuration import complete
from konomi_trainer.data.manifest import ManifestItem, render
from konomi_trainer.jobs.publishing import Reports
from konomi_trainer.jobs.trainer import Listener, Trainer
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.settings import TrainerSettings
from konomi_trainer.training.compilation import release
from konomi_trainer.training.loop import Progress, Stopped

IMAGES = tuple(bytes([number]) for number in range(3))


class Store(dict[str, bytes]):
    """Bytes by their digest."""

    def keep(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self[digest] = data
        return digest

    def get(self, digest: str) -> bytes:  # type: ignore[override]
        return self[digest]


def pixels(data: bytes) -> np.ndarray:
    return np.random.default_rng(data[0]).integers(0, 256, (32, 32, 3)).astype(np.uint8)


def held() -> int:
    """Returns how many numbers tensors hold that are alive."""
    gc.collect()
    return sum(found.numel() for found in gc.get_objects() if isinstance(found, torch.Tensor))


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["done", "stopped", "failed"])
def test_no_tensor_of_a_run_is_alive_after_it(ending: str, home: Path) -> None:
    store = Store()
    items = tuple(ManifestItem(store.keep(data), "a face", 1.0, "selected") for data in IMAGES)
    manifest = store.keep(render(items))
    bases = BaseCatalogue(home, TrainerSettings(home=home, device="cpu"))
    trainer = Trainer(store, bases.load, pixels, home)
    numbers = {"steps": 3, "batch_size": 1, "checkpoint_steps": 1, "text_encoder_learning_rate": 1e-4}
    configuration = complete(
        "lora", "tiny-xl", bases.digest("tiny-xl"), 1, {**numbers, "precision": "bf16"}, METHODS["lora"].defaults
    )

    def progress(progress: Progress) -> None:
        if ending == "failed":
            raise FailedPrecondition("the test ends it")

    taken: list[int] = []

    def stopping() -> bool:
        taken.append(1)
        return ending == "stopped" and len(taken) > 6

    before = held()
    caught: type[BaseException] | None = None
    try:
        listener = Listener(lambda name: None, progress, stopping)
        trainer.fit("run", manifest, configuration, listener, Reports(True, ("a",), 1))
    except (FailedPrecondition, Stopped) as error:
        caught = type(error)
    assert (caught is None) is (ending == "done")
    release()
    assert held() <= before
