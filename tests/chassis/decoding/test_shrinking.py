"""Images shrunk in the child before they are handed over: never smaller than wanted, hardly different, cheaper."""

import io

import numpy as np
import pytest
from PIL import Image

from konomi.errors import InvalidArgument
from konomi_chassis.decoding.decoder import Decoder, DecodeSettings

LEAST = (64, 64, False)


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


def small(pixels: np.ndarray) -> np.ndarray:
    """Brings pixels to 64 x 64, whatever their shape, for a comparison."""
    return np.asarray(Image.fromarray(pixels).resize((64, 64), 3)).astype(int)


@pytest.mark.parametrize("size", [(64, 64), (100, 70), (191, 191), (40, 33), (64, 512), (1, 1), (383, 200)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_image_that_is_not_much_larger_comes_whole(decoder, size, mode):
    image = picture(*size, mode)
    decoded = decoder.decode(encode(image, "PNG"), least=LEAST)
    assert (decoded.width, decoded.height) == size
    assert np.array_equal(decoded.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind, shape", [("PNG", (192, 256)), ("WEBP", (192, 256)), ("JPEG", (192, 256))])
def test_a_large_image_is_shrunk_on_the_way_and_hardly_differs(decoder, kind, shape):
    data = encode(picture(1024, 768), kind, quality=92)
    whole, decoded = decoder.decode(data), decoder.decode(data, least=LEAST)
    assert (decoded.width, decoded.height, decoded.pixels.shape) == (1024, 768, (*shape, 3))
    assert np.abs(small(decoded.pixels) - small(whole.pixels)).mean() < 1.0


@pytest.mark.parametrize("least, shape", [((64, 64), (150, 300)), ((100, 20), (150, 300)), ((20, 10), (38, 75))])
def test_a_jpeg_keeps_twice_what_is_wanted_each_way(decoder, least, shape):
    data = encode(picture(1200, 600), "JPEG", quality=95)
    decoded = decoder.decode(data, least=(*least, False))
    assert decoded.pixels.shape == (*shape, 3)
    assert decoded.pixels.shape[1] >= 2 * least[0] and decoded.pixels.shape[0] >= 2 * least[1]


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_image_lying_on_its_side_is_turned(decoder, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encode(picture(600, 300), "JPEG", exif=exif, quality=95)
    whole, shrunk = decoder.decode(data), decoder.decode(data, least=LEAST)
    assert (shrunk.width, shrunk.height) == (whole.width, whole.height) == ((300, 600) if turn > 4 else (600, 300))
    assert shrunk.pixels.shape[:2] == (whole.height // 2, whole.width // 2)
    assert np.abs(small(shrunk.pixels) - small(whole.pixels)).mean() < 1.0


def test_transparency_lies_over_white_before_it_is_shrunk(decoder):
    clear = encode(Image.new("RGBA", (3000, 2000), (255, 0, 0, 0)), "PNG")
    assert np.all(decoder.decode(clear, least=LEAST).pixels == 255)
    palette = Image.new("P", (900, 900), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert np.all(decoder.decode(encode(palette, "PNG", transparency=0), least=LEAST).pixels == 255)


def test_strips_join_without_a_seam(decoder):
    rows = np.arange(3000, dtype=np.uint32)
    ramp = np.repeat((rows * 255 // 2999).astype(np.uint8)[:, None], 1500, axis=1)
    decoded = decoder.decode(encode(Image.fromarray(ramp), "PNG"), least=LEAST)
    assert decoded.pixels.shape == (-(-3000 // 7), -(-1500 // 7), 3)
    steps = np.diff(decoded.pixels[:, 0, 0].astype(int))
    assert steps.min() >= 0 and steps.max() <= 1


@pytest.mark.slow
def test_the_largest_image_allowed_is_shrunk_within_the_childs_limits():
    patient = Decoder(DecodeSettings(decode_children=1, decode_wall_seconds=250))  # memory and CPU as ever
    data = encode(Image.new("RGBA", (10_000, 5_000), (1, 2, 3, 255)), "PNG", compress_level=1)
    try:
        decoded = patient.decode(data, least=LEAST)
        assert np.all(decoded.pixels == (1, 2, 3)) and decoded.pixels.nbytes < 1 << 20
    finally:
        patient.close()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_image_is_refused_small_as_whole(decoder, kind):
    whole = encode(picture(640, 480), kind)
    for share in (0.3, 0.9):
        with pytest.raises(InvalidArgument) as caught:
            decoder.decode(whole[: int(len(whole) * share)], "images[2]", least=LEAST)
        assert (caught.value.reason, caught.value.field) == ("IMAGE_UNREADABLE", "images[2]")


@pytest.mark.parametrize("size", [(1, 9000), (50_000, 2), (10, 81)])
def test_of_a_very_long_image_only_the_middle_comes(decoder, size):
    width, height = size
    across = np.arange(width) * 255 // max(1, width - 1) if width > height else np.arange(height) * 255 // (height - 1)
    ramp = np.broadcast_to(
        across.astype(np.uint8) if width > height else across.astype(np.uint8)[:, None], (height, width)
    )
    decoded = decoder.decode(encode(Image.fromarray(np.ascontiguousarray(ramp)), "PNG"), least=LEAST)
    assert (decoded.width, decoded.height) == size
    assert max(decoded.pixels.shape[:2]) == 8 * min(size)
    assert abs(decoded.pixels.mean() - 127) < 3


def test_a_long_image_that_is_squashed_is_shrunk_along_its_length(decoder):
    decoded = decoder.decode(encode(Image.new("RGB", (3, 40_000), (9, 8, 7)), "PNG"), least=(16, 16, True))
    assert decoded.pixels.shape == (-(-40_000 // (40_000 // 48)), 3, 3)
    assert np.all(decoded.pixels == (9, 8, 7))
