"""What is asked of a back end: images, the settings they share, the adapters on the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from konomi.errors import KonomiError
from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.companions import LikenessAdapter
from konomi_chassis.models.families.quantization import NONE
from konomi_chassis.models.model_settings import Syntax

TILED, FULL_PRECISION = "tiled_decoding", "fp32_decoding"
CHANGES_IMAGE = frozenset({TILED, FULL_PRECISION})
"""Concessions an image's own record names; with the others it has the same bits."""


@dataclass(frozen=True)
class Annealing:
    """How far and how long noise stands in for the prompt (CADS, see condition_annealing.py).

    Attributes:
        clean_below: noise time, 1 at the start of sampling and 0 at its end, below which the condition is itself.
        noise_above: noise time above which nothing of it is left.
        noise_scale: spread of the noise.
        rescaled_share: how much of the condition gets its own mean and spread back.
    """

    clean_below: float = 0.6
    noise_above: float = 0.9
    noise_scale: float = 0.1
    rescaled_share: float = 1.0


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """Images that the pictures of a request are to look like.

    Attributes:
        adapter: the IP-Adapter and its image encoder.
        digests: of the images.
        scale: strength, 0..1.
        images: returns their pixels, (height, width, 3) uint8 each, in this order.
    """

    adapter: LikenessAdapter
    digests: tuple[str, ...]
    scale: float
    images: Callable[[], Sequence[np.ndarray]]


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
        base_share: share of the steps, from the first, that run without the adapters.
        annealing: noise on the condition early on; None for none.
        preview_every: steps between two previews of an image; 0 for none.
        guidance_rescale: how far the guided answer gets the spread of the prompt's own, 0..1; 0 is not at all.
        timestep_spacing: "leading", "trailing", "linspace" or "ays"; empty for the model's own.
        karras_sigmas: noise levels spaced as Karras et al. 2022 do.
        clip_skip: which layer of the text encoder counts, from the end, 1 is the last.
        prompt_syntax: "plain" or "weighted", see konomi_chassis.models.prompt_weights.
        image_prompt: images that count beside the words; None for none.
        defaults: names of those of these that nobody asked for; what a back end cannot do of them it leaves out.
    """

    steps: int
    guidance_scale: float
    width: int
    height: int
    scheduler: str = ""
    negative_prompt: str = ""
    batch_size: int = 0
    guide_from_base: bool = False
    base_share: float = 0.0
    annealing: Annealing | None = None
    preview_every: int = 0
    guidance_rescale: float = 0.0
    timestep_spacing: str = ""
    karras_sigmas: bool = False
    clip_skip: int = 1
    prompt_syntax: Syntax = "plain"
    image_prompt: ImagePrompt | None = None
    defaults: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ImageRequest:
    """One image to make, its prompt filled in.

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


@dataclass(frozen=True, eq=False)
class GeneratedImage:
    """One finished image.

    Attributes:
        pixels: (H, W, 3) uint8.
        fallbacks: what was given up to make it; empty when nothing was.
    """

    pixels: np.ndarray
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Preview:
    """An image on its way: steps done, and what it promises to be, (h, w, 3) uint8."""

    step: int
    pixels: np.ndarray


@dataclass(frozen=True)
class Prepared:
    """What will make the images of a request.

    Attributes:
        scheduler: its diffusers name.
        precision: number format of the weights; empty where another program knows.
        backend: "diffusers", or the other program's kind.
        zero_terminal_snr: whether the noise schedule in use ends without any signal.
        timestep_spacing: of the timesteps in use; empty where the scheduler knows one way alone, or Karras' is in use.
        karras_sigmas: whether the noise levels are spaced as Karras et al. do.
        shift: of a flow's noise, where it is one number; else 0.
    """

    scheduler: str
    precision: str = "fp32"
    backend: str = "diffusers"
    zero_terminal_snr: bool = False
    timestep_spacing: str = ""
    karras_sigmas: bool = False
    shift: float = 0.0


@dataclass(frozen=True)
class DeviceMemory:
    """Where models run, for what a night takes of it.

    Attributes:
        device: its kind: "cpu", "cuda", "mps".
        size: its memory, bytes; the computer's for a CPU.
        weight_bytes: of one weight.
        images_together: images of the model's own size that are denoised at once.
        quantization: in how many bits a flow transformer's weights lie.
    """

    device: str
    size: int
    weight_bytes: int
    images_together: int
    quantization: str = NONE


Result = GeneratedImage | Preview | KonomiError


Deliver = Callable[[int, Result], None]
"""Takes an image's position and the image, a preview of it, or why there is none; from any thread."""


class Backend(Protocol):
    """What makes pixels; see the rooms backends.diffusers and backends.webui."""

    def prepare(
        self, model: BaseModel, adapters: Sequence[AdapterFile], sampling: Sampling, images: int = 1
    ) -> Prepared:
        """Gets a model with adapters ready for so many images; raises where it cannot do what the settings say."""

    def run(
        self,
        model: BaseModel,
        images: Sequence[ImageRequest],
        sampling: Sampling,
        stopped: Callable[[], bool],
        deliver: Deliver,
    ) -> None:
        """Makes images; delivers each, from any thread."""

    def device_memory(self, model: BaseModel) -> DeviceMemory | None:
        """Returns where a model runs; None where another program runs it."""

    def release(self) -> int:
        """Gives back the memory of what `prepare` got ready; returns the bytes, 0 where there was nothing."""
