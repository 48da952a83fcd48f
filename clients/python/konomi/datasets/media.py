"""What an image file is: its bytes, the media type its first bytes tell, and what stood beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from konomi.errors import InvalidArgument, KonomiError
from konomi.i18n.catalogue import text

MAX_IMAGE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class ImageFile:
    """One image found: its bytes and media type, or why it could not be read.

    Attributes:
        caption: what a file beside it says it shows; empty where there is none.
        facts: what a row of metadata says of it, for example "grade" or "seed".
    """

    name: str
    data: bytes = b""
    media_type: str = ""
    error: KonomiError | None = None
    caption: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def media_type_of(head: bytes) -> str:
    """Returns the media type the first 12 bytes tell; empty when they are no PNG, JPEG or WebP."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else ""


def image_file(name: str, data: bytes, caption: str = "", facts: Mapping[str, Any] | None = None) -> ImageFile:
    """Returns an image, or its error where it is too large or none."""
    if len(data) > MAX_IMAGE_BYTES:
        message = text("expected at most {most} MiB, got more; shrink it first", most=MAX_IMAGE_BYTES // 1024**2)
        return ImageFile(name, error=InvalidArgument(message, reason="IMAGE_TOO_LARGE"))
    media_type = media_type_of(data[:12])
    if not media_type:
        return ImageFile(name, error=not_an_image())
    return ImageFile(name, data, media_type, None, caption, facts or {})


def not_an_image() -> InvalidArgument:
    """Returns the error of a file that was named and is no image."""
    return InvalidArgument(text("expected a PNG, JPEG or WebP image, got something else"), reason="IMAGE_TYPE")
