"""What EXIF says of an image in words: comments, descriptions and a rating, read with the standard library alone.

EXIF (CIPA DC-008) is a TIFF directory, in a JPEG's APP1, a WebP's EXIF chunk, a PNG's eXIf or an item of a
HEIC or AVIF. Only the tags below are
looked at, each at most `MAX_BYTES`; a malformed directory says nothing.
"""

import re
import struct
from collections.abc import Iterator

from konomi.datasets.spelling import decoded

MAX_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 1000
MAX_SEGMENTS = 1000

TIFF_HEAD = re.compile(rb"II\*\0\x08\0\0\0|MM\0\*\0\0\0\x08")
"""How a TIFF begins whose directory follows at once, as that of every EXIF block that is written does."""

EXIF_DIRECTORY = 0x8769
DESCRIPTION, USER_COMMENT, RATING, XP_TITLE, XP_COMMENT = 0x010E, 0x9286, 0x4746, 0x9C9B, 0x9C9C
TEXTS = {
    DESCRIPTION: "ImageDescription",
    USER_COMMENT: "UserComment",
    XP_TITLE: "XPTitle",
    XP_COMMENT: "XPComment",
}
"""Tags in which tools keep how an image was made."""

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4}
"""TIFF type to the bytes of a value; the others hold no words."""

ASCII, UNICODE, JIS, UNDEFINED = b"ASCII\0\0\0", b"UNICODE\0", b"JIS\0\0\0\0\0", bytes(8)
"""Character codes a UserComment may begin with; many tools write UTF-8 behind ASCII, and UTF-16 in either order."""


def exif_block(data: bytes) -> bytes:
    """Returns the TIFF bytes of the EXIF in an image; empty where there are none. A TIFF is its own."""
    if data.startswith((b"II*\0", b"MM\0*")):
        return data
    if data[4:8] == b"ftyp":  # HEIC and AVIF keep it as an item anywhere in the file (ISO/IEC 23008-12, annex A)
        return data[match.start() :] if (match := TIFF_HEAD.search(data)) else b""
    if data.startswith(b"\xff\xd8"):
        blocks = (body[6:] for kind, body in _segments(data) if kind == 0xE1 and body.startswith(b"Exif\0\0"))
        return next(blocks, b"")
    if data.startswith(b"RIFF"):
        block = next((body for kind, body in _chunks(data[12:], "<4sI", 0) if kind == b"EXIF"), b"")
        return block.removeprefix(b"Exif\0\0")
    if data.startswith(b"\x89PNG"):
        return next((body for kind, body in _chunks(data[8:], ">I4s", 4) if kind == b"eXIf"), b"")
    return b""


def exif_texts(data: bytes) -> dict[str, str | None]:
    """Returns the texts of an image's EXIF by the name of their tag; None where one says its code and is not in it."""
    texts: dict[str, str | None] = {}
    for tag, value in _tags(exif_block(data)):
        if tag in TEXTS and isinstance(value, bytes) and value.strip(b"\0 "):
            coded = tag == USER_COMMENT and value.startswith((ASCII, UNICODE, JIS))
            text = _comment(value) if tag == USER_COMMENT else _plain(value, windows=tag in (XP_TITLE, XP_COMMENT))
            if text or (coded and text is None):
                texts.setdefault(TEXTS[tag], text)
    return texts


def exif_rating(data: bytes) -> int | None:
    """Returns the stars Windows writes into an image's EXIF, as they stand there; None where there are none."""
    return next((value for tag, value in _tags(exif_block(data)) if tag == RATING and isinstance(value, int)), None)


def _comment(value: bytes) -> str | None:
    """Returns a UserComment: 8 bytes name the character code, then the text; some tools leave the 8 bytes out."""
    body = value[8:]
    if value.startswith(JIS):
        try:
            return body.decode("iso2022_jp").strip("\0 ")
        except UnicodeDecodeError:
            return None
    return _plain(body if value.startswith((ASCII, UNICODE, UNDEFINED)) else value, windows=value.startswith(UNICODE))


def _plain(value: bytes, *, windows: bool) -> str | None:
    """Returns a text that ends where zeros follow; Windows' are UTF-16, whose order of bytes `decoded` finds."""
    if windows:
        value = value[: len(value) // 2 * 2]
        while value.endswith(b"\0\0"):
            value = value[:-2]
    else:
        value = value.rstrip(b"\0 ")
    text = decoded(value)
    return None if text is None else text.strip("\0 ")


def _tags(block: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yields tag and value of the first directory and of the EXIF directory it points to."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return
    directories = [struct.unpack(f"{order}I", block[4:8])[0]]
    seen: set[int] = set()
    while directories:
        at = directories.pop()
        if at in seen or at + 2 > len(block):
            continue
        seen.add(at)
        (count,) = struct.unpack(f"{order}H", block[at : at + 2])
        for entry in range(at + 2, at + 2 + 12 * min(count, MAX_ENTRIES), 12):
            if entry + 12 > len(block):
                return
            tag, kind, number = struct.unpack(f"{order}HHI", block[entry : entry + 8])
            value = _value(block, order, kind, number, entry + 8)
            if tag == EXIF_DIRECTORY and isinstance(value, int) and len(seen) < 2:
                directories.append(value)
            elif value is not None:
                yield tag, value


def _value(block: bytes, order: str, kind: int, number: int, at: int) -> bytes | int | None:
    """Returns a value: a number where it is one short or long, else its bytes; None where it lies outside."""
    size = SIZES.get(kind, 0) * number
    if not 0 < size <= MAX_BYTES:
        return None
    if kind in (3, 4) and number == 1:
        return int(struct.unpack(f"{order}{'H' if kind == 3 else 'I'}", block[at : at + SIZES[kind]])[0])
    start = at if size <= 4 else struct.unpack(f"{order}I", block[at : at + 4])[0]
    return block[start : start + size] if start + size <= len(block) else None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields marker and body of a JPEG's segments before the picture itself."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] in (0xDA, 0xD9):
            return
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def _chunks(data: bytes, form: str, trailer: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields kind and body of a RIFF's or a PNG's chunks; RIFF pads to even lengths, PNG adds a checksum."""
    at = 0
    for _ in range(MAX_SEGMENTS * 10):
        if at + 8 > len(data):
            return
        first, second = struct.unpack(form, data[at : at + 8])
        kind, length = (first, second) if isinstance(first, bytes) else (second, first)
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + (trailer or length % 2)
