"""Pictures through the embedder a rater opens offline, `timm:tf_efficientnet_lite0`, early layers included."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from konomi.errors import FailedPrecondition
from konomi_rater.embedding import packaged
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.registry import Embedders

SIDE = 224


def embed(pictures: list[Image.Image]) -> np.ndarray:
    """Returns unit rows (N, D) float32; ImportError where the weights' package is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            embedder = Embedders(Path(folder), Placement(device="cpu", threads=1, batch=16)).open(packaged.NAME)
        except FailedPrecondition as error:
            raise ImportError(error.message) from error
        pixels = [np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for picture in pictures]
        return np.concatenate([embedder.embed(pixels[i : i + 64], keep=False) for i in range(0, len(pixels), 64)])
