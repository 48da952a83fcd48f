"""Pixels to PNG bytes with their texts, and pixels to another size."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from konomi_generator.sampling import Annealing

SCHEMA = "konomi.image/1"
SAMPLERS = {
    "DDIMScheduler": "DDIM",
    "DDPMScheduler": "DDPM",
    "DEISMultistepScheduler": "DEIS",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "DPMSolverSinglestepScheduler": "DPM++ 2S",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "EulerDiscreteScheduler": "Euler",
    "HeunDiscreteScheduler": "Heun",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "KDPM2DiscreteScheduler": "DPM2",
    "LCMScheduler": "LCM",
    "LMSDiscreteScheduler": "LMS",
    "PNDMScheduler": "PLMS",
    "TCDScheduler": "TCD",
    "UniPCMultistepScheduler": "UniPC",
}
"""A1111's names of diffusers' schedulers."""
FLOW_SAMPLERS = {"FlowMatchEulerDiscreteScheduler": "Euler"}
"""Likewise of those that follow a flow."""
SCHEDULE_TYPES = {
    "leading": "DDIM",
    "trailing": "SGM Uniform",
    "linspace": "Uniform",
    "ays": "Align Your Steps",
}
"""A1111's names of how timesteps are spaced."""
KARRAS = "Karras"
NO_EMPHASIS, EMPHASIS = "None", "Original"
"""A1111's names of whether brackets in prompts are text or weights."""
ALWAYS = frozenset({"Sampler", "Model hash", "Model"})
"""Pairs that are there even where they are empty."""
ZERO_TERMINAL_SNR = "Zero Terminal SNR"
"""A1111's name of a noise schedule that ends without any signal."""
DRAFT, LIKE = "Draft", "Image prompt"
"""konomi's own pairs: what made a draft, and the images a picture was to look like."""
FAMILY, SHIFT = "Model family", "Shift"
"""What follows a flow says so: konomi's own pair, and Forge's name of how far its noise is shifted."""


@dataclass(frozen=True)
class ImagePromptRecord:
    """Images that a picture was to look like: their digests, the strength, the IP-Adapter's sha256, the encoder's."""

    digests: Sequence[str]
    scale: float
    adapter: str
    encoder: str


@dataclass(frozen=True)
class GenerationRecord:
    """How one image was made; every field goes into the PNG, so none may depend on when or where it was made.

    What it says of spacing, clip skip and syntax is what was in use, or empty where the bundled model's own was.
    `imported` is what other programs can load too: its infotext says all that they need for the same picture.
    A `draft` says the digest and strength of its `few_step` adapter, where it has one; what was drawn again in full
    says the digest of its draft. The `family` of a base model that follows a flow, and the `shift` of its noise where
    that is one number; empty and 0 for the others.
    """

    prompt: str
    negative_prompt: str
    seed: int
    width: int
    height: int
    steps: int
    guidance_scale: float
    scheduler: str
    base_model: str
    base_digest: str
    adapters: Sequence[tuple[str, float]]
    unit: str
    night: str
    parents: Sequence[str]
    strength: float | None
    guide_from_base: bool = False
    base_share: float = 0.0
    annealing: Annealing | None = None
    precision: str = "fp32"
    backend: str = "diffusers"
    fallbacks: Sequence[str] = ()
    zero_terminal_snr: bool = False
    guidance_rescale: float = 0.0
    timestep_spacing: str = ""
    karras_sigmas: bool = False
    clip_skip: int = 1
    prompt_syntax: str = "plain"
    imported: bool = False
    draft: bool = False
    few_step: tuple[str, float] | None = None
    draft_digest: str = ""
    image_prompt: ImagePromptRecord | None = None
    family: str = ""
    shift: float = 0.0

    @property
    def schedule_type(self) -> str:
        """A1111's name of how the steps lie along the noise; empty where there is none to say."""
        return KARRAS if self.karras_sigmas else SCHEDULE_TYPES.get(self.timestep_spacing, "")

    @property
    def emphasis(self) -> str:
        """A1111's name of how brackets were read, where its own way does not say it; else empty."""
        if self.imported:
            return NO_EMPHASIS if self.prompt_syntax == "plain" else ""
        return EMPHASIS if self.prompt_syntax == "weighted" else ""


def konomi_record(record: GenerationRecord) -> str:
    """Returns the JSON of the iTXt chunk `konomi`: sorted keys, so equal records are equal bytes."""
    fields: dict[str, Any] = {
        "schema": SCHEMA,
        "prompt": record.prompt,
        "negative_prompt": record.negative_prompt,
        "seed": record.seed,
        "width": record.width,
        "height": record.height,
        "steps": record.steps,
        "guidance_scale": record.guidance_scale,
        "scheduler": record.scheduler,
        "base_model": record.base_model,
        "base_digest": record.base_digest,
        "adapters": [{"digest": digest, "scale": scale} for digest, scale in record.adapters],
        "unit": record.unit,
        "night": record.night,
        "parents": list(record.parents),
    }
    if record.strength is not None:  # which may be 0
        fields["strength"] = record.strength
    fields |= {name: value for name, value in _special(record).items() if value not in (None, "", 0, False)}
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _special(record: GenerationRecord) -> dict[str, Any]:
    """Returns what a record says only where it is not as usual; None, empty, 0 and false are as usual."""
    return {
        "base_share": record.base_share,
        "condition_annealing": asdict(record.annealing) if record.annealing is not None else None,
        "guide_from_base": record.guide_from_base,
        "precision": "" if record.precision == "fp32" else record.precision,
        "backend": "" if record.backend == "diffusers" else record.backend,
        "concessions": list(record.fallbacks) or None,
        "noise_schedule": ZERO_TERMINAL_SNR if record.zero_terminal_snr else "",
        "guidance_rescale": record.guidance_rescale,
        "timestep_spacing": record.timestep_spacing,
        "karras_sigmas": record.karras_sigmas,
        "clip_skip": record.clip_skip if record.clip_skip > 1 else 0,
        "prompt_syntax": "" if record.prompt_syntax == "plain" else record.prompt_syntax,
        "draft": record.draft,
        "few_step": {"digest": record.few_step[0], "scale": record.few_step[1]} if record.few_step else None,
        "draft_digest": record.draft_digest,
        "image_prompt": asdict(record.image_prompt) if record.image_prompt is not None else None,
        "family": record.family,
        "shift": record.shift,
    }


def infotext(record: GenerationRecord) -> str:
    """Returns A1111's text: the prompt, the negative prompt, one line of `Name: value` pairs."""
    pairs: dict[str, object] = {
        "Steps": record.steps,
        "Sampler": (SAMPLERS | FLOW_SAMPLERS).get(record.scheduler, record.scheduler),
        "Schedule type": record.schedule_type,
        "CFG scale": _number(record.guidance_scale, record),
        "Seed": record.seed,
        "Size": f"{record.width}x{record.height}",
        "Model hash": record.base_digest[:10],
        "Model": record.base_model,
        FAMILY: record.family,
        SHIFT: _number(record.shift, record) if record.shift else "",
        "Denoising strength": _number(record.strength, record) if record.strength is not None else "",
        "Clip skip": record.clip_skip if record.clip_skip > 1 else "",
        "RNG": "CPU" if record.imported and record.backend == "diffusers" else "",
        "Emphasis": record.emphasis,
        "Noise Schedule": ZERO_TERMINAL_SNR if record.zero_terminal_snr else "",
        "CFG Rescale": _number(record.guidance_rescale, record) if record.guidance_rescale else "",
    }
    hashes = {"model": record.base_digest[:10]}
    if record.draft:
        pairs[DRAFT] = record.few_step[0][:12] if record.few_step else record.base_digest[:12]
    if record.image_prompt is not None:
        pairs[LIKE] = ", ".join(digest[:12] for digest in record.image_prompt.digests)
    adapters = [*record.adapters, *((record.few_step,) if record.few_step else ())]
    if adapters:
        pairs["Lora hashes"] = ", ".join(f"{digest[:12]}: {digest[:12]}" for digest, _ in adapters)
        hashes |= {f"lora:{digest[:12]}": digest[:12] for digest, _ in adapters}
    pairs["Hashes"] = json.dumps(hashes)
    lines = [record.prompt]
    if record.negative_prompt:
        lines.append(f"Negative prompt: {record.negative_prompt}")
    kept = {name: str(value) for name, value in pairs.items() if value != "" or name in ALWAYS}
    lines.append(", ".join(f"{name}: {_quote(value)}" for name, value in kept.items()))
    return "\n".join(lines)


def _number(value: float, record: GenerationRecord) -> str:
    """Returns a number in six digits, or in all it has where another reader is to draw the same picture."""
    short = f"{value:g}"
    return repr(value) if record.imported and float(short) != value else short


def _quote(value: str) -> str:
    """Quotes as JSON what would end a value early."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',:\n"') else value


def encode(pixels: np.ndarray, record: GenerationRecord) -> bytes:
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
