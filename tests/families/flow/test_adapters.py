"""LoRAs of the families that follow a flow: what konomi trains plain diffusers loads, under its names and ComfyUI's."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.families import table
from konomi_chassis.models.families.flow.z_image import Z_IMAGE
from konomi_chassis.models.families.layer_names import Z_IMAGE_LAYERS
from konomi_chassis.models.loading import load_pipeline
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.sampling import AdapterFile, ImageRequest, Sampling
from konomi_trainer.export import comfyui, kohya
from konomi_trainer.methods import custom_diffusion
from konomi_trainer.training.checkpoints import Checkpoints
from konomi_trainer.training.loop import LoopSettings, Stopped, Surroundings, train
from tests.families.flow.test_images import CPU, FLOWS, SHORT, drawn, theirs_drawn
from tests.families.test_protocol import prepared


@pytest.fixture(params=FLOWS)
def flow(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def trained(home: Path, folder: Path, id: str, side: int) -> bytes:
    """Returns the file of a LoRA after three steps that are large enough to be seen."""
    _, method = prepared(home, folder, id, side)
    optimizer = torch.optim.AdamW(list(method.weights.values()), lr=0.05)
    losses = []
    for step in range(3):
        loss = method.loss(step, range(3))
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert np.isfinite(losses).all()
    weights = {name: weight.detach().clone() for name, weight in method.weights.items()}
    return method.save(weights, {"schema": "konomi.adapter/1"}).adapter


@pytest.mark.slow
def test_three_steps_are_loaded_by_plain_diffusers_and_off_is_the_base_to_the_bit(
    home: Path, flow: str, tmp_path: Path
) -> None:
    own = load_pipeline(BaseModels(home).get(flow), home / "configs", CPU, torch.float32)
    denoiser, adapters = Denoiser(own), Adapters(own)
    side = denoiser.family.trained_side(own)
    data = trained(home, tmp_path / "cache", flow, side)
    sampling, row = Sampling(3, 4.0, side, side), ImageRequest(0, SHORT, 5)
    plain = drawn(denoiser, [row], sampling)
    adapters.apply([AdapterFile("a" * 64, data, 1.0)])
    changed = drawn(denoiser, [row], sampling)
    assert np.abs(changed - plain).max() > 0.01
    assert np.allclose(theirs_with(home, flow, own, data, tmp_path, denoiser, row, sampling), changed, atol=1e-3)
    adapters.apply([])
    assert np.array_equal(drawn(denoiser, [row], sampling), plain)
    as_comfyui = {name.replace("transformer.", "diffusion_model.", 1): weight for name, weight in load(data).items()}
    adapters.apply([AdapterFile("b" * 64, save(as_comfyui), 1.0)])
    assert np.array_equal(drawn(denoiser, [row], sampling), changed)


COMFY = {"z-image": "layers.0.attention.to_q.lora_down.weight", "lumina2": "layers.0.attention.qkv.lora_A.weight"}
"""Base model → a tensor of its file for ComfyUI, which knows Lumina 2 by its authors' layers."""


@pytest.mark.slow
@pytest.mark.parametrize("id", COMFY)
def test_an_export_for_comfyui_comes_back_as_the_same_lora(id: str, home: Path, tmp_path: Path) -> None:
    own = load_pipeline(BaseModels(home).get(id), home / "configs", CPU, torch.float32)
    denoiser, adapters = Denoiser(own), Adapters(own)
    side = denoiser.family.trained_side(own)
    data = trained(home, tmp_path / "cache", id, side)
    sampling, row = Sampling(2, 1.0, side, side), ImageRequest(0, SHORT, 5)

    def image(file: bytes) -> np.ndarray:
        adapters.apply([AdapterFile(hashlib.sha256(file).hexdigest(), file, 1.0)])
        return drawn(denoiser, [row], sampling)

    exported = kohya.rename(load(data), denoiser.family.name, 0)
    assert f"diffusion_model.{COMFY[id]}" in exported
    assert all(name.startswith("diffusion_model.") for name in exported)
    assert np.allclose(image(save(exported)), image(data), atol=2e-3)  # in half precision
    if id == "z-image":
        own_layers = {name.removeprefix("transformer."): tensor for name, tensor in load(data).items()}
        joined = comfyui.layers(own_layers, replace(Z_IMAGE.exported, layers=Z_IMAGE_LAYERS))
        assert "diffusion_model.layers.0.attention.qkv.lora_down.weight" in joined
        assert np.allclose(image(save(joined)), image(save(exported)), atol=1e-4)
        theirs = theirs_with(home, id, own, save(exported), tmp_path, denoiser, row, sampling)
        assert np.allclose(theirs, image(save(exported)), atol=1e-3)


@pytest.mark.slow
def test_a_run_stopped_after_a_step_goes_on_to_the_same_bits(home: Path, flow: str, tmp_path: Path) -> None:
    """From its checkpoint alone, with the base model loaded anew."""
    side = BaseModels(home).get(flow).resolution
    settings = LoopSettings(
        steps=3, rows=3, micro=2, learning_rate=0.05, max_grad_norm=1.0, ema_decay=0.9, checkpoint_steps=1
    )

    def run(folder: Path, steps: int) -> dict[str, torch.Tensor]:
        _, method = prepared(home, tmp_path / "cache", flow, side)
        left = iter(range(steps))
        around = Surroundings(lambda progress: None, lambda: next(left, None) is None)
        return train(method.weights, method.loss, settings, Checkpoints(folder), around)[0]

    whole = run(tmp_path / "whole", 100)
    with pytest.raises(Stopped):
        run(tmp_path / "killed", 2)
    resumed = run(tmp_path / "killed", 100)
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)


def theirs_with(
    home: Path,
    id: str,
    own: Any,
    data: bytes,
    folder: Path,
    denoiser: Denoiser,
    row: ImageRequest,
    sampling: Sampling,
) -> np.ndarray:
    absent = {name: None for name, part in own.components.items() if part is None}
    kind = getattr(diffusers, table.of_pipeline(own).loaded_as)
    pipe = kind.from_pretrained(home / "models" / id, local_files_only=True, **absent)
    pipe.set_progress_bar_config(disable=True)
    (folder / "adapter.safetensors").write_bytes(data)
    pipe.load_lora_weights(folder, weight_name="adapter.safetensors", local_files_only=True)
    return theirs_drawn(denoiser, pipe, row, sampling, height=sampling.height, width=sampling.width)


@pytest.mark.slow
def test_custom_diffusion_is_refused_by_name(home: Path, flow: str) -> None:
    pipe = load_pipeline(BaseModels(home).get(flow), home / "configs", CPU, torch.float32)
    with pytest.raises(InvalidArgument, match="expected a base model with cross-attention; this one has none"):
        custom_diffusion.attach(pipe.transformer)


@pytest.mark.slow
def test_an_adapter_of_another_family_is_refused_by_name(home: Path, flow: str, tmp_path: Path) -> None:
    other = "z-image" if flow != "z-image" else "lumina2"
    side = 32 if other == "z-image" else 64
    data = trained(home, tmp_path, other, side)
    pipe = load_pipeline(BaseModels(home).get(flow), home / "configs", CPU, torch.float32)
    name = {"z-image": "Z-Image", "lumina2": "Lumina 2"}[other]
    with pytest.raises(FailedPrecondition, match=f"looks like an adapter of {name}"):
        Adapters(pipe).apply([AdapterFile("a" * 64, data, 1.0)])
