"""What a call brings, said before it is sent: bytes of its message, and pixels of the images in it, by their headers.

A server that has no room for it then refuses the call while the images are still here.
"""

import struct
from collections.abc import Iterator

from google.protobuf.message import Message

BYTES_KEY, PIXELS_KEY = "konomi-bytes", "konomi-pixels"
"""Metadata of a call."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG behind which its size stands (ITU T.81, table B.1)."""


def load_metadata(message: Message) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that says what a message brings."""
    said = ((BYTES_KEY, str(message.ByteSize())),)
    images = list(_inline_images(message))
    if not images:
        return said
    return (*said, (PIXELS_KEY, str(sum(pixels(image) for image in images))))


def pixels(data: bytes) -> int:
    """Returns how many pixels an encoded PNG, JPEG or WebP has, as its header says; 0 where it says nothing."""
    try:
        width, height = _size(data)
    except (struct.error, IndexError):
        return 0
    return width * height


def _inline_images(message: Message) -> Iterator[bytes]:
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.full_name == "konomi.v1.ImageInput":
            for image in value if field.is_repeated else (value,):
                if image.content:
                    yield image.content


def _size(data: bytes) -> tuple[int, int]:
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    if data[:3] == b"\xff\xd8\xff":
        return _jpeg_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker in FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8 ":  # RFC 6386, 9.1: 14 bits each, behind the frame's tag and start code
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return 0, 0
