"""What is asked of a back end: images, the settings they share, the adapters on the model."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """Settings all images of a request share.

    Attributes:
        steps: denoising steps.
        guidance_scale: classifier-free guidance; 1 is none.
        width, height: pixels.
        scheduler: diffusers class name; empty for the model's own.
        negative_prompt: what to keep away from.
        batch_size: most images denoised together; 0 lets the back end choose.
        guide_from_base: the unconditional branch runs without the adapters.
    """

    steps: int
    guidance_scale: float
    width: int
    height: int
    scheduler: str = ""
    negative_prompt: str = ""
    batch_size: int = 0
    guide_from_base: bool = False


@dataclass(frozen=True)
class Wanted:
    """One image to make.

    Attributes:
        index: position in the request.
        prompt: text after wildcards.
        seed: of this image alone.
        strength: share of the steps run, for image to image.
        init: returns the pixels to start from, (height, width, 3) uint8; None for text to image.
    """

    index: int
    prompt: str
    seed: int
    strength: float = 1.0
    init: Callable[[], np.ndarray] | None = None


@dataclass(frozen=True)
class AdapterFile:
    """One adapter: digest of its artifact, its checked bytes, its strength."""

    digest: str
    data: bytes
    scale: float
