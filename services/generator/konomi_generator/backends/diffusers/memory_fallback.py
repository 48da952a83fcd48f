"""When the device's memory does not suffice: what is tried, in order, and which of it changes an image.

1. smaller batches, down to one image;
2. what is not needed waits in the computer's own memory: the same numbers are computed on the same device;
3. the UNet comes to the device block by block: the same numbers again, slower;
4. the autoencoder works in tiles, where the settings allow it: that changes the image, so the image says so;
5. a clear error, with numbers.

What fitted is remembered for as long as the model stays loaded, so that the next batch begins there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch

from konomi.errors import ResourceExhausted
from konomi_chassis.memory_shortage import give_back, numbers_text
from konomi_generator.sampling import TILED, Sampling

HOST = torch.device("cpu")
BLOCK_BYTES = 256 << 20
"""Weights that come to the device together at BLOCKS."""
Parts = Mapping[str, Callable[[], torch.nn.Module | None]]


class FallbackLevel(IntEnum):
    """How much is given up for memory, least first."""

    NOTHING = 0
    WAITING = 1
    BLOCKS = 2
    TILES = 3


WAITED, STREAMED = "model_offload", "block_offload"
NAMES: Mapping[FallbackLevel, tuple[str, ...]] = {
    FallbackLevel.NOTHING: (),
    FallbackLevel.WAITING: (WAITED,),
    FallbackLevel.BLOCKS: (STREAMED,),
    FallbackLevel.TILES: (STREAMED, TILED),
}
"""What a caller hears of each level."""


@dataclass
class MemoryFit:
    """What fitted last for images of one shape: rows of a batch, 0 while nothing has failed, and the level."""

    rows: int = 0
    level: FallbackLevel = FallbackLevel.NOTHING


def exhausted(sampling: Sampling, asked: int, *, tiles_allowed: bool) -> ResourceExhausted:
    """Returns the error for one image that does not fit, whatever was tried; `asked` are the bytes last asked for."""
    advice = "" if tiles_allowed else ", or allow the generator's setting tiled_decoding, which can leave seams"
    return ResourceExhausted(
        f"One image of {sampling.width}x{sampling.height} does not fit into the device's memory: "
        f"{numbers_text(asked)}, with all else moved away; ask for a smaller one{advice}.",
        reason="DEVICE_MEMORY",
    )


@contextmanager
def decoding_in_tiles(pipe: Any, level: FallbackLevel) -> Iterator[None]:
    """Decodes in tiles while it lasts, where that much is given up; leaves the pipeline as it was."""
    if level < FallbackLevel.TILES:
        yield
        return
    pipe.vae.enable_tiling()
    try:
        yield
    finally:
        pipe.vae.disable_tiling()


class Places:
    """Moves a pipeline's parts between the device and the computer's memory: all are there, or only those needed."""

    def __init__(self, pipe: Any, device: torch.device, more: Parts | None = None, largest: str = "unet") -> None:
        """Takes a pipeline and its device.

        Args:
            pipe: the pipeline.
            device: of it.
            more: what else moves with a part: its name → what returns the module.
            largest: the part that goes through the device block by block where it does not fit: what denoises.
        """
        self._pipe, self.device, self.more, self._largest = pipe, device, {**(more or {})}, largest
        self._settled = False

    def size(self) -> int:
        """Returns the bytes of all weights, each counted once."""
        tensors = {
            id(tensor): tensor for parts in self._parts().values() for part in parts for tensor in _tensors(part)
        }
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    def settle(self) -> None:
        """Brings every part to the device."""
        if self._settled:
            return
        for parts in self._parts().values():
            for part in parts:
                move(part, self.device)
        self._settled = True

    def clear(self) -> None:
        """Moves every part to the computer's memory."""
        self._settled = False
        for parts in self._parts().values():
            for part in parts:
                move(part, HOST)
        give_back()

    @contextmanager
    def only(self, *names: str, level: FallbackLevel) -> Iterator[None]:
        """Keeps these parts on the device, and from WAITING on the others in the computer's memory.

        Parts stay where they are afterwards: the next phase moves what it needs, so none moves twice.
        """
        if level < FallbackLevel.WAITING:
            self.settle()
            yield
            return
        self._settled = False
        away, here = list[torch.nn.Module](), list[torch.nn.Module]()
        for name, parts in self._parts().items():
            (here if name in names else away).extend(parts)
        kept = {id(tensor) for part in here for tensor in _tensors(part)}
        for part in away:
            move(part, HOST, kept)
        give_back()
        with ExitStack() as stack:
            for part in here:
                if level >= FallbackLevel.BLOCKS and self._largest in names:
                    stack.enter_context(in_blocks(part, self.device))
                else:
                    move(part, self.device)
            yield

    def _parts(self) -> dict[str, list[torch.nn.Module]]:
        """Returns the modules that move together, by the name of their component."""
        parts = {name: [part] for name, part in self._pipe.components.items() if isinstance(part, torch.nn.Module)}
        for name, get in self.more.items():
            module = get()
            if module is not None:
                parts.setdefault(name, []).append(module)
        return parts


def move(module: torch.nn.Module, device: torch.device, but: set[int] | frozenset[int] = frozenset()) -> None:
    """Moves a module's weights to a device in place, but for some tensors by id; modules that share them follow.

    Never as inference tensors, which nobody could write an adapter into afterwards.
    """
    with torch.inference_mode(False), torch.no_grad():
        for tensor in _tensors(module):
            if id(tensor) not in but and not _is_on(tensor, device):
                tensor.data = in_host_memory(tensor.data) if device.type == "cpu" else tensor.data.to(device)


def in_host_memory(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a copy in the computer's memory: pinned where it comes from a GPU, so that it is back there quickly."""
    if not tensor.is_cuda:
        return tensor.detach().to(HOST, copy=True)
    copy = torch.empty_like(tensor, device=HOST, pin_memory=True)
    return copy.copy_(tensor.detach())


@contextmanager
def in_blocks(network: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Keeps a network in the computer's memory while it lasts; each block comes to the device for its own turn.

    Compiled parts run as they are written meanwhile: a compiler cannot look into what moves weights.
    """
    compiled = {module: module._compiled_call_impl for module in network.modules() if module._compiled_call_impl}
    for module in compiled:
        module._compiled_call_impl = None
    move(network, HOST)
    blocks = list(_blocks(network))
    inside = {id(tensor) for block in blocks for tensor in _tensors(block)}
    move(network, device, inside)  # what belongs to no block
    handles = []
    for block in blocks:
        handles.append(block.register_forward_pre_hook(lambda module, _given: move(module, device)))
        handles.append(block.register_forward_hook(lambda module, _given, _answer: move(module, HOST)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, call in compiled.items():
            module._compiled_call_impl = call


def _blocks(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yields the largest modules that are called as a whole and hold at most BLOCK_BYTES, or cannot be cut further."""
    children: Sequence[torch.nn.Module] = list(module.children())
    small = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(module)) <= BLOCK_BYTES
    container = isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict)
    if not container and (small or not children):
        yield module
        return
    for child in children:
        yield from _blocks(child)


def _is_on(tensor: torch.Tensor, device: torch.device) -> bool:
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]
