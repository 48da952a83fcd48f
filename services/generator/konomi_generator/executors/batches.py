"""What travels between a request and the actors: which images, and what became of them; digests, never pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from konomi.errors import KonomiError
from konomi_generator.requests import Finished, Request

ROUNDS = 4
"""Batches an actor gets at least where there are images enough, so that a slow one can take fewer."""


@dataclass(frozen=True)
class ImageBatch:
    """Some images of a request.

    Attributes:
        number: of the batch, from 0.
        positions: of the images in the request.
        request: asks for these images alone.
    """

    number: int
    positions: Sequence[int]
    request: Request


@dataclass(frozen=True)
class BatchOutcome:
    """What became of a batch: its images, by their positions in the batch, or why it came to nothing."""

    finished: Sequence[Finished]
    error: KonomiError | None = None


def split(request: Request, actors: int, most: int, kept: int = 1) -> list[ImageBatch]:
    """Returns a request in batches of at most `most` images, in order.

    Previews are left out: an actor answers when its batch is done.

    Args:
        request: whose images they are.
        actors: that share them.
        most: images of a batch at most.
        kept: images denoised together; a batch is whole passes of so many, unless `most` is less than one.
    """
    count = len(request.images)
    share = math.ceil(count / (max(1, actors) * ROUNDS))
    size = max(1, min(most // kept * kept or most, math.ceil(share / kept) * kept))
    batches: list[ImageBatch] = []
    for start in range(0, count, size):
        positions = range(start, min(count, start + size))
        part = replace(request, images=[request.images[p] for p in positions], preview_every=0)
        batches.append(ImageBatch(len(batches), positions, part))
    return batches
