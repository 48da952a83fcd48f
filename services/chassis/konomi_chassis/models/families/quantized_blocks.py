"""Linear layers with frozen weights of 8 or 4 bits, which are unpacked for each use and gone after it.

int8: 255 even steps up to the largest of 256 weights. nf4: the 16 levels that a normal distribution's quantiles give,
up to the largest of 64 weights (Dettmers et al. 2023, QLoRA, 2305.14314, section 3). bitsandbytes packs and unpacks, on
a GPU and on a CPU. A layer answers what a plain one with the unpacked weights does, to the bit, and so do gradients: a
backward pass unpacks once more in place of keeping what the forward pass unpacked. The weights themselves never learn.
"""

from functools import cache
from typing import Any

import torch
from torch.nn import functional

from konomi_chassis.models.families.quantization import BLOCK_WEIGHTS, NONE, is_quantizable


class QuantizedLinear(torch.nn.Linear):
    """A linear layer whose (O, I) weight is packed.

    Attributes:
        quantization: "int8" or "nf4".
        packed: uint8, what the weights became.
        scales: float32, the largest magnitude of each block of weights.
        dtype: number format of the weight while it is used.
    """

    packed: torch.nn.Parameter
    scales: torch.nn.Parameter

    def __init__(self, plain: torch.nn.Linear, quantization: str, device: torch.device) -> None:
        """Takes the place of a plain layer; its weight is packed on a device and lies where it lay."""
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.quantization, self.dtype = quantization, plain.weight.dtype
        packed, scales = _packed(plain.weight.detach().to(device), quantization)
        for name, tensor in (("packed", packed), ("scales", scales)):
            here = tensor.to(plain.weight.device)
            self.register_parameter(name, torch.nn.Parameter(here, requires_grad=False))
        self.register_parameter("bias", plain.bias)
        self.train(plain.training)

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """The (O, I) weight, unpacked anew at every look."""
        return self._unpacked(self.dtype)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, I) → (…, O)."""
        kind = input.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.dtype
        given = input.to(dtype) if dtype != self.dtype or torch.is_autocast_enabled(kind) else input
        bias = None if self.bias is None else self.bias.to(dtype)
        if not (torch.is_grad_enabled() and given.requires_grad):
            return functional.linear(given, self._unpacked(dtype), bias)
        answer: torch.Tensor = _Product.apply(given, self.packed, self.scales, bias, self)
        return answer

    def _unpacked(
        self, dtype: torch.dtype, packed: torch.Tensor | None = None, scales: torch.Tensor | None = None
    ) -> torch.Tensor:
        packed, scales = (self.packed, self.scales) if packed is None or scales is None else (packed, scales)
        shape = torch.Size((self.out_features, self.in_features))
        return _unpacked(packed, scales, self.quantization, shape, dtype)


class _Product(torch.autograd.Function):
    """A product with an unpacked weight, of which the packed one is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        given: torch.Tensor,
        packed: torch.Tensor,
        scales: torch.Tensor,
        bias: torch.Tensor | None,
        layer: QuantizedLinear,
    ) -> torch.Tensor:
        """(…, I) → (…, O)."""
        ctx.save_for_backward(packed, scales)
        ctx.layer, ctx.given_dtype = layer, given.dtype
        return functional.linear(given, layer._unpacked(given.dtype, packed, scales), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        """(…, O) → (…, I)."""
        packed, scales = ctx.saved_tensors
        (gradient,) = gradients
        weight = ctx.layer._unpacked(ctx.given_dtype, packed, scales)
        return gradient.to(ctx.given_dtype) @ weight, None, None, None, None


def quantize(network: torch.nn.Module, quantization: str, device: torch.device) -> int:
    """Packs the linear layers of a transformer's blocks, one after another, and returns how many there were.

    Args:
        network: frozen; changed in place.
        quantization: "int8" or "nf4"; "none" changes nothing.
        device: where they are packed; they stay where they are.
    """
    if quantization == NONE:
        return 0
    linear = [(name, layer) for name, layer in network.named_modules() if type(layer) is torch.nn.Linear]
    even = [name for name, layer in linear if layer.in_features % 2 == 0]  # a byte holds two weights of a row
    layers = [name for name in even if is_quantizable(f"{name}.weight", 2)]
    for name in layers:
        parent, _, last = name.rpartition(".")
        plain: Any = network.get_submodule(name)
        network.get_submodule(parent)._modules[last] = QuantizedLinear(plain, quantization, device)
    return len(layers)


def _packed(weight: torch.Tensor, quantization: str) -> tuple[torch.Tensor, torch.Tensor]:
    from bitsandbytes import functional as packing

    size = BLOCK_WEIGHTS[quantization]
    if quantization == "nf4":
        packed, state = packing.quantize_4bit(weight.contiguous(), blocksize=size, quant_type="nf4")
    else:
        levels = _levels(weight.device, quantization)
        packed, state = packing.quantize_blockwise(weight.float().contiguous(), code=levels, blocksize=size)
    return packed, state.absmax.float()


def _unpacked(
    packed: torch.Tensor, scales: torch.Tensor, quantization: str, shape: torch.Size, dtype: torch.dtype
) -> torch.Tensor:
    from bitsandbytes import functional as packing

    size, levels = BLOCK_WEIGHTS[quantization], _levels(packed.device, quantization)
    kind = "nf4" if quantization == "nf4" else None
    state = packing.QuantState(scales, shape=shape, code=levels, blocksize=size, quant_type=kind, dtype=dtype)
    weight: torch.Tensor
    if kind is None:
        weight = packing.dequantize_blockwise(packed, state)
    else:
        weight = packing.dequantize_4bit(packed, state)
    return weight


@cache
def _levels(device: torch.device, quantization: str) -> torch.Tensor:
    """Returns the levels between -1 and 1 that packed numbers stand for: 256 of int8, 16 of nf4."""
    from bitsandbytes import functional as packing

    with torch.inference_mode(False):
        levels: torch.Tensor
        if quantization == "nf4":
            levels = packing.get_4bit_type("nf4", device=device)
        else:
            levels = packing.create_linear_map(signed=True, total_bits=8).to(device)
    return levels
