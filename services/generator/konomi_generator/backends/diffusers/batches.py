"""How many images go through the network together, and how a request is cut into such batches."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from konomi_generator.sampling import ImageRequest

SIZES = (32, 16, 8, 4)
"""Batch sizes tried on the CPU, largest first."""


@dataclass(frozen=True)
class DenoisingBatch:
    """Images denoised together, all of one kind; filled up to `rows` with repeats of the last one.

    Attributes:
        images: the images.
        rows: what goes through the network.
        sizes: batch sizes that give these images the same bits, largest first.
    """

    images: Sequence[ImageRequest]
    rows: int
    sizes: Sequence[int] = ()


def plan(
    images: Sequence[ImageRequest],
    sizes: Sequence[int],
    workers: int,
    kind_of: Callable[[ImageRequest], Hashable],
    *,
    fill: bool = False,
) -> list[DenoisingBatch]:
    """Cuts images into batches.

    Args:
        images: the images.
        sizes: batch sizes that all give the same bits, largest first; a batch always has one of these.
        workers: batches that run at once; each gets its share.
        kind_of: what the images of a batch have in common, for example how many steps they run.
        fill: fill the last batch up to the size of those before it: a compiled network knows that size.

    Returns:
        Batches that hold every image once, in order within their kind.
    """
    groups: dict[Hashable, list[ImageRequest]] = {}
    for item in images:
        groups.setdefault(kind_of(item), []).append(item)
    return [batch for group in groups.values() for batch in _cut(group, sizes, workers, fill)]


def _cut(group: list[ImageRequest], sizes: Sequence[int], workers: int, fill: bool) -> list[DenoisingBatch]:
    batches: list[DenoisingBatch] = []
    position = 0
    while position < len(group):
        left = len(group) - position
        share = -(-left // workers)
        rows = next((size for size in sizes if size <= share), sizes[-1])
        if fill and batches:
            rows = batches[0].rows
        batches.append(DenoisingBatch(group[position : position + rows], rows, sizes))
        position += rows
    return batches
