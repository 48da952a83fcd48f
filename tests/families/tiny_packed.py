"""Tiny random models of the families whose transformers pack latents, in their true layouts."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import (
    CLIPTextModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from tests.families import tiny_texts
from tests.families.tiny_flows import autoencoder
from tests.generator.tiny_models import text_config, tokenizer

MODELS = {"flux1-dev": "flux1", "flux1-schnell": "flux1", "chroma": "chroma", "qwen-image": "qwen_image"}
MODELS |= {"klein-base": "flux2_klein", "klein": "flux2_klein"}
"""Base model → its family."""
LETTERS = "abcdefghijklmnopqrstuvwxyz,."
ROPE = (4, 6, 6)
JOINT = 32
"""Width of T5's states."""


def save(folder: Path) -> None:
    """Saves a model of each into a folder of models."""
    flux1().save_pretrained(folder / "flux1-dev")
    flux1(guidance=False).save_pretrained(folder / "flux1-schnell")
    chroma().save_pretrained(folder / "chroma")
    qwen_image().save_pretrained(folder / "qwen-image")
    flux2_klein().save_pretrained(folder / "klein-base")
    flux2_klein(distilled=True).save_pretrained(folder / "klein")


def t5_tokenizer() -> T5TokenizerFast:
    """Returns T5's tokenizer with letters in place of its pieces."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512)


def t5() -> T5EncoderModel:
    """Returns T5's encoder at two layers."""
    return T5EncoderModel(
        T5Config(
            vocab_size=40, d_model=JOINT, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
        )
    )


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Returns the scheduler of FLUX.1 [dev], whose shift grows with the image."""
    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def flux1(guidance: bool = True) -> FluxPipeline:
    """FLUX.1 [dev], or [schnell] without a guidance."""
    torch.manual_seed(9)
    return FluxPipeline(
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=JOINT,
            pooled_projection_dim=32,
            guidance_embeds=guidance,
            axes_dims_rope=ROPE,
        ),
        scheduler=scheduler() if guidance else FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder(4),
        text_encoder=CLIPTextModel(text_config(32)),
        tokenizer=tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
    )


def chroma() -> ChromaPipeline:
    """Chroma: FLUX.1 [schnell] with a network in place of its modulation."""
    torch.manual_seed(10)
    return ChromaPipeline(
        transformer=ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=JOINT,
            axes_dims_rope=ROPE,
            approximator_num_channels=8,
            approximator_hidden_dim=32,
            approximator_layers=1,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder(4),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
    )


def qwen_image() -> QwenImagePipeline:
    """Qwen-Image: images of 32 pixels, latents of 4 x 16 x 16 with an axis of frames in the autoencoder."""
    torch.manual_seed(11)
    tokens = tiny_texts.qwen_tokenizer()
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[-0.5, 0.25, 0.0, 1.5],
        latents_std=[2.8, 1.5, 0.7, 1.1],
    )
    vae.register_to_config(sample_size=32)
    return QwenImagePipeline(
        transformer=QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=ROPE,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02),
        vae=vae,
        text_encoder=qwen_vision(16, len(tokens)),
        tokenizer=tokens,
    )


def qwen_vision(width: int, words: int) -> Qwen2_5_VLForConditionalGeneration:
    """Qwen2.5-VL at two layers, with eyes of one."""
    text = {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": width}
    ends = {"image_token_id": words - 1, "video_token_id": words - 1}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ends))


def flux2_klein(distilled: bool = False) -> Flux2KleinPipeline:
    """FLUX.2 [klein], base or distilled: images of 32 pixels, whose latents' patches have a batch norm's statistics."""
    torch.manual_seed(12)
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    torch.nn.init.normal_(vae.bn.running_mean, std=0.3)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
    tokens = tiny_texts.qwen_tokenizer()
    width = 8
    text_encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokens),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=28,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=4,
            max_position_embeddings=1024,
        )
    )
    return Flux2KleinPipeline(
        transformer=Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * width,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        scheduler=scheduler(),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokens,
        is_distilled=distilled,
    )
