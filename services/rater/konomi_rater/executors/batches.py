"""What travels between a request and the actors: which images, and their vectors; never pixels.

A vector comes back in the answer as it was computed, float32, 2 KB of an image whose file has a hundred times as much:
half precision would make a taste's rows depend on where they were embedded, and an artifact of many would have to be
collected again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from konomi.errors import KonomiError
from konomi_rater.embedding.requests import Embedded

ROUNDS = 4
"""Batches an actor gets at least where there are images enough, so that a slow one can take fewer."""


@dataclass(frozen=True)
class DigestBatch:
    """Some images of a request.

    Attributes:
        start: position of the first of them in the request.
        digests: of the stored images, in order.
    """

    start: int
    digests: Sequence[str]


@dataclass(frozen=True)
class EmbeddedBatch:
    """What became of a batch: of each image its vector or what is wrong with it, or why the batch came to nothing."""

    results: Sequence[Embedded | KonomiError]
    error: KonomiError | None = None


def split(digests: Sequence[str], actors: int, most: int, kept: int) -> list[DigestBatch]:
    """Returns a request in batches of at most `most` images, in order.

    Args:
        digests: of all images.
        actors: that share them.
        most: images of a batch at most.
        kept: images of a pass, which is filled up where there are fewer: smaller batches would cost as much. A batch
            is whole passes, unless `most` is less than one.
    """
    share = math.ceil(len(digests) / (max(1, actors) * ROUNDS))
    size = max(1, min(most // kept * kept or most, math.ceil(share / kept) * kept))
    return [DigestBatch(start, list(digests[start : start + size])) for start in range(0, len(digests), size)]
