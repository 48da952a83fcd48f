"""A home with tiny models, the generator's parts over it, and a real server on a socket."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.backends.diffusers.batches import SIZES
from konomi_generator.generator import Generator
from konomi_generator.sampling import Sampling
from konomi_generator.settings import GeneratorSettings
from tests.generator import original_layout, tiny_models

os.environ["HF_HUB_OFFLINE"] = "1"


class SmallBatches(DiffusersBackend):
    """Looks for batch sizes among the two smallest, on sixteen rows: of all four it takes longer than the pictures.

    Nothing else differs. What all four do is asked of the whole back end in test_determinism and test_memory_fallback.
    """

    def _measure(self, sampling: Sampling, length: int) -> tuple[int, ...]:
        with torch.inference_mode():
            return self._denoiser.stable_sizes(sampling, SIZES[-2:], length)


class OneByOne(DiffusersBackend):
    """Draws image by image and measures nothing: for what a picture shows and not for what stands beside it."""

    def _measure(self, sampling: Sampling, length: int) -> tuple[int, ...]:
        return (1,)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with starter, sd1, sd2 and sdxl as folders, and the last three as files too; `configs` for the files."""
    home = tmp_path_factory.mktemp("home")
    models = home / "models"
    tiny_models.starter().to(dtype=torch.float16).save_pretrained(models / "starter" / "diffusion")
    for name in ("sd1", "sd2", "sdxl"):
        pipe = getattr(tiny_models, name)()
        pipe.save_pretrained(models / name)
        tiny_models.save_configs(pipe, home / "configs" / name)
        save_file(original_layout.checkpoint(pipe), models / f"{name}-file.safetensors")
    return home


@pytest.fixture(scope="session")
def settings(home: Path) -> GeneratorSettings:
    """One thread, configurations of reduced width."""
    return GeneratorSettings(home=home, threads=1, single_file_configs=home / "configs", device="cpu")


@pytest.fixture(scope="session")
def store(home: Path) -> ArtifactStore:
    """The home's artifact store."""
    return ArtifactStore(StoreSettings(home=home))


@pytest.fixture(scope="session")
def models(home: Path) -> BaseModels:
    """The home's catalogue."""
    return BaseModels(home)


@pytest.fixture(scope="session")
def generator(settings: GeneratorSettings, store: ArtifactStore, models: BaseModels) -> Iterator[Generator]:
    """The use case over the real back end."""
    decoder = Decoder()
    generator = Generator(models, store, SmallBatches(settings), decoder, writers=2, max_side=2048)
    yield generator
    generator.close()
    decoder.close()
