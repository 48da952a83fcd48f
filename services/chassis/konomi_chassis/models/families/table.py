"""Every family of base models: the one table a new family is entered into, and which of them something is of."""

from collections.abc import Iterator, Mapping
from typing import Any

from konomi_chassis.models.families.family import Family, Found, FoundFolder
from konomi_chassis.models.families.flow.chroma import CHROMA
from konomi_chassis.models.families.flow.flux import FLUX1
from konomi_chassis.models.families.flow.flux2 import FLUX2_KLEIN
from konomi_chassis.models.families.flow.lumina2 import LUMINA2
from konomi_chassis.models.families.flow.qwen_image import QWEN_IMAGE
from konomi_chassis.models.families.flow.sd3 import SD3
from konomi_chassis.models.families.flow.z_image import Z_IMAGE
from konomi_chassis.models.families.unet.sd1 import SD1
from konomi_chassis.models.families.unet.sd2 import SD2
from konomi_chassis.models.families.unet.sdxl import SDXL
from konomi_chassis.models.families.unet.stable_diffusion import NOT_ONE
from konomi_chassis.models.safetensors_check import unsupported

FAMILIES: dict[str, Family] = {
    SDXL.name: SDXL,
    SD2.name: SD2,
    SD1.name: SD1,
    SD3.name: SD3,
    FLUX1.name: FLUX1,
    CHROMA.name: CHROMA,
    QWEN_IMAGE.name: QWEN_IMAGE,
    FLUX2_KLEIN.name: FLUX2_KLEIN,
    Z_IMAGE.name: Z_IMAGE,
    LUMINA2.name: LUMINA2,
}
"""Name → family, the most particular first: the first that recognises a model has it."""


def recognised(found: Found) -> Family:
    """Returns the family of a checked folder or file, which is of a kind that can be run.

    Raises:
        FailedPrecondition: it is of no family, or of a kind of its family that cannot be run (reason MODEL_LAYOUT).
    """
    family = next((family for family in FAMILIES.values() if family.recognise(found)), None)
    if family is None and isinstance(found, FoundFolder):
        unsupported(found.id, f"its pipeline is {str(found.index.get('_class_name'))[:80]!r}")
    if family is None:
        unsupported(found.id, NOT_ONE)
    if isinstance(found, FoundFolder) or family.transformer_file is None:
        family.check(found)  # a transformer alone is checked with the folder that lends it the rest
    return family


def family(layout: str) -> Family:
    """Returns the family of a layout, which the catalogue has named."""
    return FAMILIES[layout]


def find(layout: str) -> Family | None:
    """Returns the family of a layout; None for what another program holds."""
    return FAMILIES.get(layout)


def of_pipeline(pipe: Any) -> Family:
    """Returns the family of a loaded pipeline, by its class; those that share one act alike on it."""
    kind = type(pipe).__name__
    return next(family for family in reversed(FAMILIES.values()) if family.loaded_as == kind)


def candidates(index: Mapping[str, Any]) -> list[Family]:
    """Returns the families that a model_index.json may be of by its pipeline; all of them where it is of none."""
    named = [family for family in FAMILIES.values() if index.get("_class_name") in family.pipelines]
    return named or list(FAMILIES.values())


def classes() -> dict[str, frozenset[tuple[str, str]]]:
    """Returns component → the only classes it may be of, in any family, scheduler apart."""
    merged: dict[str, frozenset[tuple[str, str]]] = {}
    for family in FAMILIES.values():
        for name, kinds in family.components.items():
            merged[name] = merged.get(name, frozenset()) | kinds
    return merged


def weighted() -> list[str]:
    """Returns every component that has weights in some family."""
    return list(dict.fromkeys(_every_weighted()))


def _every_weighted() -> Iterator[str]:
    for family in reversed(FAMILIES.values()):
        yield from family.weighted
