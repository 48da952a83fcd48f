"""The disposable child that makes thumbnails within hard limits; run as a script, never imported.

Reads `side: u32, length: u64, bytes` (little endian) from stdin; answers `length: u64, bytes` on stdout: a WebP, or
nothing where the image cannot be read.
"""

import io
import math
import os
import resource
import struct
import sys
from contextlib import suppress

from PIL import AvifImagePlugin, Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
FAULTS = (
    *(OSError, ValueError, SyntaxError, MemoryError, ZeroDivisionError, struct.error, LookupError),
    *(RuntimeError, EOFError, TypeError, AttributeError, OverflowError),
)
"""What the decoders raise on files that are not what they seem."""
MEMORY_BYTES = 768 * 1024 * 1024
MAX_PIXELS = 50_000_000
CPU_SECONDS = 5


def register_heif() -> None:
    """Lets Pillow read HEIC where its decoder is installed; before the limits forbid opening files."""
    with suppress(ImportError):
        from pi_heif import register_heif_opener

        register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)


def limit() -> None:
    """Takes memory, files and sockets beyond what a thumbnail needs from this process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


def allow_cpu() -> None:
    """Lets the next image use some seconds of CPU; beyond them the kernel ends the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = math.ceil(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_SECONDS, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def shrink(data: bytes, side: int) -> bytes:
    """Returns a WebP whose longest side is at most `side` pixels, upright, without metadata; empty if unreadable."""
    Image.MAX_IMAGE_PIXELS = None  # the check below is stricter
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            return b""
        image.draft("RGB", (side * 3 // 2, side * 3 // 2))  # a JPEG is decoded smaller; the rest is resampled well
        image = ImageOps.exif_transpose(image)
        mode = "RGBA" if image.has_transparency_data else "RGB"
        small = image.convert(mode)
        if image.mode not in ("L", "RGB", "RGBA", "P"):
            small.info.pop("icc_profile", None)  # it speaks of other colours than these now are; others travel along
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        small.save(out, "WEBP", quality=86, method=2)
        return out.getvalue()
    except FAULTS:
        return b""


def main() -> None:
    """Serves images until stdin ends."""
    Image.init()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    register_heif()
    for form in ("WEBP", "GIF", "TIFF"):  # loads what each imports at its first before the limits forbid opening files
        first = io.BytesIO()
        Image.new("RGB", (8, 8)).save(first, form)
        Image.open(io.BytesIO(first.getvalue())).load()
    limit()
    source, out = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(12)) == 12:
        side, length = struct.unpack("<IQ", head)
        allow_cpu()
        small = shrink(source.read(length), side)
        out.write(struct.pack("<Q", len(small)) + small)
        out.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
