"""Views of a concept's images at several scales, with the words that say so and the area that is real.

Kumari et al. 2023 (2212.04488), section 3.2: without it image alignment falls from .775 to .736.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

SMALLEST, LARGEST, VIEWS = 0.4, 1.4, 16
FAR_BELOW, FAR, NEAR = 0.6, ("far away", "very small"), ("zoomed in", "close up")


@dataclass(frozen=True)
class Framing:
    """How an image is seen: scale, place of the frame 0..1, mirrored or not, and the words added to its caption."""

    scale: float = 1.0
    across: float = 0.5
    down: float = 0.5
    mirrored: bool = False
    words: str = ""


def framings(digest: str, count: int = VIEWS) -> list[Framing]:
    """Returns the framings of an image, the same on every machine; scales are spread evenly from .4 to 1.4.

    Args:
        digest: sha256 of the image; it is the seed.
        count: how many.
    """
    rng = np.random.default_rng(int(digest[:16], 16))
    found = []
    for index in range(count):
        scale = SMALLEST + (LARGEST - SMALLEST) * (index + rng.random()) / count
        words = FAR if scale < FAR_BELOW else NEAR if scale > 1 else ("", "")
        place = rng.random(3)
        found.append(Framing(float(scale), place[0], place[1], bool(place[2] < 0.5), words[index % 2]))
    return found


def see(pixels: torch.Tensor, framing: Framing, cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns an image in a framing and the cells of its latent that are wholly real.

    Args:
        pixels: (3, S, S) float32 in -1..1.
        framing: how to see it.
        cells: h = w of the latent, a divisor of S.

    Returns:
        (3, S, S) float32, grey where there is no image; (1, h, w) float32 of ones and zeros.
    """
    side = pixels.shape[-1]
    image = pixels.flip(-1) if framing.mirrored else pixels
    if framing.scale == 1:
        return image.contiguous(), torch.ones(1, cells, cells)
    size, cell = max(side // cells, round(side * framing.scale)), side // cells
    image = functional.interpolate(image[None], (size, size), mode="bicubic", antialias=True, align_corners=False)[0]
    image = image.clamp(-1, 1)
    if size >= side:
        top, left = int(framing.down * (size - side)), int(framing.across * (size - side))
        return image[:, top : top + side, left : left + side].contiguous(), torch.ones(1, cells, cells)
    top, left = (int(place * (side - size) / cell) * cell for place in (framing.down, framing.across))
    canvas, real = torch.zeros_like(pixels), torch.zeros(1, side, side)
    canvas[:, top : top + size, left : left + size] = image
    real[:, top : top + size, left : left + size] = 1
    return canvas, 1 - functional.max_pool2d(1 - real[None], cell)[0]


def described(caption: str, words: str) -> str:
    """Returns a caption with the words of a framing."""
    return f"{caption}, {words}" if words and caption else caption or words
