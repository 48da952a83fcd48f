"""Early layers beside the last one: what they see (texture, blur, colour, contrast) is what the last has forgotten.

Of each early layer two statistics per channel are kept, mean and log standard deviation over the picture, in units of
that channel, as style statistics are (Huang and Belongie 2017). An EfficientNet's own norms say the units; any other
tower's are measured once on fixed pictures.
"""

from typing import Any

import numpy as np
import torch

from konomi_rater.embedding.tower import Preparation

STAGES = 3
"""Early layers that are read."""
WEIGHT = 0.75
"""Length of the early part beside the last layer's length 1; measured in LOG.md."""
LEAST = 1e-3
HIERARCHY = 6
"""Layers up to which each is a stage of its own size; more are blocks of one size."""
PICTURES, SEED = 16, 0


class NoEarlyLayers(Exception):
    """A tower has none that can be read; the sentence says what stands against it."""


class EarlyBlocks(torch.nn.Module):
    """Maps images (N, 3, H, W) to (N, D): last layer, length 1, beside early statistics of length WEIGHT.

    Args:
        model: an EfficientNet of timm without its classifier.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the joined features; the caller brings them to unit length."""
        model = self.model
        features = model.bn1(model.conv_stem(images))
        early = []
        for number, stage in enumerate(model.blocks):
            for place, block in enumerate(stage):
                features = block(features)
                if place == 0 and number < STAGES:
                    norm = block.bn3 if hasattr(block, "bn3") else block.bn2
                    early.append(_statistics(features, norm.bias, norm.weight.abs() + LEAST))
        last = model.global_pool(model.bn2(model.conv_head(features)))
        return torch.cat([_unit(last), WEIGHT * _unit(torch.cat(early, dim=1))], dim=1)


class EarlyLayers(torch.nn.Module):
    """The same of any tower of timm, convolutional or transformer.

    Args:
        model: the tower, without its classifier, in float32 on the host.
        prepare: how pixels become what it takes.

    Raises:
        NoEarlyLayers: timm cannot say what they are, or they are no maps.
    """

    def __init__(self, model: Any, prepare: Preparation) -> None:
        super().__init__()
        self.model = model
        if not hasattr(model, "forward_intermediates"):
            raise NoEarlyLayers("timm does not say where they are")
        self.at = early(len(getattr(model, "feature_info", ())))
        images = prepare.normalised(torch.from_numpy(pictures(prepare.fit.width, prepare.fit.height)))
        with torch.inference_mode():
            maps = [self._maps(batch)[1] for batch in images.split(4)]
        for number, parts in enumerate(zip(*maps, strict=True)):
            values = torch.cat(parts).float()
            self.register_buffer(f"middle_{number}", values.mean(dim=(0, 2, 3)))
            self.register_buffer(f"spread_{number}", values.std(dim=(2, 3), correction=0).mean(dim=0) + LEAST)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the joined features; the caller brings them to unit length."""
        final, maps = self._maps(images)
        units = [(getattr(self, f"middle_{n}").float(), getattr(self, f"spread_{n}").float()) for n in range(len(maps))]
        told = [_statistics(values.float(), *unit) for values, unit in zip(maps, units, strict=True)]
        last = self.model.forward_head(final).float()
        return torch.cat([_unit(last), WEIGHT * _unit(torch.cat(told, dim=1))], dim=1)

    def _maps(self, images: torch.Tensor) -> tuple[Any, list[torch.Tensor]]:
        """Maps images (N, 3, H, W) to the final features, and early maps (N, C, h, w)."""
        final, maps = self.model.forward_intermediates(images, indices=list(self.at), output_fmt="NCHW")
        if not all(isinstance(values, torch.Tensor) and values.ndim == 4 for values in maps):
            raise NoEarlyLayers("they are no maps of channels")
        return final, maps


def early(count: int) -> tuple[int, ...]:
    """Returns the places of the early layers among `count`: the first stages, or blocks within the first quarter.

    Raises:
        NoEarlyLayers: there are too few for any to be early.
    """
    if count < 2:
        raise NoEarlyLayers(f"{count} layers are known")
    if count <= HIERARCHY:
        return tuple(range(min(STAGES, count - 1)))
    return tuple(sorted({max(0, round(count * n / (4 * STAGES)) - 1) for n in range(1, STAGES + 1)}))


def pictures(width: int, height: int) -> np.ndarray:
    """Returns fixed pictures (16, height, width, 3) uint8 whose spectrum falls as that of photographs does, as 1/f."""
    random = np.random.default_rng(SEED)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    noise = np.fft.rfft2(random.standard_normal((PICTURES, 3, height, width))) / frequency
    channels = np.fft.irfft2(noise, s=(height, width))
    channels /= channels.std(axis=(2, 3), keepdims=True)
    grey, colour = channels[:, :1], channels - channels.mean(axis=1, keepdims=True)
    levels = 128 + random.uniform(-40, 40, (PICTURES, 3, 1, 1)) + 45 * grey + 20 * colour
    return np.ascontiguousarray(levels.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def _statistics(features: torch.Tensor, middle: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Returns mean and log standard deviation per channel of (N, C, H, W), in units of the channel: (N, 2 C)."""
    mean, deviation = features.mean(dim=(2, 3)), features.std(dim=(2, 3), correction=int(features[0, 0].numel() > 1))
    return torch.cat([(mean - middle) / spread, torch.log(deviation / spread + LEAST)], dim=1)


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)
