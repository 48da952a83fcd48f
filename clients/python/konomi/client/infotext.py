"""Infotexts as A1111's web UI writes them, and konomi into its PNGs: read into what draws the same picture again.

A text is the prompt, the negative prompt, and a line of `Name: value` pairs. What it says of a picture is a `Infotext`,
whose `request` asks a generator for it. Pairs that change a picture in ways konomi does not draw are refused by name.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from konomi.errors import InvalidArgument
from konomi.i18n.catalogue import text
from konomi.v1 import generator_pb2 as generator

STARTER = "starter"
NEGATIVE = "Negative prompt:"
LAST_LINE = re.compile(r"Steps: *\d")
NAME = re.compile(r"\s*([^\W_][\w /+-]*?)\s*:\s*")
SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")
"""How prompts of A1111's web UI ask for adapters; no part of the words."""
SAMPLERS: Mapping[str, str] = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "deis": "DEISMultistepScheduler",
    "dpm++ 2m": "DPMSolverMultistepScheduler",
    "dpm++ 2s": "DPMSolverSinglestepScheduler",
    "dpm2": "KDPM2DiscreteScheduler",
    "dpm2 a": "KDPM2AncestralDiscreteScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lcm": "LCMScheduler",
    "lms": "LMSDiscreteScheduler",
    "plms": "PNDMScheduler",
    "tcd": "TCDScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""diffusers' names of A1111's samplers, in small letters."""
KARRAS, AUTOMATIC = "karras", "automatic"
KARRAS_BY_ITSELF = frozenset({"dpm++ 2m", "dpm2", "dpm2 a"})
"""Samplers for which the schedule type Automatic means Karras."""
SPACINGS: Mapping[str, str] = {
    "align your steps": "ays",
    "ddim": "leading",
    "normal": "linspace",
    "sgm uniform": "trailing",
    "simple": "trailing",
    "uniform": "linspace",
}
"""konomi's names of A1111's schedule types, in small letters."""
SYNTAXES: Mapping[str, str] = {"none": "plain", "original": "weighted"}
DRAFT, LIKE = "Draft", "Image prompt"
"""konomi's own pairs: what made a draft, and the images a picture was to look like."""
NOT_DRAWN = ("Hires ", "Refiner", "ControlNet", "ADetailer", "Variation seed", "Tiling", "Mask ", "Conditional mask")
"""How names begin of pairs that change a picture in ways konomi does not draw."""


@dataclass(frozen=True)
class Infotext:
    """What an infotext says of a picture; 0, empty and None are what it does not say.

    Attributes:
        prompt, negative_prompt: without the marks of adapters.
        seed: of the picture.
        steps: denoising steps.
        guidance_scale, guidance_rescale: of the guidance.
        width, height: pixels.
        scheduler: by its diffusers name.
        timestep_spacing, karras_sigmas: how steps lie along the noise.
        clip_skip: which layer of the text encoder counts, from the end.
        prompt_syntax: "weighted" or "plain".
        base_model: what the text calls the model.
        strength: of image to image.
        adapters: names or digests of those it was drawn with, as they stand there.
        draft: whether konomi drew it as a draft, whose few-step adapter is the model's own.
        like: beginnings of the digests of images it was to look like.
        pairs: all pairs of the last line.
    """

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance_scale: float | None = None
    guidance_rescale: float = 0.0
    width: int = 0
    height: int = 0
    scheduler: str = ""
    timestep_spacing: str = ""
    karras_sigmas: bool | None = None
    clip_skip: int = 1
    prompt_syntax: str = ""
    base_model: str = ""
    strength: float | None = None
    adapters: tuple[str, ...] = ()
    draft: bool = False
    like: tuple[str, ...] = ()
    pairs: Mapping[str, str] = field(default_factory=dict)

    def request(
        self,
        base_model: str = "",
        adapters: Sequence[generator.Adapter] = (),
        init_digest: str = "",
        image_prompt: generator.ImagePrompt | None = None,
    ) -> generator.GenerateImagesRequest:
        """Returns the request for the picture.

        Args:
            base_model: id of the base model; what the text calls it where none is given.
            adapters: those it was drawn with, whose digests and strengths no infotext says.
            init_digest: the picture it started from, where it was image to image.
            image_prompt: the images it was to look like, and how strongly, where there were some.

        Raises:
            InvalidArgument: it was drawn with one of these, and it was not given (reason INFOTEXT).
        """
        self._check_given(adapters, init_digest, image_prompt)
        image = generator.ImageRequest(
            prompt=self.prompt, seed=self.seed, init_digest=init_digest, strength=self.strength if init_digest else None
        )
        return generator.GenerateImagesRequest(
            base_model=base_model or self.base_model,
            images=[image],
            adapters=adapters,
            negative_prompt=self.negative_prompt,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            guidance_rescale=self.guidance_rescale,
            width=self.width,
            height=self.height,
            scheduler=self.scheduler,
            timestep_spacing=self.timestep_spacing,
            karras_sigmas=self.karras_sigmas,
            clip_skip=self.clip_skip,
            prompt_syntax=self.prompt_syntax,
            draft=self.draft,
            image_prompt=image_prompt,
        )

    def _check_given(
        self, adapters: Sequence[generator.Adapter], init_digest: str, image_prompt: generator.ImagePrompt | None
    ) -> None:
        """Raises InvalidArgument where what no infotext says was needed and not given."""
        if self.adapters and not adapters:
            names = ", ".join(self.adapters)
            raise _refused("adapters", text("the picture was drawn with adapters, so give them: {names}", names=names))
        if self.strength is not None and not init_digest:
            raise _refused("init_digest", text("the picture started from another one; give that one's digest"))
        if self.like and image_prompt is None:
            raise _refused("image_prompt", text("the picture was drawn to be like others; give their digests"))


def parse_infotext(infotext: str) -> Infotext:
    """Returns what an infotext says of its picture.

    Raises:
        InvalidArgument: it is none, a number in it is none, or it names what konomi does not draw (reason INFOTEXT;
            the field is the pair's name).
    """
    prompt, negative, pairs = _parts(infotext)
    strange = next((name for name in pairs if name.startswith(NOT_DRAWN)), None)
    if strange is not None:
        raise _refused(strange, text("konomi does not draw what {name} in the infotext asks for", name=strange))
    sampler, spacing, karras = _sampling(pairs)
    width, height = _size(pairs)
    model, emphasis = pairs.get("Model", ""), pairs.get("Emphasis", "").lower()
    if emphasis and emphasis not in SYNTAXES:
        raise _refused("Emphasis", text("konomi does not draw what {name} in the infotext asks for", name="Emphasis"))
    rescale = _number(pairs, "CFG Rescale")
    return Infotext(
        prompt=_words(prompt),
        negative_prompt=_words(negative),
        seed=_whole(pairs, "Seed"),
        steps=_whole(pairs, "Steps"),
        guidance_scale=_number(pairs, "CFG scale"),
        guidance_rescale=0.0 if rescale is None else rescale,
        width=width,
        height=height,
        scheduler=SAMPLERS[sampler] if sampler else "",
        timestep_spacing=spacing,
        karras_sigmas=karras,
        clip_skip=_whole(pairs, "Clip skip") if "Clip skip" in pairs else 1,
        prompt_syntax=SYNTAXES[emphasis or "original"] if emphasis or model != STARTER else "",
        base_model=model,
        strength=_number(pairs, "Denoising strength"),
        adapters=tuple(name for name in _adapters(f"{prompt} {negative}", pairs) if name != pairs.get(DRAFT)),
        draft=DRAFT in pairs,
        like=tuple(name.strip() for name in pairs.get(LIKE, "").split(",") if name.strip()),
        pairs=pairs,
    )


def _parts(infotext: str) -> tuple[str, str, dict[str, str]]:
    """Returns prompt, negative prompt and the pairs of the last line that begins as such a line does."""
    lines = infotext.replace("\r\n", "\n").split("\n")
    last = next((number for number in reversed(range(len(lines))) if LAST_LINE.match(lines[number])), None)
    if last is None:
        raise _refused("", text("expected an infotext with a line that begins with Steps, got none"))
    negative = next((number for number in range(last) if lines[number].startswith(NEGATIVE)), last)
    rest = "\n".join(lines[negative:last]).removeprefix(NEGATIVE).removeprefix(" ")
    return "\n".join(lines[:negative]), rest, dict(_pairs(lines[last]))


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """Yields names and values; a value with commas stands in quotation marks, as JSON."""
    decoder, position = json.JSONDecoder(), 0
    while position < len(line):
        name = NAME.match(line, position)
        end = position
        if name is not None:
            end = name.end()
            value = None
            if line.startswith('"', end):
                try:
                    value, end = decoder.raw_decode(line, end)
                except ValueError:
                    value = None
            comma = line.find(",", end)
            yield name[1], line[name.end() : comma if comma >= 0 else None].strip() if value is None else str(value)
        comma = line.find(",", end)
        position = comma + 1 if comma >= 0 else len(line)


def _sampling(pairs: Mapping[str, str]) -> tuple[str, str, bool | None]:
    """Returns the sampler in small letters, the spacing, and whether noise levels are Karras' (None: not said)."""
    sampler, kind = pairs.get("Sampler", "").strip().lower(), pairs.get("Schedule type", "").strip().lower()
    if sampler.endswith(f" {KARRAS}"):
        sampler, kind = sampler.removesuffix(f" {KARRAS}"), kind or KARRAS
    if sampler and sampler not in SAMPLERS:
        value, names = pairs["Sampler"], ", ".join(SAMPLERS)
        message = text("expected one of {names} as Sampler in the infotext, got {value}", names=names, value=value)
        raise _refused("Sampler", message)
    if not kind or kind == AUTOMATIC:
        return sampler, "", True if kind and sampler in KARRAS_BY_ITSELF else None
    if kind != KARRAS and kind not in SPACINGS:
        value, names = pairs["Schedule type"], ", ".join([AUTOMATIC, KARRAS, *SPACINGS])
        message = text(
            "expected one of {names} as Schedule type in the infotext, got {value}", names=names, value=value
        )
        raise _refused("Schedule type", message)
    return sampler, SPACINGS.get(kind, ""), kind == KARRAS


def _size(pairs: Mapping[str, str]) -> tuple[int, int]:
    """Returns width and height, 0 where they are not said."""
    size = SIZE.fullmatch(pairs.get("Size", ""))
    if "Size" in pairs and size is None:
        raise _refused(
            "Size", text("expected width x height as Size in the infotext, got {value}", value=pairs["Size"])
        )
    return (int(size[1]), int(size[2])) if size else (0, 0)


def _adapters(prompts: str, pairs: Mapping[str, str]) -> Iterator[str]:
    """Yields the adapters that prompts and hashes name, each once."""
    marked = [mark[1:-1].split(":")[1] for mark in NETWORK.findall(prompts)]
    hashed = [entry.partition(":")[0].strip() for entry in pairs.get("Lora hashes", "").split(",")]
    yield from dict.fromkeys(name for name in (*marked, *hashed) if name)


def _words(prompt: str) -> str:
    """Returns a prompt on one line, without the marks of adapters."""
    return NETWORK.sub("", prompt).replace("\n", " ")


def _whole(pairs: Mapping[str, str], name: str) -> int:
    value = pairs.get(name, "").strip()
    if not re.fullmatch(r"-?\d{1,19}", value) or not -(2**63) <= int(value) < 2**63:
        message = text("expected a whole number as {name} in the infotext, got {value}", name=name, value=value or "-")
        raise _refused(name, message)
    return int(value)


def _number(pairs: Mapping[str, str], name: str) -> float | None:
    """Returns a number; None where there is no such pair."""
    if name not in pairs:
        return None
    try:
        value = float(pairs[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        message = text("expected a number as {name} in the infotext, got {value}", name=name, value=pairs[name])
        raise _refused(name, message)
    return value


def _refused(name: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, reason="INFOTEXT", field=name or "infotext")
