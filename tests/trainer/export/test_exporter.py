"""Models in other tools: diffusers loads what is exported and draws the same; names and headers are those of kohya."""

import base64
import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load

from konomi.errors import FailedPrecondition
from konomi.v1 import trainer_pb2 as pb
from tests.generator.tiny_models import save_configs
from tests.trainer import tiny
from tests.trainer.conftest import Bench


def draw(pipe: DiffusionPipeline) -> torch.Tensor:
    """Returns the (1, S, S, 3) image a pipeline makes of a fixed prompt."""
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    found = pipe("face 1", num_inference_steps=3, guidance_scale=2.0, generator=generator, output_type="np").images
    return torch.from_numpy(found)


def images(folder: Path, adapter: bytes | None, tmp_path: Path, scale: float = 1.0) -> torch.Tensor:
    """Returns the image a base makes with an adapter."""
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    if adapter is not None:
        (tmp_path / "adapter.safetensors").write_bytes(adapter)
        pipe.load_lora_weights(tmp_path, weight_name="adapter.safetensors", adapter_name="unit")
        pipe.set_adapters(["unit"], [scale])
    return draw(pipe)


BLOCK = r"transformer_blocks_\d_attn[12]_to_(q|k|v|out_0)"
TEXT = r"text_model_encoder_layers_\d+_self_attn_(q|k|v|out)_proj"
NAMES = {
    "tiny": rf"lora_unet_((down|up)_blocks_\d_attentions_\d|mid_block_attentions_0)_{BLOCK}|lora_te_{TEXT}",
    "tiny-xl": rf"lora_unet_((input|output)_blocks_\d_1|middle_block_1)_{BLOCK}|lora_te[12]_{TEXT}",
}
"""The modules of kohya's own files, written down from them and not from konomi's code."""


@pytest.mark.parametrize(("base", "side"), [("tiny", 64), ("tiny-xl", 16)])
def test_diffusers_loads_what_is_stored_and_kohya_s_form_alike(
    bench: Bench, base: str, side: int, tmp_path: Path
) -> None:
    model = bench.trained(
        bench.manifest(4, side), base, steps=3, learning_rate=0.01, min_snr_gamma=5.0, text_encoder_learning_rate=0.005
    )
    folder, stored = bench.home / "models" / base, bench.store.get(model.adapter_digest)
    export = bench.client.trainer.export_model
    diffusers = export(name=model.name, format=pb.EXPORT_FORMAT_DIFFUSERS)
    assert diffusers.digest == model.adapter_digest == export(name=model.name, format=pb.EXPORT_FORMAT_PEFT).digest
    image = bench.store.put(tiny.png(9, (80, 40)), "image/png").digest
    asked = {"name": model.name, "format": pb.EXPORT_FORMAT_KOHYA, "thumbnail_digest": image, "author": "K. Onomi"}
    kohya = export(**asked)
    assert export(**asked).digest == kohya.digest
    plain, tuned = images(folder, None, tmp_path), images(folder, stored, tmp_path)
    assert (plain - tuned).abs().max() > 1e-3
    assert (plain - images(folder, stored, tmp_path, 0.0)).abs().max() < 1e-5
    data = bench.store.get(kohya.digest)
    assert (images(folder, data, tmp_path) - tuned).abs().max() < 1e-3
    check_kohya(data, base, tmp_path)


def check_kohya(data: bytes, base: str, tmp_path: Path) -> None:
    """Names, alphas, header, hash and thumbnail are those of the format."""
    (tmp_path / "kohya.safetensors").write_bytes(data)
    with safe_open(tmp_path / "kohya.safetensors", "pt") as file:
        header, names = file.metadata(), list(file.keys())
        alphas = {file.get_tensor(name).item() for name in names if name.endswith(".alpha")}
        ranks = {file.get_slice(name).get_shape()[0] for name in names if name.endswith("lora_down.weight")}
        dtypes = {file.get_slice(name).get_dtype() for name in names if not name.endswith(".alpha")}
    modules = {name.partition(".")[0] for name in names}
    assert all(re.fullmatch(NAMES[base], module) for module in modules), sorted(modules)[:3]
    assert {f"{m}{end}" for m in modules for end in (".alpha", ".lora_down.weight", ".lora_up.weight")} == set(names)
    assert alphas == {8.0} and ranks == {8} and dtypes == {"F16"}
    expected = {"tiny": "sd_v1", "tiny-xl": "sdxl_base_v1-0"}[base]
    assert header["ss_base_model_version"] == expected and header["modelspec.title"] == "unit-1"
    assert (header["ss_network_dim"], header["ss_network_alpha"]) == ("8", "8")
    assert json.loads(header["ss_tag_frequency"]) == {"konomi": {"face 0": 2, "face 1": 2}}
    assert header["modelspec.author"] == "K. Onomi" and header["ss_seed"] == "7"
    tensors = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    assert header["sshs_model_hash"] == tensors and header["modelspec.hash_sha256"] == f"0x{tensors}"
    kind, _, text = header["modelspec.thumbnail"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(text))).size == (256, 256)


def test_a_merged_folder_draws_what_base_and_adapter_draw(bench: Bench, tmp_path: Path) -> None:
    model = bench.trained(bench.manifest(4), steps=3, learning_rate=0.01, text_encoder_learning_rate=0.01)
    artifact = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MERGED_FOLDER)
    data = bench.store.get(artifact.digest)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert "README.md" in archive.namelist() and all(name.count("..") == 0 for name in archive.namelist())
        archive.extractall(tmp_path / "merged")
    folder = bench.home / "models" / "tiny"
    tuned = images(folder, bench.store.get(model.adapter_digest), tmp_path)
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "merged", local_files_only=True, torch_dtype=torch.float32)
    assert (draw(pipe) - tuned).abs().max() < 1e-3
    again = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MERGED_FOLDER)
    assert again.digest == artifact.digest
    with pytest.raises(FailedPrecondition) as caught:
        bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MERGED)
    assert caught.value.reason == "EXPORT_FORMAT" and "folder" in caught.value.message


def test_a_merged_checkpoint_loads_as_a_single_file(bench: Bench, tmp_path: Path) -> None:
    model = bench.trained(bench.manifest(4, 16), "tiny-xl", steps=3, learning_rate=0.01)
    artifact = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MERGED)
    path = tmp_path / "whole.safetensors"
    path.write_bytes(bench.store.get(artifact.digest))
    folder = bench.home / "models" / "tiny-xl"
    base = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    save_configs(base, tmp_path / "config")
    tokenizers = {"tokenizer": base.tokenizer, "tokenizer_2": base.tokenizer_2}
    pipe = StableDiffusionXLPipeline.from_single_file(
        str(path), config=str(tmp_path / "config"), local_files_only=True, torch_dtype=torch.float32, **tokenizers
    )
    tuned = images(folder, bench.store.get(model.adapter_digest), tmp_path)
    assert isinstance(pipe.vae, AutoencoderKL) and not isinstance(pipe, StableDiffusionPipeline)
    assert (draw(pipe) - tuned).abs().max() < 1e-3
    with safe_open(path, "pt") as file:
        assert file.metadata()["modelspec.architecture"] == "stable-diffusion-xl-v1-base"
        assert "model.diffusion_model.input_blocks.0.0.weight" in file.keys()  # noqa: SIM118


def test_the_model_card_tells_lineage_figures_and_limits(bench: Bench) -> None:
    model = bench.trained(bench.manifest(2), steps=1)
    card = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MODEL_CARD)
    text = bench.store.get(card.digest).decode()
    head = text.split("---")[1]
    assert 'base_model: "tiny"' in head and 'tags: ["konomi", "lora"' in head and 'instance_prompt: "face 0"' in head
    for told in (model.base_digest, model.adapter_digest, model.manifest_digest, model.config_digest, "## Limits"):
        assert told in text
    assert "How it compares with the model before it was not measured." in text and "blind" not in text
    figures = {"win_rate": 0.7, "win_rate_low": 0.55, "win_rate_high": 0.82, "win_rate_pairs": 40.0}
    bench.client.trainer.promote_model(
        name=model.name, metrics=figures, request_id="0" * 8 + "-0000-4000-8000-" + "0" * 12
    )
    judged = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MODEL_CARD)
    text = bench.store.get(judged.digest).decode()
    won = "In the eyes of the rater that chose its training images, it won 70 % of 40 pairs against the model before it"
    assert f"{won} (95 % interval 55 % to 82 %). That is a prediction" in text
    assert not {"blind", "preferred"} & set(text.casefold().split()), "nobody judged it"
    assert "| share of pairs won, in the rater's eyes | 0.7 |" in text and "| training steps | 1 |" in text
    assert "win_rate" not in text


def test_the_adapter_says_where_it_comes_from(bench: Bench) -> None:
    model = bench.trained(bench.manifest(2), steps=1)
    data = bench.store.get(model.adapter_digest)
    assert all(name.startswith("unet.") and ".lora_" in name for name in load(data))
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert model.manifest_digest in header["konomi"] and model.base_digest in header["konomi"]
