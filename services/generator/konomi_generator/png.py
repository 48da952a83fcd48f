"""Pixels to PNG bytes with their texts, and pixels to another size."""

import io

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from konomi_generator.metadata import Record, infotext, konomi_record


def encode(pixels: np.ndarray, record: Record) -> bytes:
    """Returns a PNG of (H, W, 3) uint8 pixels that carries its record; equal inputs give equal bytes."""
    texts = PngInfo()
    texts.add_text("parameters", infotext(record))
    texts.add_itxt("konomi", konomi_record(record))
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(buffer, "PNG", pnginfo=texts)
    return buffer.getvalue()


def plain(pixels: np.ndarray) -> bytes:
    """Returns a PNG of (H, W, 3) uint8 pixels that carries nothing else."""
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(buffer, "PNG")
    return buffer.getvalue()


def fit(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns the pixels at (height, width), cropped around the middle to the new shape, resampled by Lanczos."""
    have_height, have_width = pixels.shape[:2]
    if (have_width, have_height) == (width, height):
        return pixels
    scale = min(have_width / width, have_height / height)
    crop_width, crop_height = width * scale, height * scale
    left, top = (have_width - crop_width) / 2, (have_height - crop_height) / 2
    box = (left, top, left + crop_width, top + crop_height)
    return np.asarray(Image.fromarray(pixels, "RGB").resize((width, height), Image.Resampling.LANCZOS, box=box))
