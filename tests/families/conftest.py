"""A home with a tiny model of every family, the toy one among them, and each loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.families import table
from konomi_chassis.models.loading import load_pipeline
from tests.families import tiny_flows, tiny_packed, toy
from tests.generator import original_layout, tiny_models

MODELS = {"starter": "sd1", "sd1": "sd1", "sd1-file": "sd1", "sd2": "sd2", "sd2-file": "sd2", "sdxl": "sdxl"}
MODELS |= {"sdxl-file": "sdxl", "sd3": "sd3", "toy": "toy"}
MODELS |= tiny_packed.MODELS
MODELS |= {"z-image": "z_image", "lumina2": "lumina2"}
"""Base model → its family. A new family is tested by a line here and a tiny model below."""


@pytest.fixture(autouse=True, scope="session")
def _entered() -> Iterator[None]:
    """The toy family is in the table while this room is tested."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(table.FAMILIES, toy.TOY.name, toy.TOY)
        yield


@pytest.fixture(scope="session")
def home(_entered: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one tiny model a family, as a folder and, where the family has them, as a file."""
    home = tmp_path_factory.mktemp("home")
    tiny_models.starter().save_pretrained(home / "models" / "starter" / "diffusion")
    for name in ("sd1", "sd2", "sdxl"):
        pipe = getattr(tiny_models, name)()
        pipe.save_pretrained(home / "models" / name)
        tiny_models.save_configs(pipe, home / "configs" / name)
        save_file(original_layout.checkpoint(pipe), home / "models" / f"{name}-file.safetensors")
    toy.save(home / "models" / "toy")
    tiny_flows.sd3().save_pretrained(home / "models" / "sd3")
    tiny_packed.save(home / "models")
    tiny_flows.z_image().save_pretrained(home / "models" / "z-image")
    tiny_flows.lumina2().save_pretrained(home / "models" / "lumina2")
    return home


@pytest.fixture(scope="module", params=MODELS)
def id(request: pytest.FixtureRequest) -> str:
    """A base model of the home."""
    return str(request.param)


@pytest.fixture(scope="module")
def pipe(home: Path, id: str) -> Any:
    """It, loaded in float32 once for all a module asks of it: adapters are off again after each test."""
    return load_pipeline(BaseModels(home).get(id), home / "configs", torch.device("cpu"), torch.float32)
