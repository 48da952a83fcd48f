"""A single-file checkpoint by its header: which layout it is, what it says of its noise, how large its parts are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from konomi_chassis.models.noise_schedule import NoiseSchedule, schedule_of_file
from konomi_chassis.models.safetensors_check import Header, check_file, unsupported

MARKS: Mapping[str, tuple[str, ...]] = {
    "sdxl": ("conditioner.embedders.1.model.",),
    "sd2": ("cond_stage_model.model.",),
    "sd1": ("cond_stage_model.transformer.",),
}
"""What the name of a tensor begins with that only this layout has, most particular first."""
PARTS = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
SCALED = ("scaled_fp8", ".scale_weight", ".weight_scale", ".scale_input", ".input_scale", ".comfy_quant")
"""How the names of tensors end that numbers of eight bits must be multiplied with."""


@dataclass(frozen=True)
class SingleFile:
    """What a checkpoint is.

    Attributes:
        layout: "sd1", "sd2" or "sdxl".
        schedule: what it says of its noise.
        resolution: side of the images it was trained for, pixels.
        parameters: number of weights per component.
        title: what its header calls it; empty where it says nothing.
    """

    layout: str
    schedule: NoiseSchedule
    resolution: int
    parameters: Mapping[str, int]
    title: str = ""


def describe(id: str, path: Path) -> SingleFile:
    """Returns what a single-file checkpoint is, reading its header and at most a few small tensors.

    Raises:
        FailedPrecondition: it is not safetensors (UNSAFE_FORMAT), or of a kind konomi does not run (MODEL_LAYOUT).
    """
    header = check_file(path, f"The base model {id}")
    layout = next((name for name, marks in MARKS.items() if any(t.startswith(marks) for t in header.tensors)), None)
    stem = header.tensors.get("model.diffusion_model.input_blocks.0.0.weight")
    if layout is None or stem is None or not any(t.startswith("first_stage_model.") for t in header.tensors):
        unsupported(id, "it is no Stable Diffusion 1.x, 2.x or XL checkpoint with UNet, VAE and text encoder")
    if len(stem.shape) != 4 or stem.shape[1] != 4:
        unsupported(id, "its unet does not take 4 latent channels (an inpainting or upscaling model)")
    _check_numbers(id, header)
    schedule = schedule_of_file(id, path, header, layout)
    wide = layout == "sd2" and schedule.prediction_type == "v_prediction"
    parameters = {
        part: sum(t.parameters for name, t in header.tensors.items() if name.startswith(prefixes))
        for part, prefixes in PARTS.items()
    }
    return SingleFile(
        layout,
        schedule,
        1024 if layout == "sdxl" else 768 if wide else 512,
        {part: count for part, count in parameters.items() if count},
        header.metadata.get("modelspec.title", "")[:200],
    )


def _check_numbers(id: str, header: Header) -> None:
    """Refuses weights that are only right once multiplied by scales beside them."""
    scale = next((name for name in header.tensors if name.endswith(SCALED)), None)
    if scale is not None:
        unsupported(
            id, f"its weights are numbers of eight bits with scales beside them ({scale[:60]}); take its fp16 file"
        )
