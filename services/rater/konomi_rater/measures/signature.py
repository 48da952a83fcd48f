"""Signatures of embeddings: bits whose differences say how alike two images are, small enough to send and to keep.

Each bit is the side of a random hyperplane an embedding lies on. Two unit vectors at an angle `a` differ in a bit with
probability `a / pi` (Goemans and Williamson 1995; as a hash of similarity, Charikar, STOC 2002), so that the share of
differing bits estimates the angle: at the cosine of a near-copy, .95, within .03 for 1024 bits (one standard deviation
of the angle is .0094 of pi).
"""

from functools import lru_cache

import numpy as np

BITS = 1024
"""Hyperplanes, and bits of a signature."""
SEED = 0x6B6F6E6F6D69
"""Of the hyperplanes; another one makes every signature that was kept anywhere worthless."""
WIDTHS = 4
"""Widths of embeddings whose hyperplanes are kept at most."""


@lru_cache(WIDTHS)
def _hyperplanes(width: int) -> np.ndarray:
    """Returns the normals of the hyperplanes: (width, BITS) float32, the same in every process."""
    return np.random.Generator(np.random.PCG64(SEED)).standard_normal((width, BITS)).astype(np.float32)


def signatures(embeddings: np.ndarray) -> list[bytes]:
    """Returns the signature of every row, 128 bytes each, its first bit the highest of its first byte.

    Args:
        embeddings: (N, D) rows; their length does not matter, their direction does.

    Returns:
        N signatures, in order; equal rows have equal ones, on any machine but for the rounding of a sum near zero.
    """
    if not len(embeddings):
        return []
    # a side is a sign, so that neither the length of a row nor that of a normal counts
    sides = embeddings.astype(np.float32) @ _hyperplanes(embeddings.shape[1]) > 0
    return [row.tobytes() for row in np.packbits(sides, axis=1)]
