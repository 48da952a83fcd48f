"""An autoencoder's latents as a network takes them, and back, by what the autoencoder says.

All channels are shifted and scaled alike (`shift_factor`, `scaling_factor`), or each is standardised (`latents_mean`,
`latents_std`), perhaps before they are scaled; or each channel of a patch of 2 x 2 cells is, by the running statistics
of a batch norm. Computed in the order of diffusers' own pipelines, to the bit.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def to_model(latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
    """Returns an autoencoder's (…, C, h, w) latents as the network takes them."""
    statistics = _patch_statistics(latents, vae)
    if statistics is not None:
        from konomi_chassis.models.families import packing

        return packing.unpatched((packing.patches(latents) - statistics[0]) / statistics[1])
    channels = _channels(latents, vae)
    if channels is not None:
        latents = latents - channels[0]
    elif shift := getattr(vae.config, "shift_factor", None):
        latents = latents - shift
    return spread_to_model(latents, vae)


def spread_to_model(spread: "torch.Tensor", vae: Any) -> "torch.Tensor":
    """Returns a spread of (…, C, h, w) latents, which no shift changes, in the network's numbers."""
    statistics = _patch_statistics(spread, vae)
    if statistics is not None:
        from konomi_chassis.models.families import packing

        return packing.unpatched(packing.patches(spread) / statistics[1])
    channels, scale = _channels(spread, vae), getattr(vae.config, "scaling_factor", None)
    if channels is None:
        return spread * scale
    return spread * (1 / channels[1] if scale is None else scale / channels[1])


def from_model(latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
    """Returns the network's (…, C, h, w) latents as an autoencoder takes them."""
    statistics = _patch_statistics(latents, vae)
    if statistics is not None:
        from konomi_chassis.models.families import packing

        return packing.unpatched(packing.patches(latents) * statistics[1] + statistics[0])
    channels, scale = _channels(latents, vae), getattr(vae.config, "scaling_factor", None)
    if channels is not None and scale is None:
        return latents / (1 / channels[1]) + channels[0]
    if channels is not None:
        return latents * channels[1] / scale + channels[0]
    latents = latents / scale
    shift = getattr(vae.config, "shift_factor", None)
    return latents + shift if shift else latents


def _channels(like: "torch.Tensor", vae: Any) -> "tuple[torch.Tensor, torch.Tensor] | None":
    """Returns mean and spread of each channel, (C, 1, 1); None where the configuration has none."""
    mean, spread = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if mean is None or spread is None:
        return None
    return like.new_tensor(mean).view(-1, 1, 1), like.new_tensor(spread).view(-1, 1, 1)


def _patch_statistics(like: "torch.Tensor", vae: Any) -> "tuple[torch.Tensor, torch.Tensor] | None":
    """Returns mean and spread of each channel of a patch, (4C, 1, 1); None where the autoencoder has no batch norm."""
    norm = getattr(vae, "bn", None)
    if norm is None:
        return None
    spread = (norm.running_var.view(-1, 1, 1) + vae.config.batch_norm_eps).sqrt()
    return norm.running_mean.view(-1, 1, 1).to(like), spread.to(like)
