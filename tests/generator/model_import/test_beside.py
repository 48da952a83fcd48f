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


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("LCM_LoRA_4step.SAFETENSORS", "LCM_LoRA_4step.safetensors"),
        ("crème brûlée lcm.safetensors", "creme-brulee-lcm.safetensors"),
        ("cre\u0300me lcm.safetensors", "creme-lcm.safetensors"),
        ("ｌｃｍ（４）.safetensors", "lcm-4.safetensors"),
        ("--lcm 猫.safetensors", "lcm.safetensors"),
        ("lcm" + "é" * 80 + ".safetensors", "lcm" + "e" * 80 + ".safetensors"),
    ],
)
def test_a_name_becomes_one_that_settings_can_hold(tmp_path: Path, name: str, file: str) -> None:
    said = importer.put(saved(tmp_path / name, IP_ADAPTER), tmp_path / "home", "", convert=False)
    assert said["id"] == f"ip_adapter/{file}"
    assert [path.name for path in (tmp_path / "home" / "models" / "ip_adapter").iterdir()] == [file]


def test_a_name_without_a_letter_that_can_be_held_is_unnamed_once(tmp_path: Path) -> None:
    first, second = (saved(tmp_path / name, IP_ADAPTER) for name in ("猫.safetensors", "犬.safetensors"))
    assert importer.put(first, tmp_path / "home", "", convert=False)["id"] == "ip_adapter/unnamed.safetensors"
    with pytest.raises(AlreadyExists, match="rename the file, or remove that one"):
        importer.put(second, tmp_path / "home", "", convert=False)


@pytest.mark.parametrize("source", [".", "../image_encoder", "../image_encoder/", "./", "inner/..", "../encoders"])
def test_an_encoder_has_its_folder_s_name_however_it_is_called(
    tmp_path: Path, encoder: Path, monkeypatch, source
) -> None:
    (encoder / "inner").mkdir()
    (tmp_path / "encoders").symlink_to(encoder)
    monkeypatch.chdir(encoder)
    said = importer.put(Path(source), tmp_path / "home", "", convert=False)
    assert said["id"] == ("ip_adapter/encoders" if source == "../encoders" else "ip_adapter/image_encoder")


def test_a_link_to_a_file_without_a_name_keeps_its_own(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / ("0" * 64)
    blob.parent.mkdir()
    saved(blob, LCM)
    link = tmp_path / "lcm_4step.safetensors"
    link.symlink_to(blob)
    said = importer.put(link, tmp_path / "home", "", convert=False)
    assert (said["layout"], said["id"]) == ("few_step", "few_step/lcm_4step.safetensors")
    copied = tmp_path / "home" / "models" / "few_step" / "lcm_4step.safetensors"
    assert copied.read_bytes() == blob.read_bytes() and not copied.is_symlink()


def test_other_loras_and_pickles_are_not_taken_for_them(tmp_path: Path, encoder: Path) -> None:
    assert kind_of(saved(tmp_path / "add_detail.safetensors", LCM)) is None
    assert kind_of(saved(tmp_path / "lcm-base.safetensors", {"model.diffusion_model.x": torch.ones(2)})) is None
    pickled = tmp_path / "ip-adapter_sd15.bin"
    pickled.write_bytes(b"\x80\x02.")
    assert kind_of(pickled) is None
    with pytest.raises(FailedPrecondition, match="it is a pickle") as caught:
        importer.put(pickled, tmp_path / "home", "", convert=False)
    assert caught.value.reason == "UNSAFE_FORMAT"
    weights = encoder / "model.safetensors"
    weights.write_bytes(pickled.read_bytes())
    with pytest.raises(FailedPrecondition) as caught:
        importer.put(encoder, tmp_path / "home", "", convert=False)
    assert caught.value.reason == "UNSAFE_FORMAT" and not (tmp_path / "home" / "models" / "ip_adapter").exists()
    weights.unlink()
    assert kind_of(encoder) is None
