"""Stable Diffusion 2.x: OpenCLIP's text encoder, linear projections, images of 512 pixels or, in v-prediction, 768."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from konomi_chassis.models.families.family import (
    CompanionNames,
    Defaults,
    ExportNames,
    Found,
    FoundFile,
    SingleFileNames,
)
from konomi_chassis.models.families.unet.sd1 import SD1
from konomi_chassis.models.families.unet.stable_diffusion import PADS, UNET, VAE, StableDiffusion
from konomi_chassis.models.noise_schedule import NoiseSchedule

TEXT = "cond_stage_model.model."
"""What stands before the names of OpenCLIP's encoder in a single file."""
WIDE = 768


@dataclass(frozen=True)
class StableDiffusion2(StableDiffusion):
    """What of Stable Diffusion 2.x is not as in the others."""

    def _has_network(self, unet: Mapping[str, Any]) -> bool:
        return bool(unet.get("use_linear_projection"))

    def side(self, found: Found, schedule: NoiseSchedule) -> int:
        """Returns the side of its images, pixels: files of v-prediction are the large ones."""
        if isinstance(found, FoundFile) and schedule.prediction_type == "v_prediction":
            return WIDE
        return super().side(found, schedule)


SD2 = StableDiffusion2(
    name="sd2",
    mark=TEXT,
    single_file=SingleFileNames(
        heads={"unet": UNET, "vae": VAE, "text_encoder": TEXT},
        counted={"unet": UNET, "vae": VAE, "text_encoder": "cond_stage_model."},
        open_clip=frozenset({"text_encoder"}),
        pads={"tokenizer": PADS["mark"]},
    ),
    exported=ExportNames(
        base="sd_v2",
        architecture="stable-diffusion-v2",
        pipeline="stable-diffusion",
        texts={"text_encoder": "lora_te"},
        second=True,
    ),
    beside=CompanionNames(tiny_vae="sd"),
    defaults=Defaults(side=512, aligned_steps="StableDiffusionSigmas", activations=SD1.defaults.activations),
    told_by_bias=True,
)
"""The family."""
