"""Pictures no browser draws: the page shows them re-encoded, by the limited child that makes thumbnails."""

import asyncio
import io
from types import SimpleNamespace

import pytest
from PIL import Image
from starlette.requests import Request

from konomi.web.images import ImageEndpoints
from tests.chassis.decoding.fox import FOX_HEIC

DIGEST = "0" * 64


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
    request = Request({"type": "http", "path_params": {"digest": DIGEST}})
    try:
        full, thumb = (asyncio.run(endpoint(request)) for endpoint in (endpoints.image, endpoints.thumb))
    finally:
        endpoints.close()
    assert (full.status_code, full.media_type, thumb.media_type) == (200, shown, "image/webp")
    assert shown == "image/webp" or full.body == data
    with Image.open(io.BytesIO(full.body)) as image, Image.open(io.BytesIO(thumb.body)) as small:
        assert image.size == small.size == ((48, 64) if kind == "HEIC" else (40, 30))
        assert not small.getexif()
