"""Single files of the flow families: a transformer, perhaps an autoencoder, and a folder that lends the rest."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ChromaTransformer2DModel, FluxTransformer2DModel, Lumina2Transformer2DModel
from safetensors.torch import load_file, save_file

from konomi.errors import FailedPrecondition
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.loading import load_pipeline
from konomi_generator.model_import.importer import put
from konomi_trainer.base_models import checkpoint_layout
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.settings import TrainerSettings
from tests.families.conftest import MODELS
from tests.families.flow.test_images import CPU
from tests.families.original_flows import original
from tests.families.test_protocol import prepared
from tests.trainer.base_models.test_memory_counts import shape_of

HEAD = "model.diffusion_model."
WEIGHTS = "diffusion_pytorch_model.safetensors"
IDS = ("sd3", "z-image", "qwen-image", "klein-base")
"""Those whose published widths diffusers' converters do not count on."""
WHOLE = {"sd3": "first_stage_model.", "z-image": "vae."}


def transformer(home: Path, id: str) -> dict[str, torch.Tensor]:
    return load_file(home / "models" / id / "transformer" / WEIGHTS)


def with_file(home: Path, folder: Path, id: str, tensors: dict[str, torch.Tensor]) -> Path:
    """Returns a home with a model's folder and the single file "mine"."""
    (folder / "models").mkdir(parents=True)
    (folder / "models" / id).symlink_to(home / "models" / id)
    save_file(tensors, folder / "models" / "mine.safetensors")
    return folder


def refused(home: Path, reason: str = "MODEL_PARTS") -> str:
    with pytest.raises(FailedPrecondition) as caught:
        BaseModels(home).get("mine")
    assert caught.value.reason == reason
    return str(caught.value)


def loaded(home: Path, id: str) -> Any:
    return load_pipeline(BaseModels(home).get(id), home / "configs", CPU, torch.float32)


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("head", ["", HEAD])
@pytest.mark.parametrize("id", IDS)
def test_a_file_is_the_folder_it_was_made_from(id: str, head: str, home: Path, tmp_path: Path) -> None:
    kind = MODELS[id]
    tensors = {head + name: tensor for name, tensor in original(kind, transformer(home, id)).items()}
    if head:
        tensors["text_encoders.other.weight"] = torch.ones(2)
    own = with_file(home, tmp_path, id, tensors)
    models = BaseModels(own)
    folder, file = models.get(id), models.get("mine")
    assert (file.format, file.layout, file.lender) == ("single_file", kind, folder.path)
    assert (file.parameters, file.resolution, file.schedule) == (folder.parameters, folder.resolution, folder.schedule)
    assert file.settings.drawing == folder.settings.drawing and file.settings.parts.folder == id
    assert models.digest(file) != models.digest(folder)
    one, other = loaded(own, "mine"), loaded(own, id)
    assert_same(one.transformer, other.transformer)
    assert one.scheduler.config == other.scheduler.config


@pytest.mark.slow
@pytest.mark.parametrize("id", WHOLE)
def test_its_own_autoencoder_is_taken(id: str, home: Path, tmp_path: Path) -> None:
    lent = load_file(home / "models" / id / "vae" / WEIGHTS)
    others = {name: tensor + 0.25 for name, tensor in lent.items()}
    renamed = checkpoint_layout._vae(others)
    tensors = {HEAD + name: tensor for name, tensor in original(MODELS[id], transformer(home, id)).items()}
    own = with_file(home, tmp_path, id, tensors | {WHOLE[id] + name: tensor for name, tensor in renamed.items()})
    vae = loaded(own, "mine").vae.state_dict()
    assert all(torch.equal(vae[name], tensor) for name, tensor in others.items())


def test_an_autoencoder_that_no_single_file_of_a_family_is_read_with_is_refused(home: Path, tmp_path: Path) -> None:
    tensors = original("flux2_klein", transformer(home, "klein-base")) | {"vae.encoder.conv_in.weight": torch.ones(1)}
    why = refused(with_file(home, tmp_path, "klein-base", tensors), "MODEL_LAYOUT")
    assert "it holds an autoencoder, which is read from no single file of flux2_klein" in why


def test_a_file_without_a_folder_that_fits_is_refused(home: Path, tmp_path: Path) -> None:
    tensors = original("sd3", transformer(home, "sd3"))
    assert "alone: put a diffusers folder" in refused(with_file(home, tmp_path / "other", "z-image", tensors))
    tensors["more.weight"] = torch.ones(100, 100)
    assert "sd3 has " in refused(with_file(home, tmp_path / "larger", "sd3", tensors))


def test_of_two_folders_the_owner_names_one(home: Path, tmp_path: Path) -> None:
    own = with_file(home, tmp_path, "klein", original("flux2_klein", transformer(home, "klein")))
    (own / "models" / "klein-base").symlink_to(home / "models" / "klein-base")
    assert "fits klein and klein-base: name the one it was made from" in refused(own)
    settings = own / "models" / "mine.toml"
    for lender, guided in (("klein", True), ("klein-base", False)):
        settings.write_text(f'[parts]\nfolder = "{lender}"\n')
        model = BaseModels(own).get("mine")
        assert model.lender == own / "models" / lender and model.schedule.unguided is guided
    settings.write_text('[parts]\nfolder = "nobody"\n')
    assert "[parts] names 'nobody', which is no usable folder of this family" in refused(own)


def test_a_file_that_lacks_weights_or_has_numbers_with_scales_is_refused(home: Path, tmp_path: Path) -> None:
    tensors = original("z_image", transformer(home, "z-image"))
    del tensors["layers.1.ffn_norm2.weight"]  # too few of them for the count to tell
    with pytest.raises(FailedPrecondition) as caught:
        loaded(with_file(home, tmp_path / "less", "z-image", tensors), "mine")
    assert caught.value.reason in ("MODEL_BROKEN", "MODEL_PARTS")
    scaled = original("z_image", transformer(home, "z-image")) | {"layers.0.scaled_fp8": torch.ones(1)}
    assert "numbers of eight bits" in refused(with_file(home, tmp_path / "scaled", "z-image", scaled), "MODEL_LAYOUT")


def test_import_takes_the_rest_from_the_home_and_writes_down_from_where(home: Path, tmp_path: Path) -> None:
    own = with_file(home, tmp_path / "home", "z-image", original("z_image", transformer(home, "z-image")))
    source = (own / "models" / "mine.safetensors").rename(tmp_path / "Fine Tune.safetensors")
    said = put(source, own, "", convert=False)
    assert (said["id"], said["layout"], said["prediction_type"]) == ("fine-tune", "z_image", "flow")
    assert '[parts]\nfolder = "z-image"' in (own / "models" / "fine-tune.toml").read_text()
    models = BaseModels(own)
    before = models.digest(models.get("fine-tune"))
    assert before == said["digest"]
    lender = own / "models" / "z-image"
    lender.unlink()
    shutil.copytree(home / "models" / "z-image", lender)
    assert models.digest(models.get("fine-tune")) == before
    scheduler = lender / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"shift": 5.0}))
    assert models.digest(models.get("fine-tune")) != before, "what is lent is part of what it is"


@pytest.mark.slow
def test_a_lora_takes_a_step_on_a_single_file(home: Path, tmp_path: Path) -> None:
    own = with_file(home, tmp_path / "home", "z-image", original("z_image", transformer(home, "z-image")))
    assert BaseCatalogue(own, TrainerSettings(home=own, device="cpu")).describe("mine").layout == "z_image"
    losses = []
    for id in ("mine", "z-image"):
        _, method = prepared(own, tmp_path / id, id, 32)
        losses.append(method.loss(0, range(3)).item())
    assert losses[0] == losses[1]


FLUX_WIDTHS = {"num_attention_heads": 24, "attention_head_dim": 128, "axes_dims_rope": (16, 56, 56)}
LUMINA_WIDTHS = {"hidden_size": 2304, "num_attention_heads": 24, "num_kv_heads": 8, "axes_dim_rope": (32, 32, 32)}
PUBLISHED_WIDTHS = {
    "flux1-schnell": (FluxTransformer2DModel, FLUX_WIDTHS),
    "chroma": (ChromaTransformer2DModel, FLUX_WIDTHS | {"approximator_hidden_dim": 3072}),
    "lumina2": (Lumina2Transformer2DModel, LUMINA_WIDTHS),
}
"""Of these diffusers' converters know the published widths alone."""


@pytest.mark.chaos
@pytest.mark.parametrize("id", PUBLISHED_WIDTHS)
def test_a_file_of_the_published_width_is_the_folder_it_was_made_from(id: str, home: Path, tmp_path: Path) -> None:
    """One block of each kind at the width that is published: 0.2 to 0.9 GB."""
    kind, widths = PUBLISHED_WIDTHS[id]
    copy = tmp_path / "wide" / "models" / id
    shutil.copytree(home / "models" / id, copy)
    config = json.loads((copy / "transformer" / "config.json").read_text())
    network = shape_of(lambda: kind.from_config(config | widths), torch.bfloat16).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        weight.data = torch.randn(1, generator=generator).to(torch.bfloat16).expand(weight.shape).contiguous()
        weight.data.view(-1)[::7919].add_(1)
    network.save_pretrained(copy / "transformer")
    own = with_file(copy.parents[1], tmp_path / "home", id, original(MODELS[id], network.state_dict()))
    pipe = load_pipeline(BaseModels(own).get("mine"), own, CPU, torch.bfloat16)
    assert_same(pipe.transformer, network)
