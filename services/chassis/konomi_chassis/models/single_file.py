"""A single-file checkpoint by its header: which layout it is, what it says of its noise, how large its parts are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from konomi_chassis.models.families.family import AUTOENCODERS, Family, FoundFile
from konomi_chassis.models.families.table import recognised
from konomi_chassis.models.noise_schedule import NoiseSchedule
from konomi_chassis.models.safetensors_check import Header, check_file, unsupported

SCALED = ("scaled_fp8", ".scale_weight", ".weight_scale", ".scale_input", ".input_scale", ".comfy_quant")
"""How the names of tensors end that numbers of eight bits must be multiplied with."""


UNUSED = "norm_final.weight"
"""A tensor in files of Z-Image and Lumina 2 that their networks never use."""


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


def read(id: str, path: Path) -> tuple[FoundFile, Family]:
    """Returns a checked single file and its family, reading nothing but its header.

    Raises:
        FailedPrecondition: it is not safetensors (UNSAFE_FORMAT), or of a kind konomi does not run (MODEL_LAYOUT).
    """
    found = FoundFile(id, path, check_file(path, f"The base model {id}"))
    family = recognised(found)
    _check_numbers(id, found.header)
    told = family.transformer_file
    if told is not None and not told.autoencoder and any(n.startswith(AUTOENCODERS) for n in found.header.tensors):
        unsupported(id, f"it holds an autoencoder, which is read from no single file of {family.name}; take its folder")
    return found, family


def describe(found: FoundFile, family: Family) -> SingleFile:
    """Returns what a whole checkpoint is, reading at most a few small tensors.

    Raises:
        FailedPrecondition: it is of a kind konomi does not run (MODEL_LAYOUT).
    """
    schedule = family.schedule(found)
    counted = family.single_file.counted if family.single_file is not None else {}
    parameters = {
        part: sum(t.parameters for name, t in found.header.tensors.items() if name.startswith(head))
        for part, head in counted.items()
    }
    return SingleFile(
        family.name,
        schedule,
        family.side(found, schedule),
        {part: count for part, count in parameters.items() if count},
        title(found),
    )


def title(found: FoundFile) -> str:
    """Returns what a file's header calls it; empty where it says nothing."""
    return found.header.metadata.get("modelspec.title", "")[:200]


def transformer_weights(found: FoundFile) -> int:
    """Returns how many weights of a transformer a file holds that its network has."""
    return sum(entry.parameters for name, entry in found.transformer.items() if name != UNUSED)


def autoencoder_head(header: Header) -> str:
    """Returns what stands before the names of a file's autoencoder; "" where it has none."""
    return next((head for head in AUTOENCODERS if any(name.startswith(head) for name in header.tensors)), "")


def _check_numbers(id: str, header: Header) -> None:
    """Refuses weights that are only right once multiplied by scales beside them."""
    scale = next((name for name in header.tensors if name.endswith(SCALED)), None)
    if scale is not None:
        unsupported(
            id, f"its weights are numbers of eight bits with scales beside them ({scale[:60]}); take its fp16 file"
        )
