"""Tiny random models with the true layouts of Stable Diffusion 1.x, 2.x and XL, at reduced width."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from konomi_chassis.models.clip_vocabulary import clip_vocabulary

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's own tokenizer."""
    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(vocab=dict(vocabulary), merges=list(merges), model_max_length=77, pad_token=pad)


def text_config(width: int, **changes: object) -> CLIPTextConfig:
    """CLIP's text tower at reduced width."""
    base = {
        "vocab_size": 49408,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "projection_dim": width,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    return CLIPTextConfig(**(base | changes))


def vae() -> AutoencoderKL:
    """The KL autoencoder at reduced width."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
    )


def starter() -> StableDiffusionPipeline:
    """What the starter is: SD 1.x layout, AutoencoderTiny, v-prediction, DPM-Solver++."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    tiny = AutoencoderTiny(
        latent_channels=16,
        num_encoder_blocks=(0, 0, 0, 0),
        encoder_block_out_channels=(16,) * 4,
        decoder_block_out_channels=(16,) * 4,
        num_decoder_blocks=(1, 1, 1, 0),
        scaling_factor=1.0,
    )
    scheduler = DPMSolverMultistepScheduler(
        **SCHEDULE, prediction_type="v_prediction", timestep_spacing="trailing", final_sigmas_type="zero"
    )
    text = CLIPTextModel(text_config(32))
    return _plain(unet, tiny, text, tokenizer(), scheduler)


def sd1() -> StableDiffusionPipeline:
    """SD 1.x."""
    torch.manual_seed(2)
    scheduler = PNDMScheduler(**SCHEDULE, skip_prk_steps=True, set_alpha_to_one=False)
    return _plain(_unet(64, attention_head_dim=4), vae(), CLIPTextModel(text_config(64)), tokenizer(), scheduler)


def sd2() -> StableDiffusionPipeline:
    """SD 2.x: OpenCLIP text tower, linear projections, v-prediction."""
    torch.manual_seed(3)
    unet = _unet(64, attention_head_dim=(2, 2, 4, 4), use_linear_projection=True)
    # What tells v-prediction from epsilon in an original checkpoint.
    torch.nn.init.normal_(unet.up_blocks[3].attentions[2].transformer_blocks[0].norm1.bias, std=0.3)
    scheduler = DDIMScheduler(**SCHEDULE, prediction_type="v_prediction", set_alpha_to_one=False, clip_sample=False)
    text = CLIPTextModel(text_config(64, hidden_act="gelu"))
    return _plain(unet, vae(), text, tokenizer("!"), scheduler)


def sdxl() -> StableDiffusionXLPipeline:
    """SDXL: two text towers, size conditioning."""
    torch.manual_seed(4)
    unet = _unet(
        96,
        attention_head_dim=(2, 2, 4),
        use_linear_projection=True,
        block_out_channels=(32, 32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64 + 6 * 8,
    )
    return StableDiffusionXLPipeline(
        unet=unet,
        vae=vae(),
        text_encoder=CLIPTextModel(text_config(32)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(64, hidden_act="gelu", num_hidden_layers=3)),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer("!"),
        scheduler=EulerDiscreteScheduler(**SCHEDULE),
        add_watermarker=False,
    )


def save_configs(pipe: StableDiffusionPipeline, folder: Path) -> None:
    """Writes what the bundled configurations hold, for a model of reduced width."""
    for name in ("unet", "vae"):
        getattr(pipe, name).save_config(folder / name)
    for name in ("text_encoder", "text_encoder_2"):
        if hasattr(pipe, name):
            getattr(pipe, name).config.save_pretrained(folder / name)
    pipe.scheduler.save_config(folder / "scheduler")
    pipe.save_config(folder)


def _unet(cross: int, **changes: object) -> UNet2DConditionModel:
    base = {
        "sample_size": 8,
        "block_out_channels": (32, 32, 64, 64),
        "layers_per_block": 2,
        "norm_num_groups": 8,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "cross_attention_dim": cross,
    }
    return UNet2DConditionModel(**(base | changes))


def _plain(unet, autoencoder, text, words, scheduler) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        unet=unet,
        vae=autoencoder,
        text_encoder=text,
        tokenizer=words,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
