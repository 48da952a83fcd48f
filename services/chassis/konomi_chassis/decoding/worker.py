"""The disposable child that decodes images within hard limits; run as a script, never imported.

Reads a header (REQUEST) and the bytes from stdin; answers a header (ANSWER) on stdout, then a sentence or RGB rows.
"""

import ctypes
import io
import math
import os
import resource
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP")
STRIP_PIXELS = 1 << 20
REQUEST = struct.Struct("<QIIB")
"""Bytes that follow; the width and height the image is wanted in at least, both 0 for the whole image; 1 to squash."""
ANSWER = struct.Struct("<BBHIIII")
"""Kind, place in FORMATS, bytes of text that follow; the image's width and height; width and height of the rows."""
TOO_LARGE, UNREADABLE, IMAGE = 0, 1, 2
KEEP = 3
"""Pixels kept per pixel wanted; from 3 on a later resampling makes no difference (Pillow, reducing_gap)."""
LONGEST = 8
"""Of an image that is longer than this times its shorter side only the middle is handed over, unless it is squashed."""
DRAFT = 2
"""The same for JPEG, whose decoder shrinks by 2, 4 or 8 for less than nothing, and better than an average would."""
PR_SET_NO_NEW_PRIVS = 38
NOBODY = 65534
NICE = 5
SIDEWAYS = (5, 6, 7, 8)
Size = tuple[int, int]
Least = tuple[int, int, bool]
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")


def drop_privileges(memory_bytes: int) -> None:
    """Takes from this process what a decoder does not need: root, memory, files, sockets, core dumps.

    It ends with its parent without being told: its stdin closes.
    """
    os.nice(NICE)  # a person's label and a probe of health come before a picture
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() == 0:
        with suppress(OSError):  # a container may know no such user
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # stdin, stdout, stderr: no file, no socket


def allow_cpu(seconds: int) -> None:
    """Lets the next image use this many seconds of CPU; beyond them the kernel ends the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = math.ceil(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def open_image(data: bytes, max_pixels: int, least: Least) -> tuple[Image.Image, Size]:
    """Reads the header, then, if the size is allowed, the first frame; upright, no metadata; and its true size."""
    Image.MAX_IMAGE_PIXELS = None  # the check below is stricter and has a better sentence
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > max_pixels:
        raise OverflowError(f"{width} x {height} pixels")
    if least[0]:
        image.draft(None, (least[0] * DRAFT, least[1] * DRAFT))  # only JPEG takes the hint
    image.load()
    turn = image.getexif().get(0x0112, 1)
    if turn == 1:
        return image, (width, height)
    return ImageOps.exif_transpose(image), ((height, width) if turn in SIDEWAYS else (width, height))


def to_rgb(strip: Image.Image) -> Image.Image:
    """Returns 8-bit RGB: transparency over white, 16-bit grey scaled down."""
    if strip.mode.startswith("I"):
        strip = strip.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if strip.mode in TRANSPARENT or "transparency" in strip.info:
        strip = strip.convert("RGBA")
        ground = Image.new("RGBA", strip.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, strip).convert("RGB")
    return strip if strip.mode == "RGB" else strip.convert("RGB")


def middle(image: Image.Image) -> Image.Image:
    """Cuts the middle out of a very long image."""
    longest = LONGEST * min(image.size)
    width, height = min(image.width, longest), min(image.height, longest)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def factors(size: Size, least: Least) -> Size:
    """Returns by how much each side may be divided; the shape is kept unless the image is squashed."""
    if not least[0]:
        return 1, 1
    across, down = max(1, size[0] // (least[0] * KEEP)), max(1, size[1] // (least[1] * KEEP))
    return (across, down) if least[2] else (min(across, down), min(across, down))


def strips(image: Image.Image, factor: Size) -> Iterator[Image.Image]:
    """Yields an image as RGB from top to bottom, shrunk by whole factors; no second whole copy is ever held."""
    transparency = image.info.get("transparency")
    step = max(1, STRIP_PIXELS // image.width // factor[1]) * factor[1]
    for top in range(0, image.height, step):
        strip = image if step >= image.height else image.crop((0, top, image.width, min(image.height, top + step)))
        if transparency is not None:
            strip.info["transparency"] = transparency
        yield to_rgb(strip).reduce(factor) if factor != (1, 1) else to_rgb(strip)


def answer(data: bytes, max_pixels: int, least: Least, out: Any) -> None:
    """Decodes and writes one answer."""
    try:
        image, size = open_image(data, max_pixels, least)
        image = middle(image) if least[0] and not least[2] else image
    except OverflowError as error:
        _refuse(out, TOO_LARGE, str(error))
        return
    except Exception as error:  # noqa: BLE001  whatever a decoder raises on hostile bytes, the answer is the same
        _refuse(out, UNREADABLE, type(error).__name__)
        return
    place = FORMATS.index(image.format) if image.format in FORMATS else FORMATS.index(_format(data))
    across, down = factors(image.size, least)
    out.write(ANSWER.pack(IMAGE, place, 0, *size, -(-image.width // across), -(-image.height // down)))
    for strip in strips(image, (across, down)):
        out.write(strip.tobytes())
    out.flush()


def _format(data: bytes) -> str:
    return "PNG" if data[:1] == b"\x89" else "JPEG" if data[:1] == b"\xff" else "WEBP"


def _refuse(out: Any, kind: int, why: str) -> None:
    text = why.encode()[:200]
    out.write(ANSWER.pack(kind, 0, len(text), 0, 0, 0, 0) + text)
    out.flush()


def main(memory_bytes: int, cpu_seconds: int, max_pixels: int) -> None:
    """Answers until stdin ends."""
    Image.init()
    source, out = sys.stdin.buffer, sys.stdout.buffer
    drop_privileges(memory_bytes)
    while len(header := source.read(REQUEST.size)) == REQUEST.size:
        length, width, height, squash = REQUEST.unpack(header)
        data = source.read(length)
        allow_cpu(cpu_seconds)
        answer(data, max_pixels, (width, height, bool(squash)), out)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
