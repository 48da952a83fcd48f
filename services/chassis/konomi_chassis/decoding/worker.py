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
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from PIL import AvifImagePlugin, Image, ImageCms, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
PROFILED = ("TIFF", "AVIF", "HEIF")
"""Formats whose colour profile is applied: phones write Display P3 into them. The others are read as sRGB, as ever."""
MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "I"})
"""Modes that become RGB, besides 16 bits of grey; others, such as numbers with a fraction, have no scale."""
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
Colours = Callable[[Image.Image], Image.Image]
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")


class ModeNotRead(ValueError):
    """The image is of a mode that has no scale, such as numbers with a fraction, or of another colour space."""


def warm() -> None:
    """Reads an image of each format that imports something at its first: no file can be opened later."""
    for form, options in (("GIF", {}), ("TIFF", {"compression": "tiff_lzw"})):
        file = io.BytesIO()
        Image.new("L", (2, 2)).save(file, form, **options)
        Image.open(file).load()
    ImageCms.createProfile("sRGB")


def register_heif() -> None:
    """Lets Pillow read HEIC, on this one thread and without what else such a file may hold; before the limits."""
    import pi_heif

    pi_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)


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


def open_image(data: bytes, max_pixels: int, least: Least) -> tuple[Image.Image, Size, str]:
    """Reads the header, then, if the size is allowed, the first frame; upright, no metadata; its true size and format.

    Raises:
        OverflowError: it has more pixels than allowed.
        ModeNotRead: it has no colours that become RGB.
    """
    Image.MAX_IMAGE_PIXELS = None  # the check below is stricter and has a better sentence
    image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    form = image.format if image.format in FORMATS else "JPEG"  # Pillow calls a JPEG of several pictures MPO
    if width * height > max_pixels:
        raise OverflowError(f"{width} x {height} pixels")
    if least[0]:
        image.draft(None, (least[0] * DRAFT, least[1] * DRAFT))  # only JPEG takes the hint
    image.load()
    if image.mode not in MODES and not image.mode.startswith("I;16"):
        raise ModeNotRead(image.mode)
    turn = image.getexif().get(0x0112, 1)
    if turn == 1:
        return image, (width, height), form
    size = (height, width) if turn in SIDEWAYS else (width, height)
    return ImageOps.exif_transpose(image), size, form


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


def colours(image: Image.Image, form: str) -> Colours:
    """Returns what brings a strip of an image to sRGB by its colour profile; nothing where it has none that fits."""
    profile = image.info.get("icc_profile")
    if form not in PROFILED or not profile or image.mode not in ("L", "RGB", "RGBA", "CMYK"):
        return lambda strip: strip
    target = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), image.mode, target)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a profile that fits no such image
        return lambda strip: strip

    def convert(strip: Image.Image) -> Image.Image:
        return ImageCms.applyTransform(strip, transform) or strip

    return convert


def strips(image: Image.Image, factor: Size, to_srgb: Colours) -> Iterator[Image.Image]:
    """Yields an image as RGB from top to bottom, shrunk by whole factors; no second whole copy is ever held."""
    transparency = image.info.get("transparency")
    step = max(1, STRIP_PIXELS // image.width // factor[1]) * factor[1]
    for top in range(0, image.height, step):
        strip = image if step >= image.height else image.crop((0, top, image.width, min(image.height, top + step)))
        if transparency is not None:
            strip.info["transparency"] = transparency
        strip = to_rgb(to_srgb(strip))
        yield strip.reduce(factor) if factor != (1, 1) else strip


def answer(data: bytes, max_pixels: int, least: Least, out: Any) -> None:
    """Decodes and writes one answer."""
    try:
        image, size, form = open_image(data, max_pixels, least)
        to_srgb = colours(image, form)
        image = middle(image) if least[0] and not least[2] else image
    except OverflowError as error:
        _refuse(out, TOO_LARGE, str(error))
        return
    except Exception as error:  # noqa: BLE001  whatever a decoder raises on hostile bytes, the answer is the same
        _refuse(out, UNREADABLE, type(error).__name__)
        return
    place = FORMATS.index(form)
    across, down = factors(image.size, least)
    out.write(ANSWER.pack(IMAGE, place, 0, *size, -(-image.width // across), -(-image.height // down)))
    for strip in strips(image, (across, down), to_srgb):
        out.write(strip.tobytes())
    out.flush()


def _refuse(out: Any, kind: int, why: str) -> None:
    text = why.encode()[:200]
    out.write(ANSWER.pack(kind, 0, len(text), 0, 0, 0, 0) + text)
    out.flush()


def main(memory_bytes: int, cpu_seconds: int, max_pixels: int, heif: int) -> None:
    """Answers until stdin ends; `heif` is 1 in a child that reads HEIC, whose library takes a while to load."""
    Image.init()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if heif:
        register_heif()
    warm()
    source, out = sys.stdin.buffer, sys.stdout.buffer
    drop_privileges(memory_bytes)
    while len(header := source.read(REQUEST.size)) == REQUEST.size:
        length, width, height, squash = REQUEST.unpack(header)
        data = source.read(length)
        allow_cpu(cpu_seconds)
        answer(data, max_pixels, (width, height, bool(squash)), out)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]))
