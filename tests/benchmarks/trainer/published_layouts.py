"""Stable Diffusion 1.5 and XL as published, every width divided by one number: same blocks and layers.

The UNet's attention heads are as wide as published, so there are fewer of them, at least one: a head of ten numbers
costs a CPU's attention kernel five times what its operations say.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import konomi_chassis
from konomi_chassis.models.clip_vocabulary import clip_vocabulary

CONFIGS = Path(konomi_chassis.__file__).with_name("configs")
SIDES = {"sd1": 512, "sdxl": 1024}
TIME_IDS, TIME_WIDTH = 6, 256
SHALLOW = 16
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def read(layout: str, part: str) -> dict[str, Any]:
    """Returns the published configuration of a part."""
    return json.loads((CONFIGS / layout / part / "config.json").read_text())


def shallow(config: dict[str, Any], divisor: int) -> dict[str, Any]:
    """Returns a configuration with as few layers as can be from a divisor of 16 on: a rehearsal's, for no figure."""
    if divisor < SHALLOW:
        return config
    fewer = {name: 1 for name in ("layers_per_block", "transformer_layers_per_block") if name in config}
    return config | fewer | ({"num_hidden_layers": 2} if "num_hidden_layers" in config else {})


def unet(layout: str, divisor: int = 1) -> UNet2DConditionModel:
    """Returns a UNet with narrower layers."""
    config = shallow(read(layout, "unet"), divisor)
    heads = config["attention_head_dim"]  # their number, in spite of the name; one for all levels, or one each
    fewer = [max(1, one // divisor) for one in heads] if isinstance(heads, list) else max(1, heads // divisor)
    widths = [width // divisor for width in config["block_out_channels"]]
    config |= {
        "block_out_channels": widths, "cross_attention_dim": config["cross_attention_dim"] // divisor,
        "norm_num_groups": 32 // divisor,
        "attention_head_dim": fewer,
    }  # fmt: skip
    if layout == "sdxl":
        pooled = read(layout, "text_encoder_2")["projection_dim"] // divisor
        config |= {
            "addition_time_embed_dim": TIME_WIDTH // divisor,
            "projection_class_embeddings_input_dim": TIME_IDS * (TIME_WIDTH // divisor) + pooled,
        }
    return UNet2DConditionModel.from_config(config)


def vae(layout: str, divisor: int = 1) -> AutoencoderKL:
    """Returns an autoencoder."""
    config = shallow(read(layout, "vae"), divisor)
    widths = [width // divisor for width in config["block_out_channels"]]
    return AutoencoderKL.from_config(config | {"block_out_channels": widths, "norm_num_groups": 32 // divisor})


def text_encoder(layout: str, number: int = 1, divisor: int = 1) -> torch.nn.Module:
    """Returns a text encoder: SDXL's second one is number 2."""
    config = shallow(read(layout, "text_encoder" if number == 1 else "text_encoder_2"), divisor)
    names = ("hidden_size", "intermediate_size", "projection_dim")
    config |= {name: config[name] // divisor for name in names}
    kind = CLIPTextModel if number == 1 else CLIPTextModelWithProjection
    return kind(CLIPTextConfig(**{name: value for name, value in config.items() if name != "architectures"}))


def pipeline(
    layout: str, divisor: int, seed: int = 0, device: str = "cpu"
) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """Returns a whole pipeline with random weights, drawn on a device; its scheduler reckons on the host."""
    torch.manual_seed(seed)
    vocabulary, merges = clip_vocabulary()

    def words(pad: str) -> CLIPTokenizer:
        return CLIPTokenizer(vocab=dict(vocabulary), merges=list(merges), model_max_length=77, pad_token=pad)

    with torch.device(device):
        parts: dict[str, Any] = {
            "unet": unet(layout, divisor), "vae": vae(layout, divisor),
            "text_encoder": text_encoder(layout, 1, divisor),
        }  # fmt: skip
        if layout == "sdxl":
            parts["text_encoder_2"] = text_encoder(layout, 2, divisor)
    parts["tokenizer"] = words("<|endoftext|>")
    if layout == "sdxl":
        parts["tokenizer_2"] = words("!")
        return StableDiffusionXLPipeline(**parts, scheduler=EulerDiscreteScheduler(**SCHEDULE), add_watermarker=False)
    return StableDiffusionPipeline(
        **parts, scheduler=DDIMScheduler(**SCHEDULE, clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def weights(pipe: StableDiffusionPipeline | StableDiffusionXLPipeline, folder: Path) -> Path:
    """Saves a pipeline as the diffusers folder a home holds."""
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder
