"""Adapters in other tools: diffusers loads what is stored and what is exported, and the images change alike."""

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open

from konomi.errors import Unimplemented
from konomi.v1 import trainer_pb2 as pb
from tests.trainer.conftest import Bench


def images(folder: Path, adapter: bytes | None, tmp_path: Path, scale: float = 1.0) -> torch.Tensor:
    """Returns the (1, S, S, 3) image a base makes with an adapter."""
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    if adapter is not None:
        (tmp_path / "adapter.safetensors").write_bytes(adapter)
        pipe.load_lora_weights(tmp_path, weight_name="adapter.safetensors", adapter_name="unit")
        pipe.set_adapters(["unit"], [scale])
    generator = torch.Generator().manual_seed(3)
    found = pipe("face 1", num_inference_steps=3, guidance_scale=2.0, generator=generator, output_type="np").images
    return torch.from_numpy(found)


@pytest.mark.parametrize(("base", "side"), [("tiny", 64), ("tiny-xl", 16)])
def test_diffusers_loads_what_is_stored_and_kohya_s_form_alike(
    bench: Bench, base: str, side: int, tmp_path: Path
) -> None:
    model = bench.trained(bench.manifest(4, side), base, steps=3, learning_rate=0.01, min_snr_gamma=5.0)
    folder, stored = bench.home / "models" / base, bench.store.get(model.adapter_digest)
    export = bench.client.trainer.export_model
    diffusers = export(name=model.name, format=pb.EXPORT_FORMAT_DIFFUSERS)
    assert diffusers.digest == model.adapter_digest == export(name=model.name, format=pb.EXPORT_FORMAT_PEFT).digest
    kohya = export(name=model.name, format=pb.EXPORT_FORMAT_KOHYA)
    assert export(name=model.name, format=pb.EXPORT_FORMAT_KOHYA).digest == kohya.digest
    plain, tuned = images(folder, None, tmp_path), images(folder, stored, tmp_path)
    assert (plain - tuned).abs().max() > 1e-3
    assert (plain - images(folder, stored, tmp_path, 0.0)).abs().max() < 1e-5
    other = images(folder, bench.store.get(kohya.digest), tmp_path)
    assert (other - tuned).abs().max() < 1e-3
    (tmp_path / "kohya.safetensors").write_bytes(bench.store.get(kohya.digest))
    with safe_open(tmp_path / "kohya.safetensors", "pt") as file:
        header, names = file.metadata(), list(file.keys())
        alphas = {file.get_tensor(name).item() for name in names if name.endswith(".alpha")}
        ranks = {file.get_slice(name).get_shape()[0] for name in names if name.endswith("lora_down.weight")}
    assert alphas == {8.0} and ranks == {8} and all(name.startswith("lora_unet_") for name in names)
    expected = {"tiny": "sd_v1", "tiny-xl": "sdxl_base_v1-0"}[base]
    assert header["ss_base_model_version"] == expected and header["modelspec.title"] == "unit-1"


def test_a_merged_checkpoint_is_not_served_yet(bench: Bench) -> None:
    model = bench.trained(bench.manifest(2), steps=1)
    with pytest.raises(Unimplemented) as caught:
        bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MERGED)
    assert "kohya" in caught.value.message


def test_the_adapter_says_where_it_comes_from(bench: Bench, tmp_path: Path) -> None:
    model = bench.trained(bench.manifest(2), steps=1)
    (tmp_path / "a.safetensors").write_bytes(bench.store.get(model.adapter_digest))
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert all(name.startswith("unet.") and ".lora_" in name for name in file.keys())  # noqa: SIM118
        assert model.manifest_digest in file.metadata()["konomi"] and model.base_digest in file.metadata()["konomi"]
