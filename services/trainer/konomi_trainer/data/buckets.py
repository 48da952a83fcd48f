"""Buckets of images by aspect ratio, and which images each step takes; every choice depends on its arguments alone.

An image's bucket depends on its own size and the base model's, never on the rest of a set, so its cached latent serves
every set.
"""

import math

import numpy as np

WIDEST = 2.0
ORDER, SCHEDULE = 1, 2
Size = tuple[int, int]
"""Height and width, pixels."""


def sizes(side: int, step: int) -> tuple[Size, ...]:
    """Returns the sizes of buckets: multiples of `step` with at most the area side², as near to it as they can be.

    Args:
        side: of the square the base model was made for.
        step: what both sides are multiples of.
    """
    shapes = {(side, side)}
    for width in range(step, int(side * WIDEST) + 1, step):
        height = side * side // width // step * step
        if height and max(width / height, height / width) <= WIDEST:
            shapes.add((height, width))
    return tuple(sorted(shapes))


def nearest(height: int, width: int, choices: tuple[Size, ...]) -> Size:
    """Returns the bucket whose aspect ratio is nearest to an image's; of equals the one with the larger area."""
    aspect = math.log(width / height)
    return min(choices, key=lambda size: (abs(math.log(size[1] / size[0]) - aspect), -size[0] * size[1], size))


def bucket_of(counts: tuple[int, ...], seed: int, group: int) -> tuple[int, int]:
    """Returns the bucket of a group of images, and how many groups that bucket had before.

    In every run of sum(counts) groups each bucket comes counts[b] times, in an order drawn from the seed, so every
    image is seen as often as every other.

    Args:
        counts: images in each bucket, in the buckets' order.
        seed: of the run.
        group: number of the group, from 0.
    """
    if len(counts) == 1:
        return 0, group
    total = sum(counts)
    period, place = divmod(group, total)
    labels = np.repeat(np.arange(len(counts)), counts)
    row = labels[np.random.default_rng([seed & (2**64 - 1), SCHEDULE, period]).permutation(total)]
    bucket = int(row[place])
    return bucket, period * counts[bucket] + int((row[:place] == bucket).sum())


def order(count: int, seed: int, stream: tuple[int, ...], first: int, size: int) -> np.ndarray:
    """Returns (size,) indices at positions first… of the endless row of shuffled epochs.

    Args:
        count: images.
        seed: of the run.
        stream: tells rows of the same seed apart.
        first: position of the first index.
        size: how many.
    """
    epochs = range(first // count, (first + size - 1) // count + 1)
    rows = [np.random.default_rng([seed & (2**64 - 1), ORDER, epoch, *stream]).permutation(count) for epoch in epochs]
    return np.concatenate(rows)[first % count :][:size]
