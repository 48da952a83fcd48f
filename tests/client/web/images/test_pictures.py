"""Pictures as the page shows them, from real files by the real child: thumbnails, originals, and what is no image."""

import asyncio
import io
import struct
import zlib
from types import SimpleNamespace

import pytest
from PIL import Image
from starlette.requests import Request

from konomi.errors import InvalidArgument, Unavailable
from konomi.host.thumbnails import Shrinker
from konomi.web.images import ImageEndpoints
from tests.chassis.decoding.fox import FOX_HEIC


def png(width: int, height: int, body: bytes | None = None) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (3 * width + 1) * height) if body is None else body
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture
def shrinker():
    shrinker = Shrinker()
    yield shrinker
    shrinker.close()


def test_a_thumbnail_is_a_small_webp_without_metadata(shrinker):
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "<script>alert(1)</script>"
    exif[0x0112] = 6
    Image.new("RGB", (900, 600), "red").save(out, "JPEG", exif=exif)
    small = shrinker.shrink(out.getvalue(), 160)
    with Image.open(io.BytesIO(small)) as image:
        assert (image.format, image.size) == ("WEBP", (107, 160)), "upright"
    assert b"script" not in small and b"EXIF" not in small


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 64,
        png(60_000, 60_000, b"x"),
        png(64, 64, b"not zlib"),
        png(7000, 7000)[:200],
        b"GIF89a" + b"\0" * 32,
    ],
)
def test_what_is_no_image_costs_nothing(shrinker, data):
    with pytest.raises(InvalidArgument, match="expected an image that can be read"):
        shrinker.shrink(data, 160)
    assert shrinker.shrink(png(8, 8), 160)[:4] == b"RIFF", "the next one is served"


def test_a_closed_shrinker_says_so(shrinker):
    shrinker.close()
    with pytest.raises(Unavailable):
        shrinker.shrink(png(8, 8), 160)


def encoded(kind: str) -> bytes:
    if kind == "HEIC":
        return FOX_HEIC
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("HEIC", "image/webp"),
        ("TIFF", "image/webp"),
        ("AVIF", "image/avif"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
    ],
)
def test_an_original_is_shown_as_it_is_or_as_a_webp(tmp_path, kind, shown):
    data = encoded(kind)
    endpoints = ImageEndpoints(lambda: SimpleNamespace(artifacts=SimpleNamespace(get=lambda _: data)), tmp_path)
    request = Request({"type": "http", "path_params": {"digest": "0" * 64}})
    try:
        full, thumb = (asyncio.run(endpoint(request)) for endpoint in (endpoints.image, endpoints.thumb))
    finally:
        endpoints.close()
    assert (full.status_code, full.media_type, thumb.media_type) == (200, shown, "image/webp")
    assert shown == "image/webp" or full.body == data
    with Image.open(io.BytesIO(full.body)) as image, Image.open(io.BytesIO(thumb.body)) as small:
        assert image.size == small.size == ((48, 64) if kind == "HEIC" else (40, 30))
        assert not small.getexif()
