"""The pipelines of the generator: loaded as every service loads them, with a scheduler by name."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.memory_shortage import is_shortage
from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.loading import knows_zero_snr, load_pipeline
from konomi_chassis.models.safetensors_check import check_file
from konomi_generator.png import SAMPLERS

__all__ = ["has_zero_terminal_snr", "load_pipeline", "load_preview_decoder", "make_scheduler"]

TINY = {"sd1": "sd", "sd2": "sd", "sdxl": "sdxl"}
"""Which tiny autoencoder knows a layout's latents."""
DIVIDE_BY_SIGNAL = frozenset({"DDIMScheduler", "DDPMScheduler", "LCMScheduler", "TCDScheduler"})
"""Schedulers that divide by the share of signal, which is zero at the last step of some schedules."""


def make_scheduler(pipe: Any, name: str) -> Any:
    """Returns a fresh scheduler: the model's own kind, or the named one with the model's noise schedule.

    Raises:
        InvalidArgument: no such scheduler, or one that cannot begin where this model's schedule does.
    """
    kind = type(pipe.scheduler)
    if name:
        if name not in SAMPLERS:
            raise InvalidArgument(
                f"One of {', '.join(sorted(SAMPLERS))} was expected; {name[:64]!r} came.",
                reason="SCHEDULER",
                field="scheduler",
            )
        kind = getattr(diffusers, name)
    _check_end(pipe.scheduler.config, kind)
    # PLMS alone, as Stable Diffusion was published; its Runge-Kutta start needs a dozen steps of its own
    changes = {"skip_prk_steps": True} if kind is diffusers.PNDMScheduler else {}
    return kind.from_config(pipe.scheduler.config, **changes)


def has_zero_terminal_snr(scheduler: Any) -> bool:
    """Says whether a scheduler's noise schedule ends without any signal."""
    return bool(scheduler.config.get("rescale_betas_zero_snr"))


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
    file = models / "tiny_vae" / f"{TINY[model.layout]}.safetensors"
    if not file.is_file():
        raise FailedPrecondition(
            f"Previews of {model.id} need a tiny autoencoder, which this home has not: run `konomi models fetch "
            f"tiny-vae-{TINY[model.layout]}`, or leave preview_every at 0.",
            reason="PREVIEW_DECODER_MISSING",
        )
    check_file(file, f"The tiny autoencoder {file.name}")
    vae = diffusers.AutoencoderTiny()
    try:
        missing = vae.load_state_dict(load_file(file), strict=False).missing_keys
    except RuntimeError as error:  # weights of other shapes
        if is_shortage(error):
            raise
        raise _broken_decoder(file, "holds weights of another autoencoder") from error
    if missing:
        raise _broken_decoder(file, f"lacks {len(missing)} weights")
    return vae.to(device, pipe.unet.dtype).eval().requires_grad_(False)


def _broken_decoder(file: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(f"The tiny autoencoder {file.name} {why}; fetch it again.", reason="MODEL_BROKEN")
