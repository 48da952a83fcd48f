"""The layers of a LoRA of a transformer as ComfyUI reads them: `diffusion_model.…`, by the names of its authors.

Where they have in one layer what diffusers keeps in parts, the LoRA of the layer has the factors of all parts: their
A below each other, their B along a diagonal, so that each part's outputs come from its own factors alone. diffusers
takes such a LoRA apart again without a rest.
"""

import re
from collections.abc import Sequence

import torch

from konomi.errors import FailedPrecondition
from konomi_chassis.models.families.family import ExportNames, OriginalLayer
from konomi_trainer.data.cache import Tensors

BLOCK = re.compile(r"\.(\d+)\.")
DOWN, UP, LENGTHS = ".lora_A.weight", ".lora_B.weight", (".lora_magnitude_vector.weight", ".lora_magnitude_vector")
KOHYA_ENDS = {DOWN: ".lora_down.weight", UP: ".lora_up.weight"}
SCALE = ".dora_scale"


def layers(weights: Tensors, names: ExportNames) -> Tensors:
    """Returns a transformer's LoRA under its authors' names, float16, the lengths of a DoRA's rows float32.

    Args:
        weights: diffusers' name of a layer and peft's of a factor → factor; alpha is the rank.
        names: of the family.

    Raises:
        FailedPrecondition: a DoRA changes a part of a layer alone, whose other lengths are not known (EXPORT_FORMAT).
    """
    modules = _modules(weights)
    renamed: Tensors = {}
    for name, layer, parts in _joined(modules, names):
        tensors = modules[parts[0]] if len(parts) == 1 else _as_one(name, layer, [modules.get(part) for part in parts])
        for end, tensor in tensors.items():
            end = end if names.peft_ends or end == SCALE else KOHYA_ENDS[end]
            renamed[f"{names.head}{name}{end}"] = tensor.float() if end == SCALE else tensor.half()
        if not names.peft_ends:
            renamed[f"{names.head}{name}.alpha"] = torch.tensor(float(tensors[DOWN].shape[0]))
    return renamed


def _modules(weights: Tensors) -> dict[str, Tensors]:
    """Returns module → what a factor is → factor."""
    modules: dict[str, Tensors] = {}
    for name, tensor in weights.items():
        end = next(end for end in (DOWN, UP, *LENGTHS) if name.endswith(end))
        own = modules.setdefault(name.removesuffix(end), {})
        own[SCALE if end in LENGTHS else end] = tensor.reshape(-1, 1) if end in LENGTHS else tensor
    return modules


def _joined(modules: dict[str, Tensors], names: ExportNames) -> list[tuple[str, OriginalLayer, list[str]]]:
    """Returns the authors' layers that modules are of: name, layer, names of all its parts."""
    known = {part: layer for layer in names.layers for part in layer.parts}
    found: dict[str, tuple[OriginalLayer, list[str]]] = {}
    for module in sorted(modules):
        block = BLOCK.search(module)
        pattern = module if block is None else BLOCK.sub(".{}.", module, count=1)
        layer = known.get(pattern) or known.get(module) or OriginalLayer(module, (module,))
        number = "" if block is None else block[1]
        found[layer.name.format(number)] = (layer, [part.format(number) for part in layer.parts])
    return [(name, layer, parts) for name, (layer, parts) in found.items()]


def _as_one(name: str, layer: OriginalLayer, parts: Sequence[Tensors | None]) -> Tensors:
    """Returns the factors of a layer of several parts, of which those that are None do not change."""
    present = [part for part in parts if part is not None]
    widths = layer.widths or (1,) * len(parts)
    first = next(place for place, part in enumerate(parts) if part is not None)
    unit = present[0][UP].shape[0] // widths[first]
    ups = [part[UP] if part else present[0][UP].new_zeros(unit * w, 0) for part, w in zip(parts, widths, strict=True)]
    joined = {DOWN: torch.cat([part[DOWN] for part in present]), UP: torch.block_diag(*ups)}
    if any(SCALE in part for part in present):
        if len(present) < len(parts):
            raise FailedPrecondition(
                f"expected an adapter that changes all of the layer {name}, or no DoRA, for this format; this DoRA "
                "changes a part of it alone, and the lengths of the rest are the base's own: export for diffusers "
                "instead",
                reason="EXPORT_FORMAT",
            )
        joined[SCALE] = torch.cat([part[SCALE] for part in present])
    return joined
