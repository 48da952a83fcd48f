"""Assembles trained checkpoints into the model folders that are shipped: half-precision safetensors and JSON."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from konomi_starter.training import embedder as embedder_training
from konomi_starter.training import text_to_image
from konomi_starter.training.text_to_image import DiffusionPreset


def averages(path: Path, modules: list[torch.nn.Module]) -> None:
    """Loads a checkpoint's averaged weights and buffers into `modules`, in the order they were trained."""
    tensors = load_file(path)
    parameters = [p for module in modules for p in module.parameters()]
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            parameter.copy_(tensors[f"mean.{index}"])
        for m, module in enumerate(modules):
            for name, buffer in module.named_buffers():
                buffer.copy_(tensors[f"buffer.{m}.{name}"])


def diffusion(work: Path, out: Path, preset: DiffusionPreset) -> None:
    """Writes the diffusers folder from `unet.safetensors` and `decoder.safetensors` of the work folder."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "vocabulary" / "tokenizer")
    text, unet = text_to_image.build(tokenizer, preset, 0)
    averages(work / "unet.safetensors", [unet, text])
    vae = AutoencoderTiny.from_pretrained(work / "autoencoder")
    if (work / "decoder.safetensors").exists():
        averages(work / "decoder.safetensors", [vae.decoder])
    pipeline = text_to_image.pipeline(text, unet, vae, tokenizer)
    pipeline.to(torch.float16).save_pretrained(out, safe_serialization=True)
    for path in out.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def embedder(work: Path, out: Path) -> None:
    """Writes the open_clip configuration, weights and BPE file."""
    config = json.loads((work / "embedder.json").read_text())
    model = embedder_training.build(config, 0)
    averages(work / "embedder.ckpt.safetensors", [model])
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.json").write_text(json.dumps(config, indent=1) + "\n")
    shutil.copyfile(work / "vocabulary" / "bpe.txt.gz", out / "bpe.txt.gz")
    halves = {name: v.half() if v.is_floating_point() else v for name, v in model.state_dict().items()}
    save_file({name: value.contiguous() for name, value in halves.items()}, out / "model.safetensors")


def reader(work: Path, out: Path) -> None:
    """Writes the attribute reader's weights."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(work / "reader.safetensors", out / "model.safetensors")
