"""When the device's memory does not suffice: what is tried, in order, and which of it changes an image.

1. smaller batches, down to one image;
2. what is not needed waits in the computer's own memory: the same numbers are computed on the same device;
3. the autoencoder works in tiles, where the settings allow it: that changes the image, so the image says so;
4. a clear error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import torch

from konomi.errors import ResourceExhausted
from konomi_generator.sampling import Sampling

TILED = "tiled_decoding"
MESSAGES = ("not enough memory", "can't allocate memory", "out of memory")


class FallbackLevel(IntEnum):
    """How much is given up for memory, least first."""

    NOTHING = 0
    WAITING = 1
    TILES = 2


def is_shortage(error: BaseException) -> bool:
    """Says whether an error means that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in MESSAGES)


def free() -> None:
    """Gives memory the allocator keeps back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def exhausted(sampling: Sampling, *, tiles_allowed: bool) -> ResourceExhausted:
    """Returns the error for one image that does not fit, whatever was tried."""
    advice = "" if tiles_allowed else ", or allow the generator's setting tiled_decoding, which can leave seams"
    return ResourceExhausted(
        f"One image of {sampling.width}x{sampling.height} does not fit into the device's memory; "
        f"ask for a smaller one{advice}.",
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
    """Moves a pipeline's parts between the device and the computer's memory, so that only one works at a time."""

    def __init__(self, pipe: Any, device: torch.device) -> None:
        self._pipe, self._device = pipe, device

    @contextmanager
    def only(self, *names: str, level: FallbackLevel) -> Iterator[None]:
        """Keeps these parts on the device for a while and the others in the computer's memory, from WAITING on."""
        if level < FallbackLevel.WAITING:
            yield
            return
        parts = {name: part for name, part in self._pipe.components.items() if isinstance(part, torch.nn.Module)}
        for name in parts.keys() - set(names):
            parts[name].to("cpu")
        free()
        for name in parts.keys() & set(names):
            parts[name].to(self._device)
        try:
            yield
        finally:
            for part in parts.values():
                part.to(self._device)
