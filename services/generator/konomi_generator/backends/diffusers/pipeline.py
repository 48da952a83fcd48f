"""The pipelines of the generator: loaded as every service loads them, with a scheduler by name and its steps."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.schedulers import AysSchedules
from safetensors.torch import load_file

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.memory_shortage import is_shortage
from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.families.family import NoisePath
from konomi_chassis.models.families.table import of_pipeline
from konomi_chassis.models.loading import knows_zero_snr, load_pipeline
from konomi_chassis.models.safetensors_check import check_file
from konomi_generator.backends.diffusers.align_your_steps import noise_levels, timesteps_at
from konomi_generator.png import SAMPLERS
from konomi_generator.sampling import Sampling

__all__ = ["Schedule", "load_pipeline", "load_preview_decoder", "make_schedule", "make_scheduler"]

DIVIDE_BY_SIGNAL = frozenset({"DDIMScheduler", "DDPMScheduler", "LCMScheduler", "TCDScheduler"})
"""Schedulers that divide by the share of signal, which is zero at the last step of some schedules."""
ALIGNED = "ays"
ALIGNABLE = (
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
)
"""Schedulers that take steps from outside."""
FROM_THE_END = ("linspace", "trailing")
"""Spacings whose first step is the schedule's last, all noise."""
EULER = "EulerDiscreteScheduler"
"""What infotexts name by "Euler", which along a flow is the flow's own."""
KARRAS = "use_karras_sigmas"
LEVELS = (KARRAS, "use_exponential_sigmas", "use_beta_sigmas")
"""How a model's own configuration may space noise levels; at most one of them."""


@dataclass(frozen=True)
class Schedule:
    """A scheduler, and how its steps lie along the noise.

    Attributes:
        scheduler: of diffusers, with no timesteps yet.
        path: the noise it works with.
        aligned: the noise levels of ten steps (see align_your_steps) that stand in place of a spacing; none for others.
    """

    scheduler: Any
    path: NoisePath
    aligned: tuple[float, ...] = ()

    @property
    def karras(self) -> bool:
        """Says whether its noise levels are spaced as Karras et al. do."""
        return bool(self.scheduler.config.get(KARRAS)) and _takes(type(self.scheduler), KARRAS)

    @property
    def spacing(self) -> str:
        """The spacing of its timesteps; empty where it knows one way alone, or its noise levels are spaced."""
        if self.aligned:
            return ALIGNED
        if not _takes(type(self.scheduler), "timestep_spacing") or any(map(self.scheduler.config.get, LEVELS)):
            return ""
        return str(self.scheduler.config.timestep_spacing)

    @property
    def zero_terminal_snr(self) -> bool:
        """Says whether its noise ends without any signal."""
        return bool(self.scheduler.config.get("rescale_betas_zero_snr"))

    @property
    def shift(self) -> float:
        """How far the noise of a flow is shifted, whatever the size of an image; 0 where that is no one number."""
        config = self.scheduler.config
        return 0.0 if "shift" not in config or config.get("use_dynamic_shifting") else float(config.shift)

    def begin(self, steps: int, device: torch.device, cells: int = 0) -> Any:
        """Returns the scheduler with the timesteps of so many steps, for latents of so many cells."""
        if not self.aligned:
            self.path.timesteps(self.scheduler, steps, device, cells)
            return self.scheduler
        levels = noise_levels(self.aligned, steps)
        if isinstance(self.scheduler, diffusers.EulerDiscreteScheduler):
            self.scheduler.set_timesteps(sigmas=levels, device=device)
        else:
            signal = self.scheduler.alphas_cumprod.double().cpu().numpy()
            trained = ((1 - signal) / signal) ** 0.5
            self.scheduler.set_timesteps(timesteps=timesteps_at(levels, trained), device=device)
        return self.scheduler


def make_schedule(pipe: Any, sampling: Sampling) -> Schedule:
    """Returns what draws as the settings say; of what the model's settings alone ask for, what the scheduler can do.

    Karras' levels run over the whole of the model's schedule, as in A1111's web UI, whatever its spacing leaves out;
    a model whose own configuration has them keeps its own.

    Raises:
        InvalidArgument: no such scheduler, or one that cannot space its steps so (reason SCHEDULER).
        FailedPrecondition: the scheduler that the model's settings name cannot draw with it (reason MODEL_SETTINGS).
    """
    plain = _named(pipe, sampling)
    kind, family = type(plain), of_pipeline(pipe)
    path = family.path(plain)
    karras = _is_kept(sampling, "karras_sigmas", kind, _takers(KARRAS))
    spacing = sampling.timestep_spacing
    if spacing and not _reaches_the_end(spacing, plain, sampling):
        spacing = ""
    able = ALIGNABLE if spacing == ALIGNED else _takers("timestep_spacing")
    if not (spacing and _is_kept(sampling, "timestep_spacing", kind, able)):
        spacing = ""
    changes: dict[str, Any] = {}
    if karras or spacing == ALIGNED or (spacing and "timestep_spacing" not in sampling.defaults):
        changes = {name: karras and name == KARRAS for name in LEVELS if _takes(kind, name)}
    elif "karras_sigmas" not in sampling.defaults and _takes(kind, KARRAS):
        changes = {KARRAS: False}
    ends = "linspace" if karras and not Schedule(plain, path).karras else "trailing" if spacing == ALIGNED else spacing
    if ends and _takes(kind, "timestep_spacing"):
        changes["timestep_spacing"] = ends
    scheduler = kind.from_config(plain.config, **changes) if changes else plain
    aligned = tuple(AysSchedules[family.defaults.aligned_steps]) if spacing == ALIGNED else ()
    return Schedule(scheduler, family.path(scheduler), aligned)


def make_scheduler(pipe: Any, name: str) -> Any:
    """Returns a fresh scheduler: the model's own kind, or the named one with the model's noise schedule.

    Raises:
        InvalidArgument: no such scheduler, or one that cannot begin where this model's schedule does.
    """
    kind = type(pipe.scheduler)
    if name:
        flows = of_pipeline(pipe).noise == "flow"
        able = (kind.__name__,) if flows else SAMPLERS
        if flows and name == EULER:
            name = kind.__name__
        if name not in able:
            raise InvalidArgument(
                f"One of {', '.join(sorted(able))} was expected; {name[:64]!r} came.",
                reason="SCHEDULER",
                field="scheduler",
            )
        kind = getattr(diffusers, name)
    _check_end(pipe.scheduler.config, kind)
    # PLMS alone, as Stable Diffusion was published; its Runge-Kutta start needs a dozen steps of its own
    changes = {"skip_prk_steps": True} if kind is diffusers.PNDMScheduler else {}
    return kind.from_config(pipe.scheduler.config, **changes)


def _check_end(config: Any, kind: Any) -> None:
    """Refuses a scheduler that would draw with another noise schedule than the model was trained with."""
    if not config.get("rescale_betas_zero_snr"):
        return
    able = [name for name in SAMPLERS if knows_zero_snr(getattr(diffusers, name))]
    if config.get("prediction_type") == "epsilon":  # which says nothing of a picture that is all noise
        able = [name for name in able if name not in DIVIDE_BY_SIGNAL]
    if kind.__name__ not in able:
        raise InvalidArgument(
            f"The base model was trained with zero terminal SNR; one of {', '.join(sorted(able))} was expected; "
            f"{kind.__name__} came.",
            reason="SCHEDULER",
            field="scheduler",
        )


def _named(pipe: Any, sampling: Sampling) -> Any:
    """Returns the scheduler of the settings; one that only the model's settings name is refused as theirs."""
    try:
        return make_scheduler(pipe, sampling.scheduler)
    except InvalidArgument as error:
        if not sampling.scheduler or "scheduler" not in sampling.defaults:
            raise
        raise FailedPrecondition(
            f"The base model's settings name the scheduler {sampling.scheduler!r}. {error.message} Put it right in the "
            "model's file in the home's folder of models, or ask for another scheduler.",
            reason="MODEL_SETTINGS",
        ) from error


def _is_kept(sampling: Sampling, field: str, kind: Any, able: Sequence[str]) -> bool:
    """Says whether a setting is there and the scheduler can do it; refuses one that was asked for and cannot be."""
    if not getattr(sampling, field) or kind.__name__ in able:
        return bool(getattr(sampling, field))
    if field in sampling.defaults:
        return False
    asked = f"timestep_spacing {sampling.timestep_spacing}" if field == "timestep_spacing" else field
    raise InvalidArgument(
        f"For {asked} one of {', '.join(sorted(able))} was expected; {kind.__name__} came.",
        reason="SCHEDULER",
        field=field,
    )


def _reaches_the_end(spacing: str, scheduler: Any, sampling: Sampling) -> bool:
    """Says whether a spacing begins where the schedule ends, if it must; refuses one asked for that does not."""
    if spacing in FROM_THE_END or not scheduler.config.get("rescale_betas_zero_snr"):
        return True
    if "timestep_spacing" in sampling.defaults:
        return False
    raise InvalidArgument(
        f"The base model was trained with zero terminal SNR; one of {', '.join(FROM_THE_END)} was expected; "
        f"{spacing} came.",
        reason="SCHEDULER",
        field="timestep_spacing",
    )


def _takers(name: str) -> list[str]:
    """Returns the schedulers that know a setting."""
    return [kind for kind in SAMPLERS if _takes(getattr(diffusers, kind), name)]


def _takes(kind: Any, name: str) -> bool:
    return name in _parameters(kind.__init__)


@cache
def _parameters(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def load_preview_decoder(pipe: Any, model: BaseModel, models: Path, device: torch.device) -> Any:
    """Returns the autoencoder that makes previews: the model's own where it is tiny, else HOME/models/tiny_vae/….

    Args:
        pipe: the loaded pipeline.
        model: what it was loaded from.
        models: folder of the home's models.
        device: where it shall run.

    Raises:
        FailedPrecondition: there is none; `konomi models fetch` brings one.
    """
    if isinstance(pipe.vae, diffusers.AutoencoderTiny):
        return pipe.vae
    family = of_pipeline(pipe)
    if not family.beside.tiny_vae:
        raise FailedPrecondition(
            f"Previews need a tiny autoencoder, of which none is known for {model.id} ({family.name}): leave "
            "preview_every at 0.",
            reason="PREVIEW_DECODER_MISSING",
        )
    file = models / "tiny_vae" / f"{family.beside.tiny_vae}.safetensors"
    if not file.is_file():
        raise FailedPrecondition(
            f"Previews of {model.id} need a tiny autoencoder, which this home has not: run `konomi models fetch "
            f"tiny-vae-{family.beside.tiny_vae}`, or leave preview_every at 0.",
            reason="PREVIEW_DECODER_MISSING",
        )
    check_file(file, f"The tiny autoencoder {file.name}")
    vae = diffusers.AutoencoderTiny(latent_channels=family.channels(pipe))
    try:
        missing = vae.load_state_dict(load_file(file), strict=False).missing_keys
    except RuntimeError as error:  # weights of other shapes
        if is_shortage(error):
            raise
        raise _broken_decoder(file, "holds weights of another autoencoder") from error
    if missing:
        raise _broken_decoder(file, f"lacks {len(missing)} weights")
    return vae.to(device, getattr(pipe, family.network).dtype).eval().requires_grad_(False)


def _broken_decoder(file: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(f"The tiny autoencoder {file.name} {why}; fetch it again.", reason="MODEL_BROKEN")
