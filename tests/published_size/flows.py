"""The published shapes of the flow families: configurations by a model's public name, and parts without memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch


@dataclass(frozen=True)
class PublishedFlow:
    """One published model.

    Attributes:
        family: name of its family.
        network: class of its transformer.
        config: what of its transformer's configuration is not the class's own.
        bytes: what its weights take in bfloat16 by the index of its files, or by their size to three digits.
        texts: parameters of its text encoders.
        tokens: hidden states of a text at most.
        width: of these.
        pooled: width of a pooled vector; 0 where it has none.
        channels: of a latent.
    """

    family: str
    network: str
    bytes: float
    texts: Mapping[str, int]
    tokens: int = 512
    width: int = 4096
    pooled: int = 0
    channels: int = 16
    config: Mapping[str, Any] = field(default_factory=dict)

    def transformer(self, **changes: Any) -> torch.nn.Module:
        """Returns its transformer, on whatever device is the default."""
        made: torch.nn.Module = getattr(diffusers, self.network)(**(self.config | changes))
        return made


CLIP_L, CLIP_G, T5_XXL = 123_060_480, 694_659_840, 4_762_310_656
QWEN3_4B, QWEN3_8B, QWEN25_VL_7B, GEMMA2_2B = 4_022_468_096, 8_190_735_360, 8_292_166_656, 2_614_341_888
SD3 = {"sample_size": 128, "joint_attention_dim": 4096, "pooled_projection_dim": 2048}
KLEIN = {"guidance_embeds": False}
PUBLISHED: Mapping[str, PublishedFlow] = {
    "FLUX.1 [dev]": PublishedFlow(
        "flux1", "FluxTransformer2DModel", 23.8e9, {"text_encoder": CLIP_L, "text_encoder_2": T5_XXL},
        pooled=768, config={"guidance_embeds": True},
    ),
    "FLUX.1 [schnell]": PublishedFlow(
        "flux1", "FluxTransformer2DModel", 23_782_357_120, {"text_encoder": CLIP_L, "text_encoder_2": T5_XXL},
        tokens=256, pooled=768,
    ),
    "Chroma1-HD": PublishedFlow("chroma", "ChromaTransformer2DModel", 17.8e9, {"text_encoder": T5_XXL}),
    "Qwen-Image": PublishedFlow(
        "qwen_image", "QwenImageTransformer2DModel", 40.9e9, {"text_encoder": QWEN25_VL_7B}, width=3584
    ),
    "FLUX.2 [klein] 4B": PublishedFlow(
        "flux2_klein", "Flux2Transformer2DModel", 7.75e9, {"text_encoder": QWEN3_4B}, width=7680, channels=32,
        config=KLEIN | {
            "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680
        },
    ),
    "FLUX.2 [klein] 9B": PublishedFlow(
        "flux2_klein", "Flux2Transformer2DModel", 18.2e9, {"text_encoder": QWEN3_8B}, width=12288, channels=32,
        config=KLEIN | {
            "num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288
        },
    ),
    "Stable Diffusion 3 Medium": PublishedFlow(
        "sd3", "SD3Transformer2DModel", 4.17e9,
        {"text_encoder": CLIP_L, "text_encoder_2": CLIP_G, "text_encoder_3": T5_XXL}, tokens=333, pooled=2048,
        config=SD3 | {
            "num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 192
        },
    ),
    "Stable Diffusion 3.5 Medium": PublishedFlow(
        "sd3", "SD3Transformer2DModel", 4.94e9,
        {"text_encoder": CLIP_L, "text_encoder_2": CLIP_G, "text_encoder_3": T5_XXL}, tokens=333, pooled=2048,
        config=SD3 | {
            "num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 384,
            "qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13)),
        },
    ),
    "Stable Diffusion 3.5 Large": PublishedFlow(
        "sd3", "SD3Transformer2DModel", 16.3e9,
        {"text_encoder": CLIP_L, "text_encoder_2": CLIP_G, "text_encoder_3": T5_XXL}, tokens=333, pooled=2048,
        config=SD3 | {
            "num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
        },
    ),
    "Z-Image": PublishedFlow("z_image", "ZImageTransformer2DModel", 12.3e9, {"text_encoder": QWEN3_4B}, width=2560),
    "Lumina Image 2.0": PublishedFlow(
        "lumina2", "Lumina2Transformer2DModel", 5.22e9, {"text_encoder": GEMMA2_2B}, tokens=256, width=2304,
        config={"cap_feat_dim": 2304},
    ),
}  # fmt: skip
"""Public name → its shapes, as its own folder says them."""


def autoencoder(flow: PublishedFlow) -> torch.nn.Module:
    """Returns its autoencoder, on whatever device is the default."""
    if flow.family == "qwen_image":
        return diffusers.AutoencoderKLQwenImage()
    blocks = {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
    }
    if flow.family == "flux2_klein":
        return diffusers.AutoencoderKLFlux2(**blocks)
    plain = {"latent_channels": flow.channels, "use_quant_conv": False, "use_post_quant_conv": False}
    return diffusers.AutoencoderKL(**blocks, **plain)
