"""EXIF in every kind of file that has it: the words and the stars are the same, wherever they stand."""

import io

import pytest
from PIL import Image

from konomi.datasets.exif import exif_block, exif_rating, exif_texts
from konomi.datasets.png_metadata import origin_of
from konomi.datasets.xmp import rating_inside
from tests.chassis.decoding.fox import FOX_HEIC

DESCRIPTION, USER_COMMENT, RATING = 0x010E, 0x9286, 0x4746
INFOTEXT = "a fox in snow\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 8x8"


def encoded(kind: str) -> bytes:
    exif = Image.Exif()
    exif[RATING] = 4
    exif[DESCRIPTION] = "a fox in snow"
    exif.get_ifd(0x8769)[USER_COMMENT] = b"UNICODE\0" + INFOTEXT.encode("utf-16-be")
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, kind, exif=exif)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_words_and_stars(kind):
    data = encoded(kind)
    assert exif_rating(data) == rating_inside(data).grade == 4
    assert exif_texts(data)["ImageDescription"] == "a fox in snow"
    if kind != "TIFF":  # Pillow writes no directory of EXIF into a TIFF
        origin = origin_of(data)
        assert (origin.prompt, origin.seed) == ("a fox in snow", 42)


def test_a_phone_s_heic():
    assert exif_texts(FOX_HEIC) == {"ImageDescription": "a fox in snow"}
    assert rating_inside(FOX_HEIC).grade == 4


def test_what_has_none_says_nothing():
    for data in (b"", b"GIF89a" + bytes(60), b"BM" + bytes(60), b"\0\0\0\x18ftypheic" + bytes(60), b"II*\0"):
        assert exif_texts(data) == {} and exif_rating(data) is None
    assert exif_block(b"\0\0\0\x18ftypavif" + bytes(60)) == b""
