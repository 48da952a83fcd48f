"""SQLite's checksum of 32-bit words: the one of write-ahead log frames and the one cksumvfs puts on pages.

Word pairs (x, y) are summed as s0 += x + s1; s1 += y + s0, modulo 2³² (sqlite.org/fileformat2.html, section 4.2). Each
word counts by a weight that only its place decides, so the sum is two dot products instead of a loop over the words.
"""

import functools
import operator
import struct

MASK = 0xFFFFFFFF

Sums = tuple[int, int]


def checksum(data: bytes | memoryview, start: Sums = (0, 0), *, big_endian: bool = False) -> Sums:
    """Returns (s0, s1) over the data, each below 2³².

    Args:
        data: a multiple of 8 bytes.
        start: the sums so far.
        big_endian: byte order of the words, as the log's magic number says; pages are always little-endian.
    """
    first, second, (a, b, c, d) = _weights(len(data) // 4)
    words = struct.unpack(f"{'>' if big_endian else '<'}{len(data) // 4}I", data)
    s0 = sum(map(operator.mul, words, first)) + a * start[0] + b * start[1]
    s1 = sum(map(operator.mul, words, second)) + c * start[0] + d * start[1]
    return s0 & MASK, s1 & MASK


@functools.lru_cache(maxsize=16)
def _weights(words: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, int, int, int]]:
    """Returns each word's weight in s0 and in s1, and the 2 × 2 matrix that carries the start along, row by row."""
    first, second = [0] * words, [0] * words
    a, b, c, d = 1, 0, 0, 1
    for place in range(words - 2, -1, -2):
        first[place], second[place] = (a + b) & MASK, (c + d) & MASK
        first[place + 1], second[place + 1] = b, d
        a, b, c, d = (a + b) & MASK, (a + 2 * b) & MASK, (c + d) & MASK, (c + 2 * d) & MASK
    return tuple(first), tuple(second), (a, b, c, d)
