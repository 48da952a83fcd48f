"""Networks that share their weights: a second one without a second set, and layers with a low-rank change beside them.

A module is its attributes and three tables: parameters, buffers, children. Copying the tables and not what is in them
gives a network of its own, whose weights are the very tensors of the first.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import conv2d, linear

from konomi_chassis.models.families.quantized_blocks import QuantizedLinear


def sharing(network: torch.nn.Module, instead: Mapping[torch.nn.Module, torch.nn.Module] | None = None) -> Any:
    """Returns a network that shares every parameter and buffer with another, and nothing else that can be changed.

    Args:
        network: any module; it is left as it is, and what hooks or compilation it has stays its own.
        instead: children of it → what stands in their place in the copy, shared too.
    """
    made: dict[int, torch.nn.Module] = {}

    def shared(module: torch.nn.Module) -> torch.nn.Module:
        source = (instead or {}).get(module, module)
        if id(source) not in made:
            made[id(source)] = own = _emptied(source)
            own._modules = {name: shared(child) if child is not None else None for name, child in own._modules.items()}
        return made[id(source)]

    return shared(network)


def replace_parameter(network: torch.nn.Module, name: str, value: torch.Tensor) -> None:
    """Gives a network a parameter of its own in the place of a shared one."""
    module, _, last = name.rpartition(".")
    network.get_submodule(module)._parameters[last] = torch.nn.Parameter(value, requires_grad=False)


def takes_low_rank(layer: torch.nn.Module) -> bool:
    """Says whether a low-rank change can stand beside a layer: a plain linear one, or a convolution in one group."""
    return type(layer) in (torch.nn.Linear, QuantizedLinear) or (type(layer) is torch.nn.Conv2d and layer.groups == 1)


def with_low_rank(layer: torch.nn.Module, down: torch.Tensor, up: torch.Tensor) -> torch.nn.Module:
    """Returns a layer that shares another's weights and adds up(down(input)) to its answer.

    Args:
        layer: one that `takes_low_rank`.
        down: (r, I) or (r, I, h, w).
        up: (O, r) or (O, r, 1, 1).
    """
    beside = _emptied(layer)
    kinds: dict[type, type] = {torch.nn.Linear: _LinearBeside, QuantizedLinear: _QuantizedBeside}
    beside.__class__ = kinds.get(type(layer), _ConvolutionBeside)
    weight: Any = layer.weight
    beside.register_buffer("down", down.to(weight.device, weight.dtype))
    beside.register_buffer("up", up.to(weight.device, weight.dtype))
    return beside


class _LinearBeside(torch.nn.Linear):
    down: torch.Tensor
    up: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, I) → (…, O)."""
        return super().forward(input) + linear(linear(input, self.down), self.up)


class _QuantizedBeside(QuantizedLinear):
    down: torch.Tensor
    up: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, I) → (…, O)."""
        return super().forward(input) + linear(linear(input, self.down), self.up)


class _ConvolutionBeside(torch.nn.Conv2d):
    down: torch.Tensor
    up: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, I, H, W) → (B, O, H', W')."""
        return super().forward(input) + conv2d(self._conv_forward(input, self.down, None), self.up)


def _emptied(module: torch.nn.Module) -> torch.nn.Module:
    """Returns a module with tables of its own that hold the same, without hooks and not compiled."""
    own: torch.nn.Module = object.__new__(type(module))
    own.__dict__ = dict(module.__dict__)
    for table in ("_parameters", "_buffers", "_modules"):
        own.__dict__[table] = dict(module.__dict__[table])
    for name, value in module.__dict__.items():
        if name.endswith("_hooks") and isinstance(value, dict):
            own.__dict__[name] = type(value)()
    own.__dict__["_compiled_call_impl"] = None
    return own
