"""Opens image towers of timm, for those without a text tower; the one file that imports it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file

from konomi.errors import FailedPrecondition
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.early_layers import EarlyBlocks, EarlyLayers, NoEarlyLayers
from konomi_rater.embedding.tower import Preparation, ResizeRule, TorchEmbedder


def is_known(model: str) -> bool:
    """Says whether timm can make a model of that name; nothing is fetched."""
    return bool(timm.is_model(model))


def open_timm(model: str, weights: Path, placement: Placement, *, layers: str = "") -> TorchEmbedder:
    """Returns the image tower of a timm model.

    Args:
        model: its name in timm.
        weights: checked safetensors; a classifier among them may be left over.
        placement: where it runs.
        layers: "early" joins the statistics of its early layers, whatever tower it is; "blocks" those of the first
            blocks of an EfficientNet, in the units of its own norms, as the packaged embedder has them.

    Raises:
        FailedPrecondition: timm cannot say where its early layers are (EMBEDDER_UNSUPPORTED).
        ValueError: tensors are missing, or the model is fed in a way konomi does not know.
    """
    network = timm.create_model(model, pretrained=False)
    prepare = like_timm(timm.data.resolve_model_data_config(network))
    network.reset_classifier(0)
    missing = network.load_state_dict(load_file(weights), strict=False).missing_keys
    if missing:  # the file's own classifier may be left over; a tower without its weights may not
        raise ValueError(f"{len(missing)} tensors are missing")
    tower: torch.nn.Module = network.eval()
    if layers:
        try:
            tower = EarlyBlocks(network) if layers == "blocks" else EarlyLayers(network, prepare)
        except NoEarlyLayers as error:
            raise FailedPrecondition(
                f"expected a tower of timm whose early layers are maps konomi can read, but of {model!r} {error}; "
                f"choose it without #early, or another",
                reason="EMBEDDER_UNSUPPORTED",
            ) from error
    tower.to(placement.device, placement.dtype)
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
