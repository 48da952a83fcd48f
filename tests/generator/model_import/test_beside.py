"""Few-step adapters, IP-Adapters and image encoders are told by what they hold and land where models look for them."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from konomi.errors import AlreadyExists, FailedPrecondition
from konomi_generator.model_import import importer
from konomi_generator.model_import.beside import kind_of

LCM = {f"lora_unet_mid_block.{end}": torch.ones(2, 2) for end in ("lora_down.weight", "lora_up.weight", "alpha")}
IP_ADAPTER = {"image_proj.proj.weight": torch.ones(2, 2), "ip_adapter.1.to_k_ip.weight": torch.ones(2, 2)}


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    folder = tmp_path / "image_encoder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["CLIPVisionModelWithProjection"]}))
    save_file({"visual_projection.weight": torch.ones(2, 2)}, folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    return folder


def saved(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, path)
    return path


def test_each_goes_to_its_folder_under_its_own_name(tmp_path: Path, encoder: Path) -> None:
    home = tmp_path / "home"
    sources = {
        saved(tmp_path / "sdxl_lightning_4step_lora.safetensors", LCM): ("few_step", "few_step"),
        saved(tmp_path / "ip-adapter_sd15.safetensors", IP_ADAPTER): ("ip_adapter", "ip_adapter"),
        encoder: ("image_encoder", "ip_adapter"),
    }
    for source, (kind, folder) in sources.items():
        said = importer.put(source, home, "", convert=False)
        assert (said["layout"], said["id"], said["settings_file"]) == (kind, f"{folder}/{source.name}", "")
        weights = source if source.is_file() else source / "model.safetensors"
        assert said["digest"] == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert (home / "models" / folder / source.name).exists()
        with pytest.raises(AlreadyExists, match=f"models/{folder}/{source.name}"):
            importer.put(source, home, "", convert=False)
    copied = {path.relative_to(home / "models").as_posix() for path in home.rglob("*") if path.is_file()}
    assert copied == {
        "few_step/sdxl_lightning_4step_lora.safetensors",
        "ip_adapter/ip-adapter_sd15.safetensors",
        "ip_adapter/image_encoder/config.json",
        "ip_adapter/image_encoder/model.safetensors",
    }
    assert not list(home.glob(".import-*"))


def test_other_loras_and_pickles_are_not_taken_for_them(tmp_path: Path, encoder: Path) -> None:
    assert kind_of(saved(tmp_path / "add_detail.safetensors", LCM)) is None
    assert kind_of(saved(tmp_path / "lcm-base.safetensors", {"model.diffusion_model.x": torch.ones(2)})) is None
    pickled = tmp_path / "ip-adapter_sd15.bin"
    pickled.write_bytes(b"\x80\x02.")
    assert kind_of(pickled) is None and kind_of(tmp_path / "nowhere.safetensors") is None
    with pytest.raises(FailedPrecondition, match="it is a pickle") as caught:
        importer.put(pickled, tmp_path / "home", "", convert=False)
    assert caught.value.reason == "UNSAFE_FORMAT"
    (encoder / "model.safetensors").unlink()
    assert kind_of(encoder) is None
