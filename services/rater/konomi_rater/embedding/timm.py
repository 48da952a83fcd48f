"""Opens image towers of timm, for those without a text tower; the one file that imports it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file

from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.tower import Preparation, ResizeRule, TorchEmbedder

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
        features = model.bn1(model.conv_stem(images))
        early = []
        for number, stage in enumerate(model.blocks):
            for place, block in enumerate(stage):
                features = block(features)
                if place == 0 and number < STAGES:
                    early.append(_statistics(features, block.bn3 if hasattr(block, "bn3") else block.bn2))
        last = model.global_pool(model.bn2(model.conv_head(features)))
        return torch.cat([_unit(last), WEIGHT * _unit(torch.cat(early, dim=1))], dim=1)


def _statistics(features: torch.Tensor, norm: Any) -> torch.Tensor:
    """Returns mean and log standard deviation per channel of (N, C, H, W), in the units of its norm: (N, 2 C)."""
    spread = norm.weight.abs() + 1e-3
    mean, deviation = features.mean(dim=(2, 3)), features.std(dim=(2, 3))
    return torch.cat([(mean - norm.bias) / spread, torch.log(deviation / spread + 1e-3)], dim=1)


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def is_known(model: str) -> bool:
    """Says whether timm can make a model of that name; nothing is fetched."""
    return bool(timm.is_model(model))


def open_timm(model: str, weights: Path, placement: Placement, *, early: bool = False) -> TorchEmbedder:
    """Returns the image tower of a timm model.

    Args:
        model: its name in timm.
        weights: checked safetensors; a classifier among them may be left over.
        placement: where it runs.
        early: join the statistics of its first stages; only for EfficientNets.

    Raises:
        ValueError: tensors are missing, or the model is fed in a way konomi does not know.
    """
    network = timm.create_model(model, pretrained=False)
    prepare = like_timm(timm.data.resolve_model_data_config(network))
    network.reset_classifier(0)
    missing = network.load_state_dict(load_file(weights), strict=False).missing_keys
    if missing:  # the file's own classifier may be left over; a tower without its weights may not
        raise ValueError(f"{len(missing)} tensors are missing")
    tower: torch.nn.Module = EarlyLayers(network) if early else network
    tower.eval().to(placement.device, placement.dtype)
    return TorchEmbedder(tower, prepare, placement, None)


def like_timm(config: Mapping[str, Any]) -> Preparation:
    """Returns the preparation timm's own evaluation transform makes."""
    _, height, width = config["input_size"]
    if height != width or config["crop_mode"] not in ("center", "squash"):
        raise ValueError(f"crop mode {config['crop_mode']} to {height} x {width}")
    squash = config["crop_mode"] == "squash" and config["crop_pct"] == 1.0
    if config["crop_mode"] == "squash" and not squash:
        raise ValueError(f"squashing to more than the {config['crop_pct']} that is kept")
    edge = int(height / config["crop_pct"])
    return Preparation(ResizeRule(edge, width, height, squash, config["interpolation"]), config["mean"], config["std"])
