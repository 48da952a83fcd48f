"""The record NovelAI and some web UIs hide in a PNG's pixels, one bit a sample, column by column ("stealth pnginfo").

The lowest bits of the alpha samples, or of red, green and blue, spell a mark of 15 letters, the length of what follows
in bits (32, big-endian) and that many bits of text, gzipped or plain. Only the columns that hold it are unfiltered, so
a large picture costs little more than its inflation.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import islice

from konomi.datasets.spelling import decoded

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MARKS = {b"stealth_pnginfo": False, b"stealth_pngcomp": True, b"stealth_rgbinfo": False, b"stealth_rgbcomp": True}
"""Mark to whether the text is gzipped."""
HEAD_BITS = 15 * 8 + 32
MAX_TEXT_BYTES = 4 * 1024 * 1024
MAX_PIXELS = 50_000_000
CHANNELS = {2: 3, 6: 4}
"""PNG colour type to samples a pixel; the others hide nothing."""


def stealth_text(data: bytes) -> str | None:
    """Returns the text hidden in a PNG's pixels; None where there is none, empty where it cannot be read."""
    shape = _shape(data)
    if shape is None:
        return None
    width, height, channels = shape
    for samples in ((3,), (0, 1, 2)) if channels == 4 else ((0, 1, 2),):
        head = _bits(data, shape, samples, HEAD_BITS)
        if head is None or head[:15] not in MARKS:
            continue
        length = int.from_bytes(head[15:19], "big")
        if length > min(MAX_TEXT_BYTES * 8, width * height * len(samples) - HEAD_BITS):
            return ""
        body = (_bits(data, shape, samples, HEAD_BITS + length) or b"")[19:]
        return decoded(_inflated(body) if MARKS[head[:15]] else body) or ""
    return None


def _shape(data: bytes) -> tuple[int, int, int] | None:
    """Returns width, height and samples a pixel of a PNG of 8 bits a sample that is stored row by row."""
    if not data.startswith(SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if depth != 8 or interlaced or colour not in CHANNELS or not 0 < width * height <= MAX_PIXELS:
        return None
    return width, height, CHANNELS[colour]


def _bits(data: bytes, shape: tuple[int, int, int], samples: tuple[int, ...], count: int) -> bytes | None:
    """Returns the first bits in the lowest places of some samples, column by column, as bytes; None where too few."""
    width, height, channels = shape
    columns = min(width, -(-count // (height * len(samples))))
    if columns * height * len(samples) < count:
        return None
    wanted = min(height, -(-count // len(samples)))  # the mark alone stands in the first column's first rows
    rows = list(islice(_rows(data, width, height, channels, columns * channels), wanted))
    if len(rows) < wanted:
        return None
    pixels = [[column * channels + sample for sample in samples] for column in range(columns)]
    bits = [row[place] & 1 for pixel in pixels for row in rows for place in pixel]
    whole = count // 8 * 8
    return int("".join(map(str, bits[:whole])), 2).to_bytes(whole // 8, "big")


def _rows(data: bytes, width: int, height: int, channels: int, kept: int) -> Iterator[bytearray]:
    """Yields the first `kept` bytes of each row, unfiltered (PNG specification, 9): no byte needs one right of it."""
    before = bytearray(kept)
    buffer, size, inflator = bytearray(), width * channels + 1, zlib.decompressobj()
    left = height
    for packed in _image_data(data):
        try:
            while packed and left:
                buffer += inflator.decompress(packed, 1 << 20)
                packed = inflator.unconsumed_tail
                while len(buffer) >= size and left:
                    before = _unfiltered(buffer[0], buffer[1 : 1 + kept], before, channels)
                    yield before
                    del buffer[:size]
                    left -= 1
        except zlib.error:
            return


def _unfiltered(kind: int, row: bytearray, above: bytearray, step: int) -> bytearray:
    """Returns a row as it was before one of the five filters."""
    if kind == 2:
        return bytearray((value + up) & 255 for value, up in zip(row, above, strict=True))
    if kind not in (1, 3, 4):
        return row
    for at in range(len(row)):
        left = row[at - step] if at >= step else 0
        up, corner = above[at], above[at - step] if at >= step else 0
        if kind == 1:
            guess = left
        elif kind == 3:
            guess = (left + up) // 2
        else:
            away = (abs(up - corner), abs(left - corner), abs(left + up - 2 * corner))
            guess = (left, up, corner)[away.index(min(away))]
        row[at] = (row[at] + guess) & 255
    return row


def _image_data(data: bytes) -> Iterator[bytes]:
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        elif kind == b"IEND":
            return
        at += 12 + length


def _inflated(body: bytes) -> bytes:
    inflator = zlib.decompressobj(wbits=31)
    try:
        return inflator.decompress(body, MAX_TEXT_BYTES)
    except zlib.error:
        return b""
