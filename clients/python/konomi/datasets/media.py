"""What an image file is: its bytes, the media type its first bytes tell, and what stood beside it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from konomi.datasets.beside import Beside
from konomi.datasets.xmp import NO_RATING, Rating
from konomi.errors import InvalidArgument, KonomiError
from konomi.i18n.catalogue import text

MAX_IMAGE_BYTES = 32 * 1024 * 1024
HEAD_BYTES = 12
"""Bytes that tell what an image is."""

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of the images konomi reads: under one of them, bytes of another kind are a fault."""

UNREAD_PICTURES = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".gif", ".bmp", ".tif", ".tiff", ".psd", ".svg")
RAW_PICTURES = (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2")
UNREAD_ARCHIVES = (".zip", ".tar", ".parquet", ".rar", ".7z", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".cbz", ".cbr")
OTHERS = frozenset({*UNREAD_PICTURES, *RAW_PICTURES, *UNREAD_ARCHIVES})
"""Endings of pictures konomi does not read and of archives that may hold some: passed over, and counted."""


@dataclass(frozen=True)
class ImageFile:
    """One image found: its bytes and media type, or why it could not be read.

    Attributes:
        caption: what a file beside it says it shows; None where none does, empty where it has no caption.
        facts: what a row of metadata says of it, for example "grade" or "seed".
        rating: what a row or a sidecar says of its grade.
    """

    name: str
    data: bytes = b""
    media_type: str = ""
    error: KonomiError | None = None
    caption: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    rating: Rating = NO_RATING


def media_type_of(head: bytes) -> str:
    """Returns the media type the first 12 bytes tell; empty when they are no PNG, JPEG or WebP."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else ""


def image_file(name: str, data: bytes, beside: Beside | None = None) -> ImageFile:
    """Returns an image, or its error where it is too large or none."""
    if len(data) > MAX_IMAGE_BYTES:
        message = text("expected at most {most} MiB, got more; shrink it first", most=MAX_IMAGE_BYTES // 1024**2)
        return ImageFile(name, error=InvalidArgument(message, reason="IMAGE_TOO_LARGE"))
    media_type = media_type_of(data[:HEAD_BYTES])
    if not media_type:
        return ImageFile(name, error=not_an_image())
    about = beside or Beside()
    return ImageFile(name, data, media_type, None, about.caption, about.facts, about.rating)


def not_an_image() -> InvalidArgument:
    """Returns the error of a file that was named and is no image."""
    return InvalidArgument(text("expected a PNG, JPEG or WebP image, got something else"), reason="IMAGE_TYPE")


def ending_of(name: str) -> str:
    """Returns the ending of a file's name in small letters, with its dot; empty where it has none."""
    _, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if dot else ""


def pass_over(name: str, passed_over: Counter[str]) -> ImageFile | None:
    """Counts a file whose bytes are no image; returns its error where its name says that it is one."""
    ending = ending_of(name)
    if ending in OTHERS:
        passed_over[ending] += 1
    return ImageFile(name, error=not_an_image()) if ending in PICTURES else None
