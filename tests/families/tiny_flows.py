"""Tiny random models of the families that match flows, in their true layouts."""

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import CLIPTextModelWithProjection

from tests.families import tiny_texts
from tests.generator.tiny_models import text_config, tokenizer


def autoencoder(channels: int, widths: tuple[int, ...] = (8, 16), **more: object) -> AutoencoderKL:
    """Returns an autoencoder of so many channels at reduced width; its images have 16 cells a side, or 8."""
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32 if len(widths) == 2 else 64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **{"shift_factor": 0.1159, "scaling_factor": 0.3611} | more,
    )


def sd3() -> StableDiffusion3Pipeline:
    """Stable Diffusion 3 without T5: images of 32 pixels, latents of 16 x 16."""
    torch.manual_seed(8)
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=96,
        pooled_projection_dim=96,
        out_channels=4,
        pos_embed_max_size=16,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(4, shift_factor=0.0609, scaling_factor=1.5305),
        text_encoder=CLIPTextModelWithProjection(text_config(32)),
        tokenizer=tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(text_config(64, hidden_act="gelu")),
        tokenizer_2=tokenizer("!"),
        text_encoder_3=None,
        tokenizer_3=None,
    )


def z_image(shift: float = 6.0) -> ZImagePipeline:
    """Z-Image, with a shift of 3 its Turbo: images of 32 pixels, latents of 16 x 16 and 16 channels."""
    torch.manual_seed(11)
    transformer = ZImageTransformer2DModel(
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    torch.nn.init.normal_(transformer.x_pad_token, std=0.5)  # all zero until it is trained
    torch.nn.init.normal_(transformer.cap_pad_token, std=0.5)
    vae = autoencoder(16, force_upcast=True)
    tokens = tiny_texts.qwen_tokenizer()
    return ZImagePipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=vae,
        text_encoder=tiny_texts.qwen(16, tokens),
        tokenizer=tokens,
    )


def lumina2(**scheduler: object) -> Lumina2Pipeline:
    """Lumina 2: images of 64 pixels, for its pipeline knows an autoencoder of 8 pixels a cell alone."""
    torch.manual_seed(12)
    transformer = Lumina2Transformer2DModel(
        sample_size=8,
        hidden_size=24,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 4, 4),
        axes_lens=(300, 64, 64),
        cap_feat_dim=16,
    )
    vae = autoencoder(16, (8, 8, 16, 16))
    tokens = tiny_texts.gemma_tokenizer()
    return Lumina2Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(**({"shift": 6.0} | scheduler)),
        vae=vae,
        text_encoder=tiny_texts.gemma(16, tokens),
        tokenizer=tokens,
    )
