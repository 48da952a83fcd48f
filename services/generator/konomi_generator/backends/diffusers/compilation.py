"""Compiled UNets: the repeated blocks of both, where it is asked for or pays, and nothing of it outlives the model.

Blocks that repeat are compiled once for all of them, in seconds where a whole UNet takes minutes. Whether that pays is
decided as whether to rent or to buy (Karlin et al. 1988): work already done with a model foretells as much again, so
compiling begins once the work done and asked for would win back what it costs. What it costs and wins is measured as
soon as it was done once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from konomi.errors import FailedPrecondition, KonomiError, Unavailable

Asked = bool | Literal["auto"]
COMPILE_SECONDS = 60.0
"""What compiling is thought to cost before it was measured."""
GAIN = 0.2
"""Share of the time it is thought to win before it was measured."""
LIBRARIES = ("torch._dynamo", "torch._inductor", "triton")


@dataclass
class Measured:
    """Seconds a step took for images of one shape: not compiled, the slowest compiled, which compiled, and the best."""

    plain: float = 0.0
    first: float = 0.0
    compiled: float = 0.0
    steps: int = 0


@dataclass
class Compilation:
    """Whether the UNets of one loaded model are compiled.

    Attributes:
        asked: what the settings say.
        device: where they run; "auto" compiles on a GPU alone.
        backend: of torch.compile.
        active: whether they are compiled now.
    """

    asked: Asked
    device: torch.device
    backend: str = "inductor"
    active: bool = False
    _failed: bool = False
    _shapes: dict[tuple[int, ...], Measured] = field(default_factory=dict)
    _costs: list[float] = field(default_factory=list)

    def apply(self, unets: Sequence[Any], shape: tuple[int, ...], steps: int) -> None:
        """Compiles the UNets where that is to be for a request of so many steps, or makes them plain again."""
        self.active = self._wanted(shape, steps)
        for unet in unets:
            self.prepare(unet)

    def prepare(self, unet: Any) -> None:
        """Makes one UNet, also one that is made later, what the others are."""
        if not self.active:
            release(unet)
        elif not _is_compiled(unet):
            unet.compile_repeated_blocks(backend=self.backend)

    def note(self, shape: tuple[int, ...], steps: int, seconds: float) -> None:
        """Learns what a batch of so many steps took in all."""
        known, each = self._shapes.setdefault(shape, Measured()), seconds / max(1, steps)
        known.steps += steps
        if not self.active:
            known.plain = min(known.plain or each, each)
        elif not known.first:
            known.first = seconds
        else:
            known.compiled = min(known.compiled or each, each)
            self._costs = [max(0.0, known.first - known.compiled * steps)]

    def pays(self, shape: tuple[int, ...], steps: int) -> bool:
        """Says whether compiling wins more than it costs for a shape, with so many steps ahead."""
        known = self._shapes.get(shape)
        if known is None or not known.plain:
            return False  # nothing measured yet: the first request tells
        if known.compiled:
            return known.compiled < known.plain  # it is compiled already, so it costs nothing any more
        cost = self._costs[-1] if self._costs else COMPILE_SECONDS
        return (known.steps + steps) * known.plain * GAIN > cost

    def failure(self, error: BaseException) -> KonomiError | None:
        """Returns the error to raise where compiling failed; None for any other failure."""
        kinds = [kind.__module__ for kind in type(error).__mro__]
        if not self.active or not any(module.startswith(LIBRARIES) for module in kinds):
            return None
        why = f"The UNet could not be compiled ({type(error).__name__})"
        if self.asked == "auto":
            self._failed = True
            message = f"{why}; it runs without from now on. Try again."
            return Unavailable(message, reason="COMPILE_FAILED", retry_after=0.5)
        message = f"{why}: this machine may lack a compiler. Set the generator's compile_unet to false."
        return FailedPrecondition(message, reason="COMPILE_FAILED")

    def _wanted(self, shape: tuple[int, ...], steps: int) -> bool:
        if self.asked != "auto":
            return bool(self.asked)
        return not self._failed and self.device.type == "cuda" and self.pays(shape, steps)


def release(unet: Any) -> None:
    """Makes a UNet plain again; a compiled one is part of a circle, which would keep it until that is collected."""
    for module in unet.modules():
        if module._compiled_call_impl is not None:  # assigning to a module is slow, and a request does it to all
            module._compiled_call_impl = None


def forget() -> None:
    """Drops what was compiled for UNets that are gone."""
    torch.compiler.reset()


def _is_compiled(unet: Any) -> bool:
    return any(module._compiled_call_impl is not None for module in unet.modules())
