"""Pixels to latents and back through a pipeline's autoencoder, and the noise an image starts from."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from konomi_chassis.models.families import autoencoder
from konomi_chassis.models.families.family import NoisePath
from konomi_chassis.models.families.table import of_pipeline
from konomi_generator.png import fit
from konomi_generator.sampling import ImageRequest, Sampling

LARGE_PIXELS = 256 * 256


class Latents:
    """The autoencoder of one pipeline."""

    def __init__(self, pipe: Any, device: torch.device | None = None) -> None:
        self._pipe, self._family = pipe, of_pipeline(pipe)
        network = getattr(pipe, self._family.network)
        self._device = device or network.device
        self._dtype = torch.float32 if self._family.defaults.whole_latents else network.dtype

    def shape(self, sampling: Sampling, rows: int) -> tuple[int, int, int, int]:
        """Returns the shape of so many images' latents."""
        scale = self._pipe.vae_scale_factor
        return (rows, self._family.channels(self._pipe), sampling.height // scale, sampling.width // scale)

    def cells(self, sampling: Sampling) -> int:
        """Returns how many cells an image's latents have."""
        _, _, height, width = self.shape(sampling, 1)
        return height * width

    def first(
        self,
        rows: Sequence[ImageRequest],
        sampling: Sampling,
        path: NoisePath,
        scheduler: Any,
        timesteps: torch.Tensor,
        generators: Sequence[torch.Generator],
    ) -> torch.Tensor:
        """Returns the latents (n, C, h, w) sampling starts from: noise, or the given pictures with noise on them."""
        shape = self.shape(sampling, 1)
        if rows[0].init is None:
            drawn = torch.cat([noise(shape, generator) for generator in generators])
            return path.begin(scheduler, drawn.to(self._device, self._dtype), None, None)
        encoded: dict[int, torch.Tensor] = {}
        images, noises = [], []
        for row, generator in zip(rows, generators, strict=True):
            if row.index not in encoded:
                encoded[row.index] = self._encode(row, sampling, generator)
            images.append(encoded[row.index])
            noises.append(noise(shape, generator))
        latents, drawn = torch.cat(images), torch.cat(noises).to(self._device, self._dtype)
        return path.begin(scheduler, drawn, latents, timesteps[:1].repeat(len(rows))) if len(timesteps) else latents

    def decode(self, latents: torch.Tensor, vae: Any = None) -> np.ndarray:
        """Returns (n, H, W, 3) float32 in 0..1; large images one by one, which needs less memory and costs nothing."""
        vae = vae or self._pipe.vae
        latents = self._family.from_model(latents, vae).to(vae.dtype)
        large = latents.shape[-1] * latents.shape[-2] * self._pipe.vae_scale_factor**2 > LARGE_PIXELS
        parts = latents.split(1 if large else len(latents))
        with torch.autocast(self._device.type, enabled=False):
            images = torch.cat([autoencoder.decode(vae, part) for part in parts])
        images = images.masked_fill(~images.isfinite(), torch.nan)  # what is clamped would pass for white or black
        return (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()

    def mend(self, images: np.ndarray, latents: torch.Tensor) -> list[int]:
        """Decodes again in float32, in place, the images that hold no numbers though their latents do.

        Half precision ends at 65,504, which activations of some autoencoders exceed.

        Args:
            images: (n, H, W, 3), as `decode` returned them.
            latents: (n, C, h, w), what they were decoded from.

        Returns:
            The rows decoded again.
        """
        broken = ~np.isfinite(images).all(axis=(1, 2, 3))
        rows = [row for row in np.flatnonzero(broken) if bool(latents[row].isfinite().all())]
        if not rows or self._pipe.vae.dtype == torch.float32:
            return []
        exact = copy.deepcopy(self._pipe.vae).float()
        for row in rows:
            images[row] = self.decode(latents[row : row + 1], exact)[0]
        return [int(row) for row in rows]

    def _encode(self, row: ImageRequest, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
        assert row.init is not None
        vae = self._pipe.vae
        pixels = fit(row.init(), sampling.width, sampling.height)  # (H, W, 3) uint8
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].to(self._device, vae.dtype) / 127.5 - 1
        encoded = autoencoder.encode(vae, image)
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.sample(generator)
        return self._family.to_model(latents, vae).to(self._dtype)


def noise(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Returns standard normal numbers, always drawn on the CPU so that a seed means the same on every device."""
    return torch.randn(shape, generator=generator)
