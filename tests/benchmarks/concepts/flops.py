"""Floating-point operations of one Custom Diffusion step on Stable Diffusion 1.5, counted on shapes without weights."""

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

import konomi_chassis

LATENT, WORDS = 64, 77


def step_flops(batch: int) -> dict[str, float]:
    """Returns {"sd15_step_flops": forward and backward through the UNet} for a batch of 512-pixel images.

    Only keys and values of cross-attention have gradients, so the backward pass needs activations' gradients alone.
    """
    folder = Path(konomi_chassis.__file__).with_name("configs") / "sd1" / "unet" / "config.json"
    config = json.loads(folder.read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
        unet.requires_grad_(False)
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight")))
        latents = torch.empty(batch, 4, LATENT, LATENT)
        times, words = torch.empty(batch), torch.empty(batch, WORDS, int(unet.config.cross_attention_dim))
        with FlopCounterMode(display=False) as counter:
            unet(latents, times, words).sample.sum().backward()
    return {"sd15_step_flops": float(counter.get_total_flops())}
