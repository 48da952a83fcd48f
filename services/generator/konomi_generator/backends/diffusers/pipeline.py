"""The pipelines of the generator: loaded as every service loads them, with a scheduler by name."""

from pathlib import Path
from typing import Any

import diffusers
from safetensors.torch import load_file

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.loading import load_pipeline
from konomi_chassis.models.safetensors_check import check_file
from konomi_generator.png import SAMPLERS

__all__ = ["load_pipeline", "load_preview_decoder", "make_scheduler"]

TINY = {"sd1": "sd", "sd2": "sd", "sdxl": "sdxl"}
"""Which tiny autoencoder knows a layout's latents."""


def make_scheduler(pipe: Any, name: str) -> Any:
    """Returns a fresh scheduler: the model's own kind, or the named one with the model's noise schedule.

    Raises:
        InvalidArgument: no such scheduler.
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
    # PLMS alone, as Stable Diffusion was published; its Runge-Kutta start needs a dozen steps of its own
    changes = {"skip_prk_steps": True} if kind is diffusers.PNDMScheduler else {}
    return kind.from_config(pipe.scheduler.config, **changes)


def load_preview_decoder(pipe: Any, model: BaseModel, models: Path) -> Any:
    """Returns the autoencoder that makes previews: the model's own where it is tiny, else HOME/models/tiny_vae/….

    Args:
        pipe: the loaded pipeline.
        model: what it was loaded from.
        models: folder of the home's models.

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
    missing = vae.load_state_dict(load_file(file), strict=False).missing_keys
    if missing:
        raise FailedPrecondition(
            f"The tiny autoencoder {file.name} lacks {len(missing)} weights; fetch it again.", reason="MODEL_BROKEN"
        )
    return vae.to(pipe.unet.device, pipe.unet.dtype).eval().requires_grad_(False)
