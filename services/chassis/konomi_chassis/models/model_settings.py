"""How a base model draws, drafts and learns where nobody says otherwise: `HOME/models/<id>.toml`, the owner's to edit.

It is written at import. What it leaves out comes from what the model says of itself: its noise schedule, and whether
its name says that it was distilled to a few steps without guidance. Turbo: Sauer et al. 2023 (2311.17042). Lightning:
Lin et al. 2024 (2402.13929). Hyper-SD: Ren et al. 2024 (2404.13686). LCM: Luo et al. 2023 (2310.04378). DMD2: Yin et
al. 2024 (2405.14867).
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydantic

from konomi.errors import FailedPrecondition
from konomi_chassis.models.noise_schedule import GUIDANCE_RESCALE, NoiseSchedule

Spacing = Literal["", "leading", "trailing", "linspace", "ays"]
"""Which timesteps are drawn at; empty is the model's own choice, ays Align Your Steps (2404.14507)."""
Syntax = Literal["plain", "weighted"]
"""Whether a prompt is one text of at most 77 tokens, or has emphasis, BREAK and any length (see prompt_weights)."""
TABLES = ("drawing", "training", "draft", "image_prompt", "parts")
"""What a model's file may hold."""
Settings = TypeVar("Settings", bound=pydantic.BaseModel)
STEP_COUNT = re.compile(r"(?<![0-9])([1-9]|1[0-6])[-_ ]?steps?(?![a-z])")


class DrawingSettings(pydantic.BaseModel, frozen=True, extra="forbid"):
    """What a request for images leaves open.

    Attributes:
        steps: denoising steps.
        guidance_scale: classifier-free guidance; 1 is none.
        guidance_rescale: how far the guided answer gets the spread of the prompt's own (2305.08891, section 3.4).
        scheduler: diffusers class name; empty for the model's own.
        timestep_spacing: empty for the model's own.
        karras_sigmas: noise levels as Karras et al. 2022 (2206.00364, eq. 5) space them.
        clip_skip: which layer of the text encoder counts, from the end, 1 is the last; XL reads its last but one.
        prompt_syntax: how prompts and captions are read.
    """

    steps: int = pydantic.Field(25, ge=1, le=200)
    guidance_scale: float = pydantic.Field(7.0, ge=0, le=30)
    guidance_rescale: float = pydantic.Field(0.0, ge=0, le=1)
    scheduler: str = pydantic.Field("", max_length=64)
    timestep_spacing: Spacing = ""
    karras_sigmas: bool = False
    clip_skip: int = pydantic.Field(1, ge=1, le=12)
    prompt_syntax: Syntax = "weighted"


class TrainingSettings(pydantic.BaseModel, frozen=True, extra="forbid"):
    """What a training run leaves open; 0 and "auto" leave it to the method and the machine.

    Attributes:
        precision: of the frozen weights.
        learning_rate: of the adapter.
        batch_size: images that go through the network together.
        gradient_accumulation: batches a step adds up.
        gradient_checkpointing: activations are made twice, which takes less memory and more time.
    """

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    learning_rate: float = pydantic.Field(0.0, ge=0, le=1)
    batch_size: int = pydantic.Field(0, ge=0, le=256)
    gradient_accumulation: int = pydantic.Field(0, ge=0, le=1024)
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"


FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$"


class DraftSettings(pydantic.BaseModel, frozen=True, extra="forbid"):
    """How a model draws drafts; empty and 0 leave it to the adapter's name.

    Attributes:
        adapter: file of a few-step adapter in the home's models/few_step; empty for the usual one of the layout.
        scale: its strength.
        steps, guidance_scale, scheduler, timestep_spacing: as in DrawingSettings.
    """

    adapter: str = pydantic.Field("", pattern=f"^$|{FILE_NAME}")
    scale: float = pydantic.Field(1.0, gt=0, le=2)
    steps: int = pydantic.Field(0, ge=0, le=16)
    guidance_scale: float = pydantic.Field(0.0, ge=0, le=30)
    scheduler: str = pydantic.Field("", max_length=64)
    timestep_spacing: Spacing = ""


class LikenessSettings(pydantic.BaseModel, frozen=True, extra="forbid"):
    """How a model takes images as prompts.

    Attributes:
        adapter: file of an IP-Adapter in the home's models/ip_adapter; empty for the usual one of the layout.
        image_encoder: folder of its image encoder beside it.
        scale: its strength where a request says nothing.
    """

    adapter: str = pydantic.Field("", pattern=f"^$|{FILE_NAME}")
    image_encoder: str = pydantic.Field("image_encoder", pattern=FILE_NAME)
    scale: float = pydantic.Field(0.6, ge=0, le=1)


class PartsSettings(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Where a single file that holds a transformer alone takes its other parts from.

    Attributes:
        folder: id of a base model that is a diffusers folder of its family; empty for the only one that fits.
    """

    folder: str = pydantic.Field("", pattern=r"^$|^[a-z0-9][a-z0-9._-]{0,63}$")


@dataclass(frozen=True)
class ModelSettings:
    """All tables of a model's file.

    Attributes:
        drawing, training, draft, image_prompt, parts: the tables.
        in_file: names the file itself says, for example "drawing.steps"; the others were derived.
    """

    drawing: DrawingSettings = field(default_factory=DrawingSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    draft: DraftSettings = field(default_factory=DraftSettings)
    image_prompt: LikenessSettings = field(default_factory=LikenessSettings)
    parts: PartsSettings = field(default_factory=PartsSettings)
    in_file: frozenset[str] = field(default=frozenset(), compare=False)


STARTER_SETTINGS = ModelSettings(DrawingSettings(steps=8, guidance_scale=4.0, prompt_syntax="plain"))
"""Of the bundled model, whose pictures stay what they were to the bit."""
DISTILLED: Sequence[tuple[str, DrawingSettings]] = tuple(
    (mark, DrawingSettings(steps=4, guidance_scale=1.0, scheduler=scheduler, timestep_spacing=spacing))
    for mark, scheduler, spacing in (
        ("lightning", "EulerDiscreteScheduler", "trailing"),
        ("turbo", "EulerAncestralDiscreteScheduler", "trailing"),
        (r"hyper[-_ ]?sd|hyper(?=.*steps?)", "DDIMScheduler", "trailing"),
        (r"(?<![a-z])lcm(?![a-z])", "LCMScheduler", ""),
        (r"(?<![a-z])dmd2?(?![a-z])", "LCMScheduler", ""),
    )
)
"""What a model's name says, as a pattern, and how such a model draws; the first that fits counts."""


def settings_of_names(
    names: Sequence[str],
    schedule: NoiseSchedule,
    usual: DrawingSettings | None = None,
    few_step: DrawingSettings | None = None,
) -> ModelSettings:
    """Returns how a model draws and learns by what it says of itself.

    Args:
        names: its id, the name of its file, its title.
        schedule: of its noise.
        usual: how a model of its family draws that does not say; None as Stable Diffusion.
        few_step: how one draws that was distilled; None as what it was distilled with wants.
    """
    drawing = few_step_drawing(" ".join(names), few_step)
    if drawing is None:
        drawing = few_step if few_step and schedule.few_steps else usual or DrawingSettings()
    if schedule.zero_terminal_snr:
        changes: dict[str, Any] = {"timestep_spacing": "trailing"}
        if drawing.guidance_scale > 1:
            changes["guidance_rescale"] = GUIDANCE_RESCALE
        drawing = drawing.model_copy(update=changes)
    return ModelSettings(drawing)


def few_step_drawing(name: str, of_family: DrawingSettings | None = None) -> DrawingSettings | None:
    """Returns how what was distilled to a few steps draws, by its name; None where the name does not say so.

    Args:
        name: what it is called.
        of_family: how distilled models of its family draw, whatever they were distilled with; None where that decides.
    """
    words = name.lower()
    drawing = next((of_family or settings for mark, settings in DISTILLED if re.search(mark, words)), None)
    count = STEP_COUNT.search(words)
    return drawing.model_copy(update={"steps": int(count[1])}) if drawing and count else drawing


def read_settings(path: Path, derived: ModelSettings) -> ModelSettings:
    """Returns the settings of a model's file; what it leaves out, or all without a file, is as derived.

    Raises:
        FailedPrecondition: it is no TOML, has a name nobody knows or a value out of bounds (reason MODEL_SETTINGS).
    """
    try:
        table = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        return derived
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise _refused(path, f"cannot be read: {error}") from error
    strange = sorted(set(table) - set(TABLES))
    if strange:
        expected = ", ".join(f"[{name}]" for name in TABLES)
        raise _refused(path, f"has {strange[0][:40]!r} where one of {expected} was expected")
    drawing = _checked(path, "drawing", derived.drawing, table)
    training = _checked(path, "training", derived.training, table)
    draft = _checked(path, "draft", derived.draft, table)
    image_prompt = _checked(path, "image_prompt", derived.image_prompt, table)
    parts = _checked(path, "parts", derived.parts, table)
    names = frozenset(f"{name}.{key}" for name in TABLES for key in table.get(name, {}))
    return ModelSettings(drawing, training, draft, image_prompt, parts, names)


def written(settings: ModelSettings) -> str:
    """Returns the settings as the TOML of a model's file, with what every line means."""
    return "\n".join(
        [
            "# How this base model draws and learns where a request or a night says nothing. Yours to change.",
            "# A line that is taken out goes back to what konomi read from the model itself.",
            "",
            "[drawing]",
            *_lines(settings.drawing, NOTES),
            "",
            "[training]",
            *_lines(settings.training, NOTES),
            "",
            "[draft]",
            *_lines(settings.draft, NOTES | DRAFT_NOTES),
            "",
            "[image_prompt]",
            *_lines(settings.image_prompt, LIKENESS_NOTES),
            "",
            *(["[parts]", *_lines(settings.parts, PARTS_NOTES), ""] if settings.parts.folder else []),
        ]
    )


NOTES = {
    "steps": "denoising steps",
    "guidance_scale": "classifier-free guidance; 1 is none",
    "guidance_rescale": "0 to 1; 0.7 for models of zero terminal SNR",
    "scheduler": 'diffusers name, as "DPMSolverMultistepScheduler"; "" is the model\'s own',
    "timestep_spacing": '"leading", "trailing", "linspace" or "ays"; "" is the model\'s own',
    "karras_sigmas": "noise levels spaced as Karras et al. do",
    "clip_skip": "layer of the text encoder, from the end; 2 for many anime models of Stable Diffusion 1.5",
    "prompt_syntax": '"weighted" reads (word:1.3), [word], BREAK and prompts of any length; "plain" does not',
    "precision": '"bf16", "fp16" or "fp32"; "auto" is the best this machine computes in',
    "learning_rate": "0 is the method's own",
    "batch_size": "0 is the method's own",
    "gradient_accumulation": "0 is the method's own",
    "gradient_checkpointing": '"on" takes less memory and more time; "auto" where the card is small',
}

DRAFT_NOTES = {
    "adapter": 'few-step LoRA in models/few_step: "NAME.safetensors"; "" is the usual one of the layout',
    "scale": "its strength",
    "steps": "0 is as the adapter's name says",
    "guidance_scale": "0 is as the adapter's name says",
    "scheduler": '"" is as the adapter\'s name says',
    "timestep_spacing": '"" is as the adapter\'s name says',
}
LIKENESS_NOTES = {
    "adapter": 'IP-Adapter in models/ip_adapter: "NAME.safetensors"; "" is the usual one of the layout',
    "image_encoder": "folder of its image encoder, beside it",
    "scale": "its strength, 0 to 1",
}

PARTS_NOTES = {"folder": "base model whose text encoders, autoencoder and configuration it uses"}


def _lines(settings: pydantic.BaseModel, notes: dict[str, str]) -> list[str]:
    return [f"{name} = {_literal(value)}  # {notes[name]}" for name, value in settings.model_dump().items()]


def _literal(value: str | bool | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def _checked(path: Path, name: str, derived: Settings, table: dict[str, Any]) -> Settings:
    """Returns one half of the file over what was derived."""
    given = table.get(name, {})
    if not isinstance(given, dict):
        raise _refused(path, f"has a value {name!r} where the table [{name}] was expected")
    try:
        return type(derived).model_validate(derived.model_dump() | given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join([name, *map(str, first["loc"])])
        raise _refused(path, f"has {place} = {str(first['input'])[:40]!r}: {first['msg'].lower()}") from error


def _refused(path: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"The settings {path.name} in the home's folder of models {why}. Put it right, or remove the file.",
        reason="MODEL_SETTINGS",
    )
