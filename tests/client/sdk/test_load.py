"""What a call brings is said in its metadata, so that it can be refused unsent."""

import io

import pytest
from PIL import Image

from konomi.client.load import BYTES_KEY, PIXELS_KEY, load_metadata, pixels
from konomi.v1 import rater_pb2 as rater


def encoded(size, kind, **options):
    out = io.BytesIO()
    Image.new("RGBA" if options.pop("alpha", False) else "RGB", size, (200, 10, 10)).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (640, 480), (300, 2000)])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0" + bytes(5000)}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"lossless": True, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
        ("WEBP", {"alpha": True}),
    ],
)
def test_pixels_by_the_header(size, kind, options):
    assert pixels(encoded(size, kind, **options)) == size[0] * size[1]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_header_that_is_cut_off_says_nothing_and_breaks_nothing(kind):
    whole = encoded((640, 480), kind)
    for length in range(len(whole)):
        assert pixels(whole[:length]) in (0, 640 * 480)


@pytest.mark.parametrize(
    "data", [b"", b"nothing", b"\xff\xd8\xff" * 3, b"\xff\xd8\xff\xe0\0\0" * 9, b"RIFF0000WEBPVP9 "]
)
def test_other_bytes_have_no_pixels(data):
    assert pixels(data) == 0


def test_a_batch_says_bytes_and_pixels():
    images = [encoded((640, 480), "PNG"), encoded((100, 100), "JPEG")]
    request = rater.ScoreImagesRequest(images=[rater.ImageInput(content=image) for image in images])
    said = dict(load_metadata(request))
    assert said == {BYTES_KEY: str(request.ByteSize()), PIXELS_KEY: str(640 * 480 + 100 * 100)}


def test_a_search_says_its_one_image_and_others_say_bytes_alone():
    search = rater.SearchImagesRequest(image=rater.ImageInput(content=encoded((64, 64), "PNG")))
    assert dict(load_metadata(search))[PIXELS_KEY] == str(64 * 64)
    for request in (rater.GetTasteRequest(name="tastes/default"), rater.SearchImagesRequest(text="red")):
        assert load_metadata(request) == ((BYTES_KEY, str(request.ByteSize())),)
