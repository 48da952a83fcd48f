"""Tiny base models with random weights in the true Stable Diffusion 1.x and XL layouts, and sets of images."""

import io
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

CONTEXT = 77
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def tokenizer() -> CLIPTokenizer:
    """Returns CLIP's byte alphabet without merges, which reads any text."""
    bytes_ = [chr(code) for code in [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]]
    names = [*bytes_, *(name + "</w>" for name in bytes_), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=CONTEXT)


def text_config(width: int, tokens: CLIPTokenizer) -> CLIPTextConfig:
    """Returns a two-layer text encoder's configuration."""
    return CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        projection_dim=width,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )


def save_sd1(folder: Path, prediction: str = "v_prediction") -> Path:
    """Saves an SD 1.x pipeline with AutoencoderTiny, 64 px images and 8x8 latents."""
    torch.manual_seed(1)
    tokens = tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    vae = AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(0, 0, 0, 0),
        num_decoder_blocks=(1, 1, 1, 0),
        scaling_factor=1.0,
    )
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text_config(32, tokens)),
        tokenizer=tokens,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE, prediction_type=prediction, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


def save_sdxl(folder: Path) -> Path:
    """Saves an SDXL pipeline with AutoencoderKL, 16 px images and 8x8 latents."""
    torch.manual_seed(2)
    tokens = tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=80,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        transformer_layers_per_block=(1, 2),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 48,
        use_linear_projection=True,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.13025,
    )
    pipe = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text_config(32, tokens)),
        tokenizer=tokens,
        tokenizer_2=tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(text_config(48, tokens)),
        unet=unet,
        scheduler=EulerDiscreteScheduler(**SCHEDULE, prediction_type="epsilon"),
    )
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


def png(seed: int, side: int | tuple[int, int] = 64) -> bytes:
    """Returns a PNG of a random smooth image; `side` may be width and height."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((side, side) if isinstance(side, int) else side, Image.Resampling.BICUBIC).save(
        stream, "PNG"
    )
    return stream.getvalue()
