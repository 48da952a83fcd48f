"""An autoencoder as still images need it: pixels to latents and back, whatever axes its class has besides.

Qwen-Image's autoencoder was made for video too (Wu et al. 2025, 2508.02324, section 2.2): its pixels and latents have
an axis of frames, of which one image is one frame.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def has_frames(vae: Any) -> bool:
    """Says whether pixels and latents of an autoencoder have an axis of frames, as (N, C, F, h, w)."""
    return getattr(vae.config, "temperal_downsample", None) is not None


def encode(vae: Any, pixels: "torch.Tensor") -> Any:
    """Returns what an autoencoder makes of (N, 3, H, W) pixels in -1..1.

    Returns:
        `latent_dist` over (N, C, h, w) latents with `mean`, `std` and `sample`, or `latents`; see diffusers' encoders.
    """
    if not has_frames(vae):
        return vae.encode(pixels)
    encoded = vae.encode(pixels[:, :, None])
    distribution = encoded.latent_dist
    encoded.latent_dist = type(distribution)(distribution.parameters[:, :, 0])
    return encoded


def decode(vae: Any, latents: "torch.Tensor") -> "torch.Tensor":
    """Returns (N, 3, H, W) pixels, about -1..1, of (N, C, h, w) latents as the autoencoder takes them.

    Args:
        vae: the autoencoder, of any family.
        latents: what a family's `from_model` gives.
    """
    if not has_frames(vae):
        pixels: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        return pixels
    frames: torch.Tensor = vae.decode(latents[:, :, None], return_dict=False)[0]
    return frames[:, :, 0]
