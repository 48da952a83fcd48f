"""What an adapter adds to a weight, from its tensors, in float32.

LoRA: (alpha / r) B A (Hu et al. 2021), with a middle part (alpha / r) M ×₁ B ×₂ A for convolutions. LoHa: (alpha / r)
(A1 B1) * (A2 B2) (Hyeon-Woo et al. 2021). LoKr: (alpha / r) C ⊗ D (Yeh et al. 2023). DoRA (Liu et al. 2024) gives the
rows of W + change, or its columns, learnt lengths; what it adds is the difference to W, so a scale of 0 is the base
model, 1 the trained one, and any scale between lies on the line through both.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from konomi_chassis.memory_shortage import is_shortage
from konomi_chassis.models.safetensors_check import Header
from konomi_generator.backends.diffusers.adapter_keys import AdapterKeys, Cut, Module, refused

Tensors = Mapping[str, torch.Tensor]
"""What a tensor is, see adapter_keys.ROLES, → the tensor."""
Place = tuple[str, str]
"""(component, parameter name)."""
Change = Callable[[torch.Tensor], torch.Tensor]
"""Takes a weight of the base model, float32, and returns what is added to it, of the same shape."""


@dataclass(frozen=True, eq=False)
class LowRankChange:
    """What a LoRA adds to a weight: factor · up down, (O, r) and (r, I), or (O, r, 1, 1) and (r, I, h, w)."""

    change: Change
    up: torch.Tensor
    down: torch.Tensor
    factor: float

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns what is added to a weight of the base model."""
        return self.change(weight)

    def fits(self, weight: torch.Tensor) -> bool:
        """Says whether both factors are finite and have the shapes this weight asks for."""
        up, down, rest = self.up, self.down, [1] * (weight.dim() - 2)
        shapes = ([weight.shape[0], down.shape[0], *rest], [down.shape[0], *weight.shape[1:]])
        whole = (list(up.shape), list(down.shape)) == shapes
        return whole and bool(torch.isfinite(up).all() and torch.isfinite(down).all())


LOHA = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
LENGTHS = {"magnitude", "dora_scale"}


@dataclass(frozen=True)
class Strength:
    """What the file's header says of alpha and rank, by diffusers' `lora_adapter_metadata`."""

    metadata: Mapping[str, Any]

    @staticmethod
    def of(digest: str, header: Header) -> "Strength":
        """Returns what a header says.

        Raises:
            FailedPrecondition: it names a kind of adapter that is not applied, or is no JSON (ADAPTER_KIND).
        """
        try:
            metadata = json.loads(header.metadata.get("lora_adapter_metadata") or "{}")
            kinds = {value for key, value in metadata.items() if key.endswith(".peft_type") and value}
        except (ValueError, AttributeError) as error:
            raise refused(digest, [], "an adapter whose lora_adapter_metadata is damaged") from error
        if not kinds <= {"LORA", "LOHA", "LOKR"}:
            raise refused(digest, [], f"an adapter of peft's kind {', '.join(map(str, kinds))[:60]}")
        return Strength(metadata)

    def factor(self, module: Module, rank: int, alpha: torch.Tensor | None) -> float:
        """Returns what a change is multiplied with: alpha / rank, 1 where nothing is said of alpha."""
        if alpha is not None:
            return float(alpha) / rank
        component, name = module
        usual = self.metadata.get(f"{component}.lora_alpha", self.metadata.get(f"{component}.alpha"))
        patterns = self.metadata.get(f"{component}.alpha_pattern") or {}  # by module, as peft reads them
        said = next((value for p, value in patterns.items() if re.match(rf"(.*\.)?({p})$", name)), usual)
        if said is None:
            return 1.0
        return float(said) / (math.sqrt(rank) if self.metadata.get(f"{component}.use_rslora") else rank)

    def is_dora(self, component: str) -> bool:
        """Says whether the header calls what it holds for a component a DoRA."""
        return self.metadata.get(f"{component}.use_dora") is True


def changes(
    digest: str, keys: AdapterKeys, data: Mapping[str, torch.Tensor], strength: Strength
) -> dict[Place, Change]:
    """Returns what a file adds to every weight it names.

    Args:
        digest: of the file.
        keys: its tensors by module.
        data: its tensors by name.
        strength: what its header says.

    Raises:
        FailedPrecondition: tensors of a module are no whole change (reason ADAPTER_KIND).
    """
    result: dict[Place, Change] = {}
    for module, roles in sorted(keys.modules.items()):
        tensors = {role: data[tensor] for role, tensor in roles.items()}
        left = set(tensors)
        try:
            result |= _of_module(tensors, strength, module, left, keys.cuts.get(module))
        except (IndexError, RuntimeError, ValueError, ZeroDivisionError) as error:
            if is_shortage(error):
                raise
            raise refused(digest, roles.values(), f"a damaged file ({str(error)[:80]})") from error
        if left:
            raise refused(digest, (roles[role] for role in left), f"half a change of {module[1]}")
    return result


def _of_module(
    tensors: Tensors, strength: Strength, module: Module, left: set[str], cut: Cut | None = None
) -> dict[Place, Change]:
    """Returns what is added to a module's weight and bias, and takes what it used of the tensors from `left`.

    Args:
        tensors: of the module, or of the layer it is a part of.
        strength: what the file's header says.
        module: the module.
        left: what the tensors are that nothing was made of yet.
        cut: what of the layer's outputs the module has; None where it is the layer.
    """
    (component, name), made = module, {}
    tensors = tensors if cut is None else _cut(tensors, cut)
    delta, bias = _delta(tensors, strength, module, left, cut), _bias(tensors, strength, module, left)
    if delta is not None:
        lengths = left & LENGTHS
        if strength.is_dora(component) and not lengths:
            raise ValueError("a DoRA without the lengths of its rows")
        left -= lengths
        made[component, f"{name}.weight"] = _with_lengths(delta, tensors, lengths) if lengths else delta
    if bias is not None:
        made[component, f"{name}.bias"] = bias
    return made


BY_OUTPUT = ("up", "up_bias", "diff", "diff_b", "magnitude", "dora_scale", "hada_w1_a", "hada_w2_a")
"""Tensors that have a row for each output of a layer."""


def _cut(tensors: Tensors, cut: Cut) -> dict[str, torch.Tensor]:
    """Returns a layer's tensors for some of its outputs; those of a LoKr are whole, since their rows are products."""
    total = cut[2]
    parts = dict(tensors)
    for role in BY_OUTPUT:
        if role not in tensors:
            continue
        if tensors[role].shape[0] != total or "hada_t1" in tensors:
            raise ValueError(f"{tensors[role].shape[0]} rows for a layer of {total} outputs")
        parts[role] = _rows(tensors[role], cut)
    return parts


def _rows(tensor: torch.Tensor, cut: Cut) -> torch.Tensor:
    """Returns some of a layer's rows."""
    start, stop, _ = cut
    return tensor[start:stop] if start < stop else torch.cat([tensor[start:], tensor[:stop]])


def _delta(
    tensors: Tensors, strength: Strength, module: Module, left: set[str], cut: Cut | None = None
) -> Change | None:
    """Returns what is added to a weight, and takes what it used of the tensors from `left`."""
    if {"down", "up"} <= left:
        left -= {"down", "up", "mid", "alpha"}
        factor = strength.factor(module, tensors["down"].shape[0], tensors.get("alpha"))
        change = _scaled(lambda: _lora(tensors), _lora_size(tensors), factor)
        return change if "mid" in tensors else LowRankChange(change, tensors["up"], tensors["down"], factor)
    if left >= LOHA:
        left -= LOHA | {"hada_t1", "hada_t2", "alpha"}
        rank = tensors["hada_w1_b"].shape[0]
        size = _product(tensors, "hada_w1_a", "hada_w1_b", "hada_t1")
        return _scaled(lambda: _loha(tensors), size, strength.factor(module, rank, tensors.get("alpha")))
    if any(role.startswith("lokr_") for role in left):
        first, second = (_half(tensors, number, left) for number in (1, 2))
        if first is None or second is None:
            return None
        left -= {"alpha"}
        whole = "lokr_w1" in tensors and "lokr_w2" in tensors  # then alpha says nothing
        rank = next((tensors[n].shape[0] for n in ("lokr_w1_b", "lokr_w2_b") if n in tensors), 1)
        factor = 1.0 if whole else strength.factor(module, rank, tensors.get("alpha"))
        size = _half_size(tensors, 1) * _half_size(tensors, 2)
        return _scaled(lambda: _kronecker(first(), second()), size, factor, cut)
    if "diff" in left:
        left -= {"diff"}
        return _scaled(lambda: tensors["diff"].float(), tensors["diff"].numel(), 1.0)
    return None


def _bias(tensors: Tensors, strength: Strength, module: Module, left: set[str]) -> Change | None:
    if "diff_b" in left:
        left -= {"diff_b"}
        return _scaled(lambda: tensors["diff_b"].float(), tensors["diff_b"].numel(), 1.0)
    if "up_bias" in left and "down" in tensors:
        left -= {"up_bias"}
        factor = strength.factor(module, tensors["down"].shape[0], tensors.get("alpha"))
        return _scaled(lambda: tensors["up_bias"].float(), tensors["up_bias"].numel(), factor)
    return None


def _scaled(whole: Callable[[], torch.Tensor], size: int, factor: float, cut: Cut | None = None) -> Change:
    """Returns the change that adds factor · whole(), which has so many numbers: counted before any are made.

    Where there is a cut, whole() is that of a layer of which the weight is a part.
    """

    def change(weight: torch.Tensor) -> torch.Tensor:
        expected = weight.numel() if cut is None else weight[0].numel() * cut[2]
        if size != expected:
            raise ValueError(f"a change of {size} numbers for a weight of {tuple(weight.shape)}")
        delta = whole() if cut is None else _rows(whole(), cut)
        if delta.shape[0] != weight.shape[0]:
            raise ValueError(f"a change of {tuple(delta.shape)} for a weight of {tuple(weight.shape)}")
        return (factor * delta).reshape(weight.shape).to(weight.device)

    return change


def _with_lengths(delta: Change, tensors: Tensors, roles: set[str]) -> Change:
    """Returns the change after which the rows, or columns, of a weight have given lengths."""
    role = min(roles)
    lengths = tensors[role].float()

    def change(weight: torch.Tensor) -> torch.Tensor:
        turned = weight + delta(weight)
        columns = role == "dora_scale" and lengths.dim() > 1 and lengths.shape[0] == 1 != weight.shape[0]
        axis = 1 if columns else 0
        if lengths.numel() != weight.shape[axis]:
            raise ValueError(f"{lengths.numel()} lengths for a weight of {tuple(weight.shape)}")
        shape = [1] * weight.dim()
        shape[axis] = -1
        norm = turned.transpose(0, axis).flatten(1).norm(dim=1)
        return turned * (lengths.flatten().to(weight.device) / norm).reshape(shape) - weight

    return change


def _product(tensors: Tensors, first: str, second: str, middle: str) -> int:
    """Returns how many numbers a product of two factors has; with a middle part the first is turned."""
    if middle not in tensors:
        return tensors[first].shape[0] * tensors[second][0].numel()
    return tensors[first][0].numel() * tensors[second][0].numel() * tensors[middle][0, 0].numel()


def _lora_size(tensors: Tensors) -> int:
    size = tensors["up"].shape[0] * tensors["down"][0].numel()
    return size * tensors["mid"][0, 0].numel() if "mid" in tensors else size


def _half_size(tensors: Tensors, number: int) -> int:
    name = f"lokr_w{number}"
    if name in tensors:
        return tensors[name].numel()
    return _product(tensors, f"{name}_a", f"{name}_b", f"lokr_t{number}")


def _lora(tensors: Tensors) -> torch.Tensor:
    up, down = tensors["up"].float().flatten(1), tensors["down"].float()
    if "mid" in tensors:
        return _tucker(tensors["mid"].float(), up.T, down.flatten(1))
    return up @ down.flatten(1)


def _loha(tensors: Tensors) -> torch.Tensor:
    halves = []
    for number in (1, 2):
        first, second = (tensors[f"hada_w{number}_{letter}"].float() for letter in "ab")
        middle = tensors.get(f"hada_t{number}")
        halves.append(first @ second.flatten(1) if middle is None else _tucker(middle.float(), first, second))
    return halves[0] * halves[1]


def _half(tensors: Tensors, number: int, left: set[str]) -> Callable[[], torch.Tensor] | None:
    """Returns one factor of a Kronecker product, whole or itself a product; None where the file lacks it."""
    name, pair = f"lokr_w{number}", {f"lokr_w{number}_a", f"lokr_w{number}_b"}
    if name in left:
        left -= {name}
        return lambda: tensors[name].float()
    if not pair <= left:
        return None
    left -= pair
    first, second = tensors[f"{name}_a"], tensors[f"{name}_b"]
    if number == 2 and "lokr_t2" in left:
        left -= {"lokr_t2"}
        return lambda: _tucker(tensors["lokr_t2"].float(), first.float(), second.float())
    return lambda: (first.float() @ second.float().flatten(1)).reshape(first.shape[0], *second.shape[1:])


def _kronecker(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.kron(first.reshape(*first.shape[:2], *[1] * (second.dim() - 2)), second)


def _tucker(middle: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Returns (O, I, ...) from a middle part (r, r, ...) and its factors (r, O) and (r, I)."""
    return torch.einsum("ij...,io,jk->ok...", middle, first, second)
