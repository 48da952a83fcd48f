"""Images brought to an embedder's size in the child: the same pixels as torchvision's transform, at less cost."""

import io

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from konomi.errors import InvalidArgument
from konomi_chassis.decode import Decoder, DecodeSettings
from konomi_chassis.decode_process import Fit

FIT = Fit(64, 56, 56)


@pytest.fixture(scope="module")
def decoder():
    decoder = Decoder(DecodeSettings(decode_children=1))
    yield decoder
    decoder.close()


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Soft shapes with some texture, as photographs have."""
    rng = np.random.default_rng(width * height)
    soft = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((width, height), 3)
    rough = rng.normal(0, 6, (height, width, 3))
    return Image.fromarray((np.asarray(soft) + rough).clip(0, 255).astype(np.uint8)).convert(mode)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reference(image: Image.Image) -> np.ndarray:
    steps = [Resize(64, InterpolationMode.BICUBIC), CenterCrop((56, 56))]
    return np.asarray(Compose(steps)(image.convert("RGB")))


@pytest.mark.parametrize("size", [(64, 64), (100, 70), (71, 103), (191, 191), (40, 33), (64, 5000), (1, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_png_becomes_exactly_what_torchvision_makes_of_it(decoder, size, mode):
    image = picture(*size, mode)
    decoded = decoder.decode(encode(image, "PNG"), fit=FIT)
    assert (decoded.width, decoded.height) == size
    assert np.array_equal(decoded.pixels, reference(image))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_large_image_is_shrunk_on_the_way_and_hardly_differs(decoder, kind):
    data = encode(picture(1024, 768), kind, quality=92)
    decoded = decoder.decode(data, fit=FIT)
    assert (decoded.width, decoded.height, decoded.pixels.shape) == (1024, 768, (56, 56, 3))
    difference = np.abs(decoded.pixels.astype(int) - reference(Image.open(io.BytesIO(data))))
    assert difference.mean() < 2.0


def test_squashing_ignores_the_shape(decoder):
    image = picture(100, 40)
    decoded = decoder.decode(encode(image, "PNG"), fit=Fit(56, 56, 56, squash=True, resampling="bilinear"))
    assert np.array_equal(decoded.pixels, np.asarray(image.resize((56, 56), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_image_lying_on_its_side_is_turned_before_it_is_cut(decoder, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encode(picture(600, 300), "JPEG", exif=exif, quality=95)
    whole, small = decoder.decode(data), decoder.decode(data, fit=FIT)
    assert (small.width, small.height) == (whole.width, whole.height) == ((300, 600) if turn > 4 else (600, 300))
    assert np.abs(small.pixels.astype(int) - reference(Image.fromarray(whole.pixels))).mean() < 2.0


def test_transparency_lies_over_white_before_it_is_resized(decoder):
    clear = encode(Image.new("RGBA", (3000, 2000), (255, 0, 0, 0)), "PNG")
    assert np.all(decoder.decode(clear, fit=FIT).pixels == 255)
    palette = Image.new("P", (300, 300), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert np.all(decoder.decode(encode(palette, "PNG", transparency=0), fit=FIT).pixels == 255)


def test_the_largest_image_allowed_fits_within_the_childs_limits():
    patient = Decoder(DecodeSettings(decode_children=1, decode_wall_seconds=250))  # memory and CPU as ever
    data = encode(Image.new("RGBA", (10_000, 5_000), (1, 2, 3, 255)), "PNG", compress_level=1)
    try:
        assert np.all(patient.decode(data, fit=FIT).pixels == (1, 2, 3))
    finally:
        patient.close()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_image_is_refused_small_as_whole(decoder, kind):
    whole = encode(picture(640, 480), kind)
    for share in (0.3, 0.9):
        with pytest.raises(InvalidArgument) as caught:
            decoder.decode(whole[: int(len(whole) * share)], "images[2]", fit=FIT)
        assert (caught.value.reason, caught.value.field) == ("IMAGE_UNREADABLE", "images[2]")
