"""The dual encoder that compares captions and images for retrieval: an open_clip model of the home."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torchvision.transforms.functional import to_pil_image

from konomi.errors import FailedPrecondition
from konomi_chassis.memory_shortage import is_shortage

BATCH = 64


class OpenClipTowers:
    """An open_clip model; its weights are safetensors."""

    def __init__(self, model: Any, preprocess: Any, tokenize: Any) -> None:
        """Takes the parts open_clip makes."""
        self._model, self._preprocess, self._tokenize = model.eval(), preprocess, tokenize

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """N texts → (N, D) float32, unit length."""
        parts = [
            self._model.encode_text(self._tokenize(list(texts[i : i + BATCH])), normalize=True)
            for i in range(0, len(texts), BATCH)
        ]
        return _rows(parts)

    @torch.inference_mode()
    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """N images (H, W, 3) uint8 → (N, D) float32, unit length."""
        parts = []
        for start in range(0, len(images), BATCH):
            pixels = [self._preprocess(to_pil_image(image)) for image in images[start : start + BATCH]]
            parts.append(self._model.encode_image(torch.stack(pixels), normalize=True))
        return _rows(parts)


def load(models: Path, name: str) -> OpenClipTowers:
    """Loads "starter", or "open_clip:NAME/FILE" with a .safetensors file in the home's models folder.

    Args:
        models: the home's models folder.
        name: what to load.

    Raises:
        FailedPrecondition: the files are missing or do not fit.
    """
    kind, _, rest = name.partition(":")
    model, _, file = rest.partition("/")
    try:
        if name == "starter":
            return _starter(models / "starter" / "embedder")
        if kind != "open_clip" or not file.endswith(".safetensors") or "/" in file:
            raise ValueError("expected starter or open_clip:NAME/FILE.safetensors")
        return _open(model, models / file)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        if is_shortage(error):
            raise
        raise FailedPrecondition(
            f"expected the embedder {name!r} to compare captions with; it cannot be loaded ({str(error)[:120]}): "
            'install it, for the starter with "python -m konomi_starter install", or set [trainer] embedder',
            reason="EMBEDDER_MISSING",
        ) from error


def _open(name: str, weights: Path | None) -> OpenClipTowers:
    if weights is not None and not weights.is_file():
        raise FileNotFoundError(f"there is no {weights.name} in the models folder")
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=str(weights) if weights else None)
    return OpenClipTowers(model, preprocess, open_clip.get_tokenizer(name))


def _starter(folder: Path) -> OpenClipTowers:
    config = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    config = config.get("model_cfg", config)
    config["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": str(folder / "bpe.txt.gz")}
    with tempfile.TemporaryDirectory() as scratch:  # open_clip reads the tokenizer's path from its configuration file
        written = json.dumps({"model_cfg": config, "preprocess_cfg": {}})
        (Path(scratch) / "open_clip_config.json").write_text(written, encoding="utf-8")
        (Path(scratch) / "open_clip_model.safetensors").symlink_to((folder / "model.safetensors").resolve())
        return _open(f"local-dir:{scratch}", None)


def _rows(parts: Sequence[torch.Tensor]) -> np.ndarray:
    embeddings: np.ndarray = torch.cat(list(parts)).float().cpu().numpy()
    return np.ascontiguousarray(embeddings)
