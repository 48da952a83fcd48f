"""A single-file checkpoint by its header: which layout it is, what it says of its noise, how large its parts are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from konomi_chassis.models.families.family import FoundFile
from konomi_chassis.models.families.table import recognised
from konomi_chassis.models.noise_schedule import NoiseSchedule
from konomi_chassis.models.safetensors_check import Header, check_file, unsupported

SCALED = ("scaled_fp8", ".scale_weight", ".weight_scale", ".scale_input", ".input_scale", ".comfy_quant")
"""How the names of tensors end that numbers of eight bits must be multiplied with."""


@dataclass(frozen=True)
class SingleFile:
    """What a checkpoint is.

    Attributes:
        layout: name of its family.
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
    found = FoundFile(id, path, header)
    family = recognised(found)
    _check_numbers(id, header)
    schedule = family.schedule(found)
    counted = family.single_file.counted if family.single_file is not None else {}
    parameters = {
        part: sum(t.parameters for name, t in header.tensors.items() if name.startswith(head))
        for part, head in counted.items()
    }
    return SingleFile(
        family.name,
        schedule,
        family.side(found, schedule),
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
