"""Stable Diffusion 1.5 and XL as published, narrower: trained from folder and single file alike, exported, loaded."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load, save_file

from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.models.families.table import family
from konomi_trainer.base_models import checkpoint_layout
from konomi_trainer.export import kohya
from konomi_trainer.methods import adapter_file
from tests.benchmarks.trainer import published_layouts as published
from tests.generator.tiny_models import save_configs
from tests.trainer.conftest import Bench

DIVISOR, SIDE = 8, 64
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def draw(pipe: DiffusionPipeline) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    size = {"height": SIDE, "width": SIDE, "guidance_scale": 3.0}
    return torch.from_numpy(pipe("face 1", num_inference_steps=2, generator=generator, output_type="np", **size).images)


def with_adapter(pipe: DiffusionPipeline, data: bytes, folder: Path) -> torch.Tensor:
    (folder / "a.safetensors").write_bytes(data)
    pipe.load_lora_weights(folder, weight_name="a.safetensors")
    image = draw(pipe)
    pipe.unload_lora_weights()
    return image


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["sd1", "sdxl"])
def test_a_published_layout_trains_exports_and_loads(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    pipe = published.pipeline(layout, DIVISOR)
    pipe.save_pretrained(home / "models" / layout)
    save_configs(pipe, home / "configs" / layout)
    weights = {p: getattr(pipe, p).state_dict() for p in PARTS if getattr(pipe, p, None) is not None}
    found = {name: tensor.contiguous() for name, tensor in checkpoint_layout.checkpoint(layout, weights, 2).items()}
    save_file(found, home / "models" / f"{layout}-file.safetensors")
    monkeypatch.setenv("KONOMI_THREADS", "1")
    monkeypatch.setenv("KONOMI_SINGLE_FILE_CONFIGS", str(home / "configs"))
    bench = Bench(home).start()
    try:
        manifest = bench.manifest(3, 80)
        numbers = {"steps": 3, "batch_size": 1, "resolution": SIDE, "learning_rate": 0.01, "caption_dropout": 0.0}
        folder, file = (bench.trained(manifest, base, **numbers) for base in (layout, f"{layout}-file"))
        left, right = (load(bench.store.get(model.adapter_digest)) for model in (folder, file))
        assert left.keys() == right.keys() and file.metrics["loss"] == pytest.approx(folder.metrics["loss"], rel=1e-5)
        tuned = with_adapter(pipe, bench.store.get(folder.adapter_digest), tmp_path)
        assert (tuned - draw(pipe)).abs().max() > 1e-3
        assert (with_adapter(pipe, bench.store.get(file.adapter_digest), tmp_path) - tuned).abs().max() < 1e-3
        exported = bench.client.trainer.export_model(name=folder.name, format=pb.EXPORT_FORMAT_KOHYA)
        assert (with_adapter(pipe, bench.store.get(exported.digest), tmp_path) - tuned).abs().max() < 1e-3
        merged = bench.client.trainer.export_model(name=file.name, format=pb.EXPORT_FORMAT_MERGED)
        (tmp_path / "whole.safetensors").write_bytes(bench.store.get(merged.digest))
        tokenizers = {name: getattr(pipe, name) for name in ("tokenizer", "tokenizer_2") if hasattr(pipe, name)}
        kind = StableDiffusionXLPipeline if layout == "sdxl" else StableDiffusionPipeline
        plain = {} if layout == "sdxl" else {"safety_checker": None, "feature_extractor": None}
        whole = kind.from_single_file(
            str(tmp_path / "whole.safetensors"),
            config=str(home / "configs" / layout),
            local_files_only=True,
            torch_dtype=torch.float32,
            scheduler=pipe.scheduler,
            **tokenizers,
            **plain,
        )
        assert (draw(whole) - tuned).abs().max() < 2e-3
        data = bench.store.get(merged.digest)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        assert header["modelspec.architecture"] == family(layout).exported.architecture
    finally:
        bench.stop()


@pytest.mark.slow
def test_names_of_the_true_layouts_are_kohya_s() -> None:
    counts = {"sd1": 128 + 48, "sdxl": 560 + 48 + 128}
    for layout, count in counts.items():
        with torch.device("meta"):
            parts = {"unet": published.unet(layout), "text_encoder": published.text_encoder(layout)}
            if layout == "sdxl":
                parts["text_encoder_2"] = published.text_encoder(layout, 2)
        modules = [
            f"{part}.{name}"
            for part, network in parts.items()
            for name, _ in network.named_modules()
            if name.endswith(tuple(f".{target}" for target in adapter_file.UNET_TARGETS[part]))
        ]
        assert len(modules) == count
        weights = {f"{m}.lora_{letter}.weight": torch.zeros(8, 8) for m in modules for letter in "AB"}
        named = kohya.rename(weights, layout, 2)
        assert len(named) == 3 * count
        expected = {
            "sd1": "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_out_0.alpha",
            "sdxl": "lora_unet_output_blocks_2_1_transformer_blocks_9_attn2_to_out_0.alpha",
        }[layout]
        assert expected in named
