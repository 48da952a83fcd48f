"""Opens open_clip models from files alone, checked before any library reads them; the one file that imports open_clip.

Weights are `models/open_clip/NAME/TAG.safetensors`. NAME is a model open_clip knows, or any other beside whose weights
lies an `open_clip_config.json`. Nothing is ever fetched: where open_clip would, the model is refused.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch

from konomi.errors import FailedPrecondition
from konomi_chassis.models.diffusers_folder import read_json
from konomi_chassis.models.safetensors_check import Header, check_file
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.names import CONFIG
from konomi_rater.embedding.tower import Preparation, ResizeRule, TextTower, TorchEmbedder

FLOATS = frozenset({"F32", "F16", "BF16"})
COUNTERS = frozenset({"I64", "I32"})
"""Dtypes of buffers that count or number things, such as position ids."""
SLACK = 4_000_000
"""Values a model may have beyond those of its file: position tables open_clip resizes, buffers it computes."""


def is_known(model: str) -> bool:
    """Says whether open_clip has a model of that name."""
    return model in open_clip.list_models()


def reads_text(model: str, weights: Path) -> bool:
    """Says whether a model can be searched by text, from its configuration alone; False where that cannot be read."""
    beside = weights.parent / CONFIG
    if not beside.is_file():
        return _reads(open_clip.get_model_config(model) or {})
    try:
        config = read_json(beside, f"The configuration of {model}").get("model_cfg")
    except FailedPrecondition:
        return False
    return isinstance(config, dict) and _reads(config)


def open_starter(folder: Path, placement: Placement) -> TorchEmbedder:
    """Returns the bundled model, whose configuration and vocabulary have names of their own."""
    config = read_json(folder / "model.json", "The starter's configuration")
    config = config.get("model_cfg", config)
    config["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": str(folder / "bpe.txt.gz")}
    return _open(config, {}, folder / "model.safetensors", placement)


def open_weights(model: str, tag: str, weights: Path, placement: Placement) -> TorchEmbedder:
    """Returns a model by its name and its weights.

    Args:
        model: a name open_clip knows, or any other beside whose weights lies a configuration.
        tag: the pretrained tag, which may say how images are prepared; a file's name where it is none.
        weights: the file.
        placement: where it runs.

    Raises:
        FailedPrecondition: the file or its configuration is unsafe (UNSAFE_FORMAT), of values no tower is made of
            (EMBEDDER_DTYPE), or of a kind that would need the network (EMBEDDER_UNSUPPORTED).
    """
    beside = weights.parent / CONFIG
    if beside.is_file():
        stored = read_json(beside, f"The configuration of {model}")
        config, prepared = stored.get("model_cfg"), stored.get("preprocess_cfg", {})
        if not isinstance(config, dict) or not isinstance(prepared, dict):
            raise _unsupported(model, f'its {CONFIG} has no "model_cfg"')
        config.get("text_cfg", {}).pop("tokenizer_kwargs", None)  # they could name any file of this machine
        return _open(config, prepared, weights, placement, model)
    config = open_clip.get_model_config(model)
    if config is None:
        raise _unsupported(model, f"open_clip does not know it and no {CONFIG} lies beside its weights")
    tagged = open_clip.get_pretrained_cfg(model, tag.removesuffix(".safetensors"))
    config["quick_gelu"] = bool(tagged.get("quick_gelu", config.get("quick_gelu", False)))
    prepared = {key: tagged[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tagged}
    return _open(config, prepared, weights, placement, model)


def _open(
    config: dict[str, Any], prepared: dict[str, Any], weights: Path, placement: Placement, model: str = "the starter"
) -> TorchEmbedder:
    header = check_file(weights)
    _check_values(weights, header)
    _check_config(model, config)
    with tempfile.TemporaryDirectory() as scratch:  # open_clip reads configurations from files alone
        (Path(scratch) / CONFIG).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": prepared}), "utf-8")
        (Path(scratch) / "open_clip_model.safetensors").symlink_to(weights.resolve())
        place = f"local-dir:{scratch}"
        _check_size(model, place, header)
        network = open_clip.create_model(place, device=placement.device).to(placement.dtype)
        words = _text_tower(network.eval(), place, config, placement)
    return TorchEmbedder(network.encode_image, like_open_clip(network.visual.preprocess_cfg), placement, words)


def _text_tower(model: Any, place: str, config: Mapping[str, Any], placement: Placement) -> TextTower | None:
    """Returns the text tower, or None where its tokenizer would have to be fetched."""
    if not _reads(config):
        return None
    tokenizer = open_clip.get_tokenizer(place)

    def encode(texts: list[str]) -> torch.Tensor:
        features: torch.Tensor = model.encode_text(tokenizer(texts).to(placement.device))
        return features

    return TextTower(encode, lambda text: len(tokenizer.encode(text)) + 2, tokenizer.context_length)


def _reads(config: Mapping[str, Any]) -> bool:
    """Says whether a model's own tokenizer is at hand: others are another library's, which would fetch them."""
    words = config.get("text_cfg")
    return isinstance(words, dict) and not words.get("hf_tokenizer_name")


def _check_values(weights: Path, header: Header) -> None:
    for name, entry in header.tensors.items():
        if entry.dtype not in FLOATS and not (entry.dtype in COUNTERS and len(entry.shape) < 3):
            raise FailedPrecondition(
                f"expected weights as {', '.join(sorted(FLOATS))} in {weights.name}, found {entry.dtype} in "
                f"{name[:80]!r}; save the model in half or single precision",
                reason="EMBEDDER_DTYPE",
            )


def _check_config(model: str, config: Mapping[str, Any]) -> None:
    vision, words = config.get("vision_cfg"), config.get("text_cfg")
    if not isinstance(vision, dict) or not isinstance(words, dict) or not isinstance(config.get("embed_dim"), int):
        raise _unsupported(model, 'its configuration lacks "embed_dim", "vision_cfg" or "text_cfg"')
    if words.get("hf_model_name"):
        raise _unsupported(model, "its text tower is one that another library would fetch")
    tower = vision.get("timm_model_name")
    if tower is not None and (not isinstance(tower, str) or ":" in tower or "/" in tower):
        raise _unsupported(model, f"its image tower {str(tower)[:80]!r} would be fetched")


def _check_size(model: str, place: str, header: Header) -> None:
    """Builds the model without memory, so that a configuration larger than its weights costs nothing."""
    with torch.device("meta"):
        empty = open_clip.create_model(place, load_weights=False, device="meta")
    needed = sum(value.numel() for value in empty.state_dict().values())
    held = sum(entry.parameters for entry in header.tensors.values())
    if needed > held + SLACK:
        raise _unsupported(model, f"its configuration asks for {needed} values and its weights hold {held}")


def _unsupported(model: str, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"expected a model konomi can open from its files alone, but of {model!r} {why}; choose another embedder",
        reason="EMBEDDER_UNSUPPORTED",
    )


def like_open_clip(config: Mapping[str, Any]) -> Preparation:
    """Returns the preparation open_clip's own evaluation transform makes."""
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    way = "bicubic" if config["interpolation"] in ("bicubic", "random") else config["interpolation"]
    if config["resize_mode"] not in ("shortest", "squash") or (height != width and config["resize_mode"] == "shortest"):
        raise ValueError(f"resize mode {config['resize_mode']} to {height} x {width}")
    return Preparation(
        ResizeRule(min(height, width), width, height, config["resize_mode"] == "squash", way),
        config["mean"],
        config["std"],
    )
