"""Hidden layers of a vision-language model as an embedder: what it thinks of a picture before it says a word.

A model of transformers in a folder, `models/vlm/FOLDER`, is shown the picture alone; the hidden states of its language
model at one layer, averaged over the tokens that stand for the picture, are the vector. It is the one file of the rater
that imports transformers, at the first use of such an embedder. Nothing is fetched and no code of the folder is run.
"""

from pathlib import Path
from typing import Any

import torch

from konomi.errors import FailedPrecondition
from konomi_chassis.models.safetensors_check import check_file
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.tower import Preparation, ResizeRule, TorchEmbedder

CONFIG = "config.json"
SIDE = 336
"""Pixels of a picture's side where the folder's image processor does not say one; of a model that takes any."""
LOCAL = {"local_files_only": True, "trust_remote_code": False}


class PictureTokens(torch.nn.Module):
    """Maps pictures (N, H, W, 3) uint8 to (N, D), the mean of the picture's tokens at one layer.

    Args:
        model: of transformers, that takes pictures and words.
        processor: what makes its inputs.
        layer: 0 is what the language model is given, 1 what its first block makes of it, and so on.
    """

    def __init__(self, model: Any, processor: Any, layer: int) -> None:
        super().__init__()
        self.model, self.processor, self.layer = model, processor, layer
        self.token = picture_token(model.config, processor)
        self.words = _words(processor)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns the vectors; the caller brings them to unit length."""
        pictures = list(pixels.permute(0, 3, 1, 2))
        inputs = self.processor(images=pictures, text=[self.words] * len(pictures), return_tensors="pt")
        inputs = inputs.to(device=self.model.device, dtype=self.model.dtype)  # whole numbers stay whole
        states = self.model(**inputs, output_hidden_states=True, use_cache=False).hidden_states[self.layer]
        shown = (inputs["input_ids"] == self.token).to(states.device, torch.float32)
        return (states.float() * shown[..., None]).sum(dim=1) / shown.sum(dim=1, keepdim=True)


class VisionLanguageEmbedder(TorchEmbedder):
    """A vision-language model as an embedder; its own processor normalises the pixels, so they reach it as bytes."""

    def _on_device(self, pixels: torch.Tensor, rows: int) -> torch.Tensor:
        """Returns (rows or N, H, W, 3) uint8, black pictures behind those that came."""
        if rows > len(pixels):
            pixels = torch.cat([pixels, pixels.new_zeros((rows - len(pixels), *pixels.shape[1:]))])
        return pixels.to(self._placement.device)


def open_folder(folder: Path, layer: int, placement: Placement) -> VisionLanguageEmbedder:
    """Returns the embedder that a folder and a layer name.

    Args:
        folder: a model as transformers saves it, with its processor; weights as safetensors.
        layer: from 0 to the number of the language model's blocks.
        placement: where it runs.

    Raises:
        FailedPrecondition: transformers is not installed (EXTRA_MISSING), weights are unsafe (UNSAFE_FORMAT), the
            model takes no pictures or has no such layer (EMBEDDER_UNSUPPORTED).
        OSError, ValueError, RuntimeError: files are missing or do not fit each other.
    """
    transformers, able = _transformers()
    for path in sorted(folder.glob("*.safetensors")):
        check_file(path)
    config = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
    count = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if type(config) not in able:
        raise _unsupported(f"{config.model_type!r} of {folder.name} takes no pictures with words")
    if layer > count:
        raise _unsupported(f"{folder.name} has the layers 0 to {count}, and {layer} was asked for")
    processor = transformers.AutoProcessor.from_pretrained(folder, **LOCAL)
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        folder, use_safetensors=True, dtype=placement.dtype, **LOCAL
    )
    side = _side(processor.image_processor)
    fit = Preparation(ResizeRule(side, side, side, squash=True), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    network = PictureTokens(model.eval().to(placement.device), processor, layer)
    return VisionLanguageEmbedder(network, fit, placement, None)


def picture_token(config: Any, processor: Any) -> int:
    """Returns the number of the token that stands for a part of a picture.

    Raises:
        FailedPrecondition: neither the configuration nor the processor says it (EMBEDDER_UNSUPPORTED).
    """
    found = (getattr(config, name, None) for name in ("image_token_id", "image_token_index"))
    token = next((one for one in (*found, getattr(processor, "image_token_id", None)) if one is not None), None)
    if token is None:
        raise _unsupported("the model does not say which of its tokens stand for a picture")
    return int(token)


def _words(processor: Any) -> str:
    """Returns the prompt that shows a picture and asks nothing: the model's own way to, where it has one."""
    if getattr(processor, "chat_template", None):
        shown = [{"role": "user", "content": [{"type": "image"}]}]
        return str(processor.apply_chat_template(shown, add_generation_prompt=True))
    return str(processor.image_token)


def _side(image_processor: Any) -> int:
    """Returns the side of the square a picture is brought to: what the processor crops or resizes to, else SIDE."""
    for name in ("crop_size", "size"):
        size = getattr(image_processor, name, None)
        sides = [getattr(size, key, None) for key in ("height", "width", "shortest_edge")] if size is not None else []
        if isinstance(size, dict):
            sides = [size.get(key) for key in ("height", "width", "shortest_edge")]
        known = [int(side) for side in sides if side]
        if known and max(known) <= 4 * SIDE:  # some say the most pixels they would take
            return max(known)
    return SIDE


def _transformers() -> tuple[Any, Any]:
    """Returns the library, and which configurations it makes models of that take pictures with words."""
    try:
        import transformers
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as ABLE
    except ImportError as error:
        raise FailedPrecondition(
            "expected transformers to be installed for a vision-language embedder, found none; install it: "
            "pip install 'konomi[vlm]'",
            reason="EXTRA_MISSING",
        ) from error
    return transformers, ABLE


def _unsupported(why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"expected a vision-language model whose layers konomi can read, but {why}; choose another layer or folder",
        reason="EMBEDDER_UNSUPPORTED",
    )
