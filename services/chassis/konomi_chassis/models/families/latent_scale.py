"""An autoencoder's latents as a network takes them, and back, by what the autoencoder's configuration says.

Either all channels are shifted and scaled alike (`shift_factor`, `scaling_factor`) or each is standardised first
(`latents_mean`, `latents_std`), as diffusers' own pipelines do.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def to_model(latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
    """Returns an autoencoder's (…, C, h, w) latents as the network takes them."""
    channels = _channels(latents, vae)
    if channels is not None:
        latents = latents - channels[0]
    elif shift := getattr(vae.config, "shift_factor", None):
        latents = latents - shift
    return spread_to_model(latents, vae)


def spread_to_model(spread: "torch.Tensor", vae: Any) -> "torch.Tensor":
    """Returns a spread of (…, C, h, w) latents, which no shift changes, in the network's numbers."""
    channels = _channels(spread, vae)
    return spread * (vae.config.scaling_factor if channels is None else vae.config.scaling_factor / channels[1])


def from_model(latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
    """Returns the network's (…, C, h, w) latents as an autoencoder takes them."""
    channels = _channels(latents, vae)
    if channels is not None:
        return latents * channels[1] / vae.config.scaling_factor + channels[0]
    latents = latents / vae.config.scaling_factor
    shift = getattr(vae.config, "shift_factor", None)
    return latents + shift if shift else latents


def _channels(like: "torch.Tensor", vae: Any) -> "tuple[torch.Tensor, torch.Tensor] | None":
    """Returns mean and spread of each channel, (C, 1, 1); None where the configuration has none."""
    mean, spread = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if mean is None or spread is None:
        return None
    return like.new_tensor(mean).view(-1, 1, 1), like.new_tensor(spread).view(-1, 1, 1)
