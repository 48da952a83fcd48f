"""An EfficientNet whose vector also says how an image is drawn: statistics of its first stages beside the last layer.

Mean and standard deviation per channel describe style as Gram matrices do (Huang & Belongie 2017, 1703.06868; Gatys
et al. 2016); the last layer, trained to name objects, forgets much of it. Each statistic is measured in units of the
spread its batch normalisation learnt over the training images, so that no channel drowns the others.
"""

from typing import Any

import torch

STAGES = 3
"""First stages whose first block is read."""
WEIGHT = 0.75
"""Length of the early part beside the last layer's length 1; measured in LOG.md."""


class EarlyLayers(torch.nn.Module):
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
        found = model.bn1(model.conv_stem(images))
        early = []
        for number, stage in enumerate(model.blocks):
            for place, block in enumerate(stage):
                found = block(found)
                if place == 0 and number < STAGES:
                    early.append(_statistics(found, block.bn3 if hasattr(block, "bn3") else block.bn2))
        last = model.global_pool(model.bn2(model.conv_head(found)))
        return torch.cat([_unit(last), WEIGHT * _unit(torch.cat(early, dim=1))], dim=1)


def _statistics(found: torch.Tensor, norm: Any) -> torch.Tensor:
    """Returns mean and log standard deviation per channel of (N, C, H, W), in the units of its norm: (N, 2 C)."""
    spread = norm.weight.abs() + 1e-3
    mean, deviation = found.mean(dim=(2, 3)), found.std(dim=(2, 3))
    return torch.cat([(mean - norm.bias) / spread, torch.log(deviation / spread + 1e-3)], dim=1)


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)
