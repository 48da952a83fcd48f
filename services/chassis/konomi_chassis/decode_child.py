"""The disposable child that decodes images within hard limits; run as a script, never imported.

Reads `length: u64 little endian, bytes` from stdin; answers one JSON line on stdout, then, for an image, its RGB rows.
"""

import ctypes
import io
import json
import math
import os
import resource
import struct
import sys
from contextlib import suppress
from typing import Any

from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP")
STRIP_PIXELS = 1 << 20
PR_SET_NO_NEW_PRIVS = 38
NOBODY = 65534
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")


def limit(memory_bytes: int) -> None:
    """Takes from this process what a decoder does not need: root, memory, files, sockets, core dumps.

    It ends with its parent without being told: its stdin closes.
    """
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


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the header, then, if the size is allowed, the first frame; upright, no metadata."""
    Image.MAX_IMAGE_PIXELS = None  # the check below is stricter and has a better sentence
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > max_pixels:
        raise OverflowError(f"{width} x {height} pixels")
    image.load()
    return ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image


def to_rgb(strip: Image.Image) -> Image.Image:
    """Returns 8-bit RGB: transparency over white, 16-bit grey scaled down."""
    if strip.mode.startswith("I"):
        strip = strip.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if strip.mode in TRANSPARENT or "transparency" in strip.info:
        strip = strip.convert("RGBA")
        ground = Image.new("RGBA", strip.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, strip).convert("RGB")
    return strip if strip.mode == "RGB" else strip.convert("RGB")


def answer(data: bytes, max_pixels: int, out: Any) -> None:
    """Decodes and writes one answer; strip by strip, so that no second whole copy is ever held."""
    try:
        image = open_image(data, max_pixels)
    except OverflowError as error:
        _say(out, error="IMAGE_TOO_LARGE", message=str(error))
        return
    except Exception as error:  # noqa: BLE001  whatever a decoder raises on hostile bytes, the answer is the same
        _say(out, error="IMAGE_UNREADABLE", message=type(error).__name__)
        return
    width, height = image.size
    transparency = image.info.get("transparency")
    _say(out, format=image.format or _format(data), width=width, height=height)
    step = max(1, STRIP_PIXELS // width)
    for top in range(0, height, step):
        strip = image.crop((0, top, width, min(height, top + step)))
        if transparency is not None:
            strip.info["transparency"] = transparency
        out.write(to_rgb(strip).tobytes())
    out.flush()


def _format(data: bytes) -> str:
    return "PNG" if data[:1] == b"\x89" else "JPEG" if data[:1] == b"\xff" else "WEBP"


def _say(out: Any, **fields: Any) -> None:
    out.write(json.dumps(fields).encode() + b"\n")
    out.flush()


def main(memory_bytes: int, cpu_seconds: int, max_pixels: int) -> None:
    """Answers until stdin ends."""
    Image.init()
    source, out = sys.stdin.buffer, sys.stdout.buffer
    limit(memory_bytes)
    while len(header := source.read(8)) == 8:
        data = source.read(struct.unpack("<Q", header)[0])
        allow_cpu(cpu_seconds)
        answer(data, max_pixels, out)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
