"""What an image file is: its bytes, the media type its first bytes tell, and what stood beside it."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import category

from konomi.datasets.beside import Beside
from konomi.datasets.xmp import NO_RATING, Rating
from konomi.errors import InvalidArgument, KonomiError
from konomi.i18n.catalogue import text

MAX_IMAGE_BYTES = 32 * 1024 * 1024
HEAD_BYTES = 12
"""Bytes that tell what an image is."""

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
"""Endings of the images konomi reads: under one of them, bytes of another kind are a fault."""

UNREAD_PICTURES = (".jxl", ".jp2", ".psd", ".svg", ".xcf", ".kra", ".clip", ".exr", ".ico")
RAW_PICTURES = (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr", ".iiq")
"""Endings of cameras' own files; many begin as a TIFF does, and hold a small picture where that would be looked for."""
UNREAD_ARCHIVES = (".zip", ".tar", ".parquet", ".rar", ".7z", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".cbz", ".cbr")
OTHERS = frozenset({*UNREAD_PICTURES, *RAW_PICTURES, *UNREAD_ARCHIVES})
"""Endings of pictures konomi does not read and of archives that may hold some: passed over, and counted."""


SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)
"""First bytes to media type."""

BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "image/heic"),
    **dict.fromkeys((b"mif1", b"msf1"), "image/heif"),
}
"""Brand of an ISO base media file (ISO/IEC 23008-12) to media type."""

ENDINGS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tif",
    "image/avif": ".avif",
    "image/heic": ".heic",
    "image/heif": ".heif",
}
"""Media type to the ending a file of it gets."""

KINDS = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, HEIC"
"""What konomi reads, for people."""


@dataclass(frozen=True)
class ImageFile:
    """One image found: its bytes and media type, or why it could not be read.

    Attributes:
        caption: what a file beside it says it shows; None where none does, empty where it has no caption.
        facts: what a row of metadata says of it, for example "grade" or "seed".
        rating: what a row or a sidecar says of its grade.
        path: what lay where, as the folder or archive that was searched names it; never a path of the machine.
    """

    name: str
    data: bytes = b""
    media_type: str = ""
    error: KonomiError | None = None
    caption: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    rating: Rating = NO_RATING
    path: str = ""


def media_type_of(head: bytes) -> str:
    """Returns the media type the first 12 bytes tell; empty when they are none of an image konomi reads."""
    for signature, media_type in SIGNATURES:
        if head.startswith(signature):
            return media_type
    if head[:4] == b"RIFF":
        return "image/webp" if head[8:12] == b"WEBP" else ""
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "")
    return "image/bmp" if head[:2] == b"BM" and head[6:10] == bytes(4) else ""


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


MAX_PATH_BYTES = 1024


UNSEEN = ("Cc", "Cs", "Zl", "Zp")
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Letters that make others be read backwards: "exe.gnp" would look like a picture."""
ROOT = re.compile(r"^(?:[A-Za-z]:)?[\\/]+")
"""How a path of a machine begins."""


def path_below(name: str, folder: Path) -> str:
    """Returns the name of an image as the folder that was searched has it: at most so many bytes, fit to be shown.

    Of a longer one the outermost folders are left out, and so is what would lead out of the folder; letters no text has
    and those that turn the reading become a question mark.
    """
    prefix = f"{folder}/"
    below = name.removeprefix(prefix) if name.startswith(prefix) else name
    plain = below.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    plain = "".join("\ufffd" if category(letter) in UNSEEN or letter in TURNING else letter for letter in plain)
    plain = _inside(plain)
    while len(plain.encode()) > MAX_PATH_BYTES:
        _, slash, rest = plain.partition("/")
        plain = rest if slash else plain.encode()[-MAX_PATH_BYTES:].decode("utf-8", "ignore")
    while (inside := _inside(plain)) != plain:  # what was cut off may have covered it
        plain = inside
    return plain


def _inside(path: str) -> str:
    """Returns a path without what leads out of a folder: the root it begins with, and ".."."""
    return ROOT.sub("", "/".join(part for part in path.split("/") if part not in ("", ".", "..")))


def not_an_image() -> InvalidArgument:
    """Returns the error of a file that was named and is no image."""
    line = text("expected an image ({kinds}), got something else", kinds=KINDS)
    return InvalidArgument(line, reason="IMAGE_TYPE")


def is_raw(name: str) -> bool:
    """Says whether a file is a camera's own, whatever its first bytes look like."""
    return ending_of(name) in RAW_PICTURES


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
