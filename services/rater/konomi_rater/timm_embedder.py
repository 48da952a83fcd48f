"""Opens image towers of timm, for those without a text tower; the one file that imports it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file

from konomi_rater.early_layers import EarlyLayers
from konomi_rater.fit import Fit
from konomi_rater.tower import Placement, Preparation, TorchEmbedder


def known(model: str) -> bool:
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
    made = timm.create_model(model, pretrained=False)
    prepare = like_timm(timm.data.resolve_model_data_config(made))
    made.reset_classifier(0)
    missing = made.load_state_dict(load_file(weights), strict=False).missing_keys
    if missing:  # the file's own classifier may be left over; a tower without its weights may not
        raise ValueError(f"{len(missing)} tensors are missing")
    tower: torch.nn.Module = EarlyLayers(made) if early else made
    tower.eval().to(placement.device)
    return TorchEmbedder(tower, prepare, placement, None)


def like_timm(found: Mapping[str, Any]) -> Preparation:
    """Returns the preparation timm's own evaluation transform makes."""
    _, height, width = found["input_size"]
    if height != width or found["crop_mode"] not in ("center", "squash"):
        raise ValueError(f"crop mode {found['crop_mode']} to {height} x {width}")
    squash = found["crop_mode"] == "squash" and found["crop_pct"] == 1.0
    if found["crop_mode"] == "squash" and not squash:
        raise ValueError(f"squashing to more than the {found['crop_pct']} that is kept")
    edge = int(height / found["crop_pct"])
    return Preparation(Fit(edge, width, height, squash, found["interpolation"]), found["mean"], found["std"])
