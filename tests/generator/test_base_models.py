"""The catalogue: what is listed, told apart and digested, and what is refused before any library sees it."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError, NotFound
from konomi_chassis.models import catalogue
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.diffusers_folder import stamps

BESIDE = [
    ".cache/huggingface/CACHEDIR.TAG",
    ".cache/huggingface/download/unet/config.json.metadata",
    ".cache/huggingface/download/model_index.json.lock",
    ".git/hooks/pre-commit",
    ".gitattributes",
    ".DS_Store",
    "unet/.DS_Store",
    "._model_index.json",
    "unet/._config.json",
    "unet/._diffusion_pytorch_model.safetensors",
    "Thumbs.db",
    "desktop.ini",
    "unet/desktop.ini",
    "README.md",
    "LICENSE.txt",
    "sample.png",
    "v1-5-pruned-emaonly.ckpt",
    "v1-5-pruned.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.non_ema.bin",
    "unet/diffusion_flax_model.msgpack",
    "text_encoder/pytorch_model.bin",
    "text_encoder/flax_model.msgpack",
    "vae/model.onnx",
    "vae_decoder/model.onnx",
    "safety_checker/pytorch_model.bin",
    "safety_checker/config.json",
    "tokenizer/tokenizer.model",
    "pipeline.py",
    "unet/modeling.py",
    "lib.so",
]
"""What hub clients, desktops and authors leave in a model folder, none of which is read."""
POISON_JSON = [
    ("unet/config.json", {"auto_map": {"AutoModel": "evil--m.Model"}}),
    ("text_encoder/config.json", {"deep": [{"trust_remote_code": True}]}),
    ("text_encoder/config.json", {"quantization_config": {"quant_method": "x"}}),
    ("text_encoder/config.json", {"_attn_implementation": "evil/kernel"}),
    ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["t.T", None]}}),
    ("model_index.json", {"_class_name": ["evil", "Pipe"]}),
    ("model_index.json", {"custom_pipeline": "evil"}),
    ("model_index.json", {"unet": ["evil", "UNet2DConditionModel"]}),
    ("model_index.json", {"unet": ["os", "system"]}),
    ("model_index.json", {"scheduler": ["evil", "DDIMScheduler"]}),
    ("model_index.json", {"extra": ["subprocess", "Popen"]}),
    ("model_index.json", {"unet": ["diffusers", ["UNet2DConditionModel"]]}),
    ("model_index.json", {"scheduler": []}),
    ("vae/config.json", {"block_out_channels": 8}),
    ("unet/config.json", {"_class_name": {"a": 1}}),
]


@pytest.fixture
def poisoned(home: Path, tmp_path: Path) -> Path:
    """A copy of sd1 to be spoiled, under the id "bad"."""
    shutil.copytree(home / "models" / "sd1", tmp_path / "models" / "bad")
    assert BaseModels(tmp_path).get("bad").layout == "sd1"
    return tmp_path


def refusal(home: Path, id: str = "bad") -> KonomiError:
    with pytest.raises(FailedPrecondition) as caught:
        BaseModels(home).get(id)
    assert BaseModels(home).usable() == []
    return caught.value


def test_layouts_formats_and_prediction_types_are_told_apart(models: BaseModels) -> None:
    found = {m.id: (m.layout, m.format, m.prediction_type, m.resolution) for m in models.usable()}
    assert found == {
        "starter": ("sd1", "diffusers", "v_prediction", 64),
        "sd1": ("sd1", "diffusers", "epsilon", 64),
        "sd2": ("sd2", "diffusers", "v_prediction", 64),
        "sdxl": ("sdxl", "diffusers", "epsilon", 64),
        "sd1-file": ("sd1", "single_file", "epsilon", 512),
        "sd2-file": ("sd2", "single_file", "v_prediction", 768),
        "sdxl-file": ("sdxl", "single_file", "epsilon", 1024),
    }
    for name in ("sd1", "sd2", "sdxl"):
        folder, file = models.get(name).parameters, models.get(f"{name}-file").parameters
        assert folder["unet"] == file["unet"] and folder["vae"] == file["vae"]
    assert set(models.get("sdxl").parameters) == {"unet", "vae", "text_encoder", "text_encoder_2"}


def test_a_file_s_own_word_on_prediction_beats_the_guess(home: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    tensors = load_file(home / "models" / "sd2-file.safetensors")
    save_file(tensors, tmp_path / "models" / "said.safetensors", {"modelspec.prediction_type": "epsilon"})
    key = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
    save_file(tensors | {key: np.zeros_like(tensors[key])}, tmp_path / "models" / "flat.safetensors")
    models = BaseModels(tmp_path)
    assert (models.get("said").prediction_type, models.get("said").resolution) == ("epsilon", 512)
    assert models.get("flat").prediction_type == "epsilon"


@pytest.mark.slow
def test_the_digest_follows_the_weights(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "models", tmp_path / "models")
    models = BaseModels(tmp_path)
    for id, file in (("sd1", "sd1/vae/diffusion_pytorch_model.safetensors"), ("sd1-file", "sd1-file.safetensors")):
        before = models.digest(models.get(id))
        assert before == BaseModels(home).digest(BaseModels(home).get(id)) and len(before) == 64
        path = tmp_path / "models" / file
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        assert models.digest(models.get(id)) != before


@pytest.mark.parametrize("id", ["", "..", "../x", "/etc/passwd", "a/b", "A", "a\0b", "x" * 65, ".hidden"])
def test_an_id_is_never_a_path(models: BaseModels, id: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        models.get(id)
    assert caught.value.field == "base_model"


def test_missing_models_say_what_to_do(models: BaseModels, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there are: sd1, sd1-file") as caught:
        models.get("sd15")
    assert caught.value.reason == "MODEL_MISSING"
    with pytest.raises(FailedPrecondition, match="konomi") as caught:
        BaseModels(tmp_path).get("starter")
    assert caught.value.reason == "MODEL_MISSING"


@pytest.mark.slow
def test_what_is_never_read_is_neither_judged_nor_digested(poisoned: Path) -> None:
    models = BaseModels(poisoned)
    before = models.get("bad")
    digest = models.digest(before)
    for name in BESIDE:
        path = poisoned / "models" / "bad" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'{"auto_map": {"a": "b"}}' if path.suffix == ".json" else b"\x80\x04x")
        if name.startswith("safety_checker/config"):
            digest = models.digest(before)  # it was part of the digest before, and stays so
        assert models.get("bad") == before and models.digest(before) == digest, name
    assert models.get("bad").parameters == before.parameters


@pytest.mark.slow
def test_a_cached_snapshot_s_links_are_followed_and_its_outer_folder_named(home: Path, tmp_path: Path) -> None:
    outer = tmp_path / "models" / "models--someone--sd1"
    for path in (home / "models" / "sd1").rglob("*"):
        if path.is_file():
            link = outer / "snapshots" / "0a1b" / path.relative_to(home / "models" / "sd1")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    error = refusal(tmp_path, outer.name)
    assert error.reason == "MODEL_LAYOUT" and "give snapshots/0a1b in it" in error.message
    (tmp_path / "models" / "inner").symlink_to(outer / "snapshots" / "0a1b")
    assert BaseModels(tmp_path).get("inner").layout == "sd1"


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_part_only_there_as_a_pickle_is_refused_and_named(poisoned: Path, part: str) -> None:
    folder = poisoned / "models" / "bad" / part
    (weights,) = folder.glob("*.safetensors")
    weights.rename(folder / "pytorch_model.bin")
    error = refusal(poisoned)
    assert (
        error.reason == "UNSAFE_FORMAT"
        and f"its {part} has no safetensors weights, only pytorch_model.bin" in error.message
    )
    assert "--convert" in error.message
    (folder / "pytorch_model.bin").unlink()
    assert refusal(poisoned).reason == "MODEL_LAYOUT"


def test_an_adapter_that_a_loader_would_put_on_a_text_encoder_is_refused(poisoned: Path) -> None:
    (poisoned / "models" / "bad" / "text_encoder" / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "x/y"}'
    )
    error = refusal(poisoned)
    assert error.reason == "UNSAFE_FORMAT" and "text_encoder/adapter_config.json" in error.message


@pytest.mark.slow
def test_files_no_one_may_read_are_a_sentence_and_hide_no_other_model(
    poisoned: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (poisoned / "models" / "good").symlink_to(home / "models" / "sd1")
    read_text = Path.read_text

    def denied(path: Path, *given: object, **options: object) -> str:
        if "bad" in path.parts and path.name == "config.json":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *given, **options)

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(FailedPrecondition, match="cannot be read: Permission denied") as caught:
        BaseModels(poisoned).get("bad")
    assert caught.value.reason == "MODEL_BROKEN"
    assert [model.id for model in BaseModels(poisoned).usable()] == ["good"]


def test_weights_in_parts_and_in_half_precision_are_found_by_their_index(poisoned: Path) -> None:
    folder = poisoned / "models" / "bad" / "unet"
    file, count = folder / "diffusion_pytorch_model.safetensors", BaseModels(poisoned).get("bad").parameters["unet"]
    tensors = load_file(file)
    file.rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    assert BaseModels(poisoned).get("bad").parameters["unet"] == count
    names = sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        save_file({n: tensors[n] for n in part}, folder / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors")
    index = {n: f"diffusion_pytorch_model-0000{1 + i % 2}-of-00002.safetensors" for i, n in enumerate(names)}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert BaseModels(poisoned).get("bad").parameters["unet"] == count
    (folder / "diffusion_pytorch_model-00002-of-00002.safetensors").write_bytes(b"\x80\x04K\x01.")
    assert refusal(poisoned).reason == "UNSAFE_FORMAT"


@pytest.mark.parametrize(("name", "keys"), POISON_JSON)
@pytest.mark.slow
def test_a_configuration_that_asks_for_code_is_refused(poisoned: Path, name: str, keys: dict) -> None:
    path = poisoned / "models" / "bad" / name
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(config | keys))
    assert refusal(poisoned).reason in ("UNSAFE_FORMAT", "MODEL_LAYOUT")


@pytest.mark.slow
def test_a_pickle_by_the_name_of_safetensors_and_an_index_that_leaves_the_folder_are_refused(poisoned: Path) -> None:
    file = poisoned / "models" / "bad" / "unet" / "diffusion_pytorch_model.safetensors"
    good = file.read_bytes()
    file.write_bytes(b"\x80\x04K\x01.")
    assert refusal(poisoned).reason == "UNSAFE_FORMAT"
    file.write_bytes(good)
    index = file.with_name("diffusion_pytorch_model.safetensors.index.json")
    index.write_text(json.dumps({"weight_map": {"a": "../../../../secret.safetensors"}}))
    assert refusal(poisoned).reason == "UNSAFE_FORMAT"


def test_other_kinds_of_models_are_refused_by_name(home: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    save_file({"model.weight": np.ones(3, np.float32)}, tmp_path / "models" / "flux.safetensors")
    assert refusal(tmp_path, "flux").reason == "MODEL_LAYOUT"
    tensors = load_file(home / "models" / "sd1-file.safetensors")
    stem = "model.diffusion_model.input_blocks.0.0.weight"
    tensors[stem] = np.zeros((32, 9, 3, 3), np.float32)
    save_file(tensors, tmp_path / "models" / "flux.safetensors")
    assert "inpainting" in refusal(tmp_path, "flux").message


@pytest.mark.slow
def test_what_has_not_changed_is_read_once_and_any_change_is_seen(home: Path, tmp_path: Path, monkeypatch) -> None:
    """Also one that keeps name, length and times, as `cp -p` does: the time of the change itself cannot be set."""
    shutil.copytree(home / "models" / "sd1", tmp_path / "models" / "own")
    now = [stamps(tmp_path / "models" / "own").changed_ns]
    models = BaseModels(tmp_path, clock=lambda: now[0])
    read: list[Path] = []
    plain = catalogue.check_folder
    monkeypatch.setattr(catalogue, "check_folder", lambda folder: read.append(folder) or plain(folder))
    models.get("own")
    models.get("own")
    assert len(read) == 2, "a folder that was written a moment ago may change again at the same moment"
    now[0] += 10**15  # long after whatever is changed below
    before = models.digest(models.get("own"))
    assert models.digest(models.get("own")) == before and len(read) == 3
    (tmp_path / "models" / "own.toml").write_text("[drawing]\nsteps = 7\n")
    assert models.get("own").settings.drawing.steps == 7 and len(read) == 4
    file = tmp_path / "models" / "own" / "unet" / "config.json"
    status, text = file.stat(), file.read_text("utf-8")
    file.write_text(text.replace("sample_size", "elpmas_size"), "utf-8")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert models.digest(models.get("own")) != before and len(read) == 5
    (tmp_path / "models" / "own" / "unet" / "adapter_config.json").write_text("{}")
    with pytest.raises(FailedPrecondition, match="names other weights"):
        models.get("own")
    with pytest.raises(FailedPrecondition, match="names other weights"):
        models.get("own")
