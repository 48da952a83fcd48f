"""What stands beside a base model and makes it quicker or lets it look: few-step adapters and IP-Adapters in a home.

A few-step adapter is a LoRA that was distilled to draw in 4 to 8 steps: LCM-LoRA (Luo et al. 2023, 2311.05556),
SDXL-Lightning (Lin et al. 2024, 2402.13929), Hyper-SD (Ren et al. 2024, 2404.13686), DMD2 (Yin et al. 2024,
2405.14867). An IP-Adapter (Ye et al. 2023, 2308.06721) lets a model take images as prompts, read by a CLIP image
encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from konomi.errors import FailedPrecondition
from konomi_chassis.models.families.family import CompanionNames
from konomi_chassis.models.families.table import find
from konomi_chassis.models.model_settings import DrawingSettings, ModelSettings, few_step_drawing
from konomi_chassis.models.safetensors_check import check_file, unsafe

FEW_STEP, IP_ADAPTER = "few_step", "ip_adapter"
"""Folders among the home's models."""
ENDING = ".safetensors"
MOST_STEPS = 8
"""Steps up to which a base model of its own guidance is one of few steps."""


@dataclass(frozen=True)
class FewStepFile:
    """A few-step adapter's file, and how a model draws with it."""

    path: Path
    drawing: DrawingSettings


@dataclass(frozen=True)
class Draft:
    """How a model draws drafts.

    Attributes:
        drawing: its settings.
        path, digest, scale: of the few-step adapter; none, "" and 1 where the model itself is one of few steps.
    """

    drawing: DrawingSettings
    path: Path | None = None
    digest: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class LikenessAdapter:
    """An IP-Adapter's file and its image encoder's folder, each with the sha256 of its weights."""

    path: Path
    digest: str
    encoder: Path
    encoder_digest: str

    @property
    def weights(self) -> Path:
        """The weights of the image encoder."""
        return self.encoder / "model.safetensors"

    @property
    def size_bytes(self) -> int:
        """Size of both on disk."""
        return self.path.stat().st_size + self.weights.stat().st_size


def is_few_step(settings: ModelSettings) -> bool:
    """Says whether a model was distilled to a few steps without guidance."""
    return settings.drawing.steps <= MOST_STEPS and settings.drawing.guidance_scale <= 1


def few_step_file(models: Path, id: str, kind: tuple[str, str, bool], settings: ModelSettings) -> FewStepFile:
    """Returns the few-step adapter of a base model, checked.

    Args:
        models: folder of the home's models.
        id: of the base model.
        kind: its layout, prediction type, and whether its noise ends without any signal.
        settings: of the base model.

    Raises:
        FailedPrecondition: it is not there (DRAFT_ADAPTER_MISSING), its name does not say how it draws and neither do
            the settings (MODEL_SETTINGS), or it is no safetensors (UNSAFE_FORMAT).
    """
    layout, prediction, zero_snr = kind
    asked = settings.draft
    plain, beside = prediction == "epsilon" and not zero_snr, _beside(layout)
    names = (asked.adapter,) if asked.adapter else tuple(beside.few_step) if plain else ()
    path = _first(models / FEW_STEP, names)
    if path is None:
        brings = plain and beside.fetched
        fetched = f" `konomi models fetch lcm-lora-{beside.fetched}` brings one;" if brings else ""
        raise FailedPrecondition(
            f"Drafts of {id} need a few-step adapter, which this home has not:{fetched} or put an LCM, Lightning, "
            f"Hyper or DMD2 LoRA for it into models/{FEW_STEP} of the home and name it in models/{id}.toml, as adapter "
            f"under [draft]{_missing(names)}.",
            reason="DRAFT_ADAPTER_MISSING",
        )
    usual = few_step_drawing(path.stem)
    if usual is None and not (asked.scheduler and asked.steps):
        raise FailedPrecondition(
            f"The name of the few-step adapter {path.name} says neither LCM, Lightning, Turbo, Hyper nor DMD2, so "
            f"scheduler and steps were expected under [draft] in models/{id}.toml of the home.",
            reason="MODEL_SETTINGS",
        )
    return FewStepFile(path, _drafting(settings, usual or DrawingSettings(guidance_scale=1.0)))


def _drafting(settings: ModelSettings, usual: DrawingSettings) -> DrawingSettings:
    """Returns how drafts are drawn: the [draft] table, then the adapter's ways, and the model's own reading."""
    asked, own = settings.draft, settings.drawing
    guidance = asked.guidance_scale or usual.guidance_scale
    return DrawingSettings(
        steps=asked.steps or usual.steps,
        guidance_scale=guidance,
        guidance_rescale=own.guidance_rescale if guidance > 1 else 0.0,
        scheduler=asked.scheduler or usual.scheduler,
        timestep_spacing=asked.timestep_spacing or usual.timestep_spacing,
        clip_skip=own.clip_skip,
        prompt_syntax=own.prompt_syntax,
    )


def image_prompt_files(models: Path, id: str, layout: str, settings: ModelSettings) -> tuple[Path, Path]:
    """Returns the IP-Adapter of a base model and the folder of its image encoder, both checked.

    Args:
        models: folder of the home's models.
        id: of the base model.
        layout: of the base model.
        settings: of the base model.

    Raises:
        FailedPrecondition: one is not there (IMAGE_PROMPT_ADAPTER_MISSING) or no safetensors (UNSAFE_FORMAT).
    """
    asked, beside = settings.image_prompt, _beside(layout)
    names = (asked.adapter,) if asked.adapter else tuple(beside.ip_adapter)
    path = _first(models / IP_ADAPTER, names)
    encoder = models / IP_ADAPTER / asked.image_encoder
    weights = encoder / "model.safetensors"
    if not weights.is_file() and (encoder / "pytorch_model.bin").is_file():
        unsafe(f"The image encoder {encoder.name}/pytorch_model.bin", "it is a pickle; put model.safetensors there")
    if path is None or not weights.is_file() or not (encoder / "config.json").is_file():
        fetched = f" `konomi models fetch ip-adapter-{beside.fetched}` brings both;" if beside.fetched else ""
        lacking = _missing(names) if path is None else f"; {encoder.name}/config.json or model.safetensors is missing"
        raise FailedPrecondition(
            f"Images as prompts for {id} need an IP-Adapter and its image encoder, which this home has not:{fetched} "
            f"or put the adapter's safetensors and the folder {asked.image_encoder} into models/{IP_ADAPTER} of the "
            f"home and name them in models/{id}.toml under [image_prompt]{lacking}.",
            reason="IMAGE_PROMPT_ADAPTER_MISSING",
        )
    check_file(weights, f"The image encoder {encoder.name}/{weights.name}")
    return path, encoder


def _beside(layout: str) -> CompanionNames:
    """Returns what usually stands beside models of a layout; nothing where another program holds the model."""
    family = find(layout)
    return CompanionNames() if family is None else family.beside


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    """Returns the first of some files that is there, checked; a pickle in its place is refused by its name."""
    for name in names:
        path = folder / name
        if not name.endswith(ENDING):
            unsafe(f"The file {name[:80]}", "only .safetensors files stand beside a base model")
        if path.is_file():
            check_file(path, f"The file {folder.name}/{name}")
            return path
    for name in names:
        pickled = (folder / name).with_suffix(".bin")
        if pickled.is_file():
            unsafe(f"The file {folder.name}/{pickled.name}", f"it is a pickle; put {name} there")
    return None


def _missing(names: Sequence[str]) -> str:
    return f"; looked for {', '.join(names)}" if names else ""
