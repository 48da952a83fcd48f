"""Decoding in real children: what is read, what is refused, what a hostile file costs."""

import io
import os
import resource
import struct
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from konomi.errors import InvalidArgument, Unavailable
from konomi_chassis.decoding.decoder import Decoder, DecodeSettings, sniff
from tests.chassis.decoding.fox import FOX_HEIC

MIB = 1 << 20
RNG = np.random.default_rng(7)
PICTURE = RNG.integers(0, 255, (48, 64, 3), dtype=np.uint8)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, rows=b"", depth=8, colour=2, extra=b""):
    """A PNG made by hand, whose header may promise anything."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def decoder():
    decoder = Decoder(DecodeSettings(decode_children=1))
    yield decoder
    decoder.close()


def refused(decoder, data, reason, field="image"):
    with pytest.raises(InvalidArgument) as caught:
        decoder.decode(data, field)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    return caught.value


EXACT = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {"compression": "tiff_lzw"}}


@pytest.mark.parametrize("kind", [*EXACT, "JPEG", "GIF", "AVIF"])
def test_the_formats(decoder, kind):
    decoded = decoder.decode(encode(PICTURE, kind, **EXACT.get(kind, {})))
    assert (decoded.format, decoded.width, decoded.height) == (kind, 64, 48)
    assert decoded.pixels.shape == (48, 64, 3) and decoded.pixels.dtype == np.uint8
    assert kind not in EXACT or np.array_equal(decoded.pixels, PICTURE)


def test_a_phone_s_heic_is_upright_and_read_by_a_child_of_its_own(decoder):
    decoder.decode(encode(PICTURE))
    decoded = decoder.decode(FOX_HEIC)
    assert (decoded.format, decoded.width, decoded.height) == ("HEIF", 48, 64)
    corners = decoded.pixels[[2, 2, 61], [45, 2, 2]].astype(int)  # 64 x 48 turned right: green, red, blue
    assert np.abs(corners - [[30, 200, 30], [200, 30, 30], [30, 30, 200]]).max() < 25
    assert [child.heif for child in decoder._idle] == [True], "one place, so the other kind made way"
    for cut in (40, len(FOX_HEIC) // 2, len(FOX_HEIC) - 90):
        refused(decoder, FOX_HEIC[:cut], "IMAGE_UNREADABLE")
    assert np.array_equal(decoder.decode(encode(PICTURE)).pixels, PICTURE)


def test_orientation_of_every_kind_that_says_one(decoder):
    for kind in ("TIFF", "AVIF", "WEBP", "PNG"):
        exif = Image.Exif()
        exif[0x0112] = 6
        decoded = decoder.decode(encode(PICTURE, kind, exif=exif, **EXACT.get(kind, {})))
        assert (decoded.width, decoded.height, decoded.pixels.shape) == (48, 64, (64, 48, 3)), kind
        assert kind == "AVIF" or np.array_equal(decoded.pixels, np.rot90(PICTURE, -1)), kind


def swapped_profile():
    """An sRGB profile whose red and blue have changed places."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    data[red + 4 : red + 12], data[blue + 4 : blue + 12] = data[blue + 4 : blue + 12], data[red + 4 : red + 12]
    return bytes(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_colour_profile_is_applied_where_phones_and_cameras_write_one(decoder, mode):
    image = Image.new(mode, (16, 16), (250, 0, 0))
    for kind in ("TIFF", "AVIF"):
        pixel = decoder.decode(encode(image, kind, icc_profile=swapped_profile())).pixels[8, 8].astype(int)
        assert np.abs(pixel - [0, 0, 250]).max() < 12, kind
    assert tuple(decoder.decode(encode(image, "PNG", icc_profile=swapped_profile())).pixels[8, 8]) == (250, 0, 0)
    broken = decoder.decode(encode(image, "TIFF", icc_profile=b"no profile at all")).pixels[8, 8]
    assert tuple(broken) == (250, 0, 0)


def test_sixteen_bits_four_inks_and_numbers_with_a_fraction(decoder):
    grey = decoder.decode(encode(Image.fromarray(np.full((4, 4), 0x8000, np.uint16)), "TIFF")).pixels
    assert np.all(np.abs(grey.astype(int) - 128) <= 1)
    assert decoder.decode(encode(Image.new("CMYK", (8, 8)), "TIFF")).pixels.min() > 250
    for mode in ("F", "LAB"):
        error = refused(decoder, encode(Image.new(mode, (4, 4)), "TIFF"), "IMAGE_UNREADABLE")
        assert "ModeNotRead" in error.message
    assert np.array_equal(decoder.decode(encode(PICTURE)).pixels, PICTURE)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(decoder, mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    else:
        image = Image.new("L", (4, 4), 255 if mode == "1" else 128).convert(mode)
    value = decoder.decode(encode(image)).pixels[0, 0]
    assert np.all(np.abs(value.astype(int) - (255 if mode == "1" else 128)) <= 1)


def test_cmyk_jpeg(decoder):
    assert decoder.decode(encode(Image.new("CMYK", (8, 8)), "JPEG")).pixels.min() > 250


def test_transparency_lies_over_white(decoder):
    assert np.all(decoder.decode(encode(Image.new("RGBA", (3, 3), (255, 0, 0, 0)))).pixels == 255)
    half = decoder.decode(encode(Image.new("RGBA", (3, 3), (0, 0, 0, 128)))).pixels[0, 0]
    assert np.all(np.abs(half.astype(int) - 127) <= 1)
    palette = Image.new("P", (3, 3), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert np.all(decoder.decode(encode(palette, transparency=0)).pixels == 255)


def test_orientation_is_applied(decoder):
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decoder.decode(encode(PICTURE, "JPEG", exif=exif))
    assert (decoded.width, decoded.height, decoded.format) == (48, 64, "JPEG")


def test_only_the_first_frame_is_read(decoder):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200, 250)]
    for kind in ("PNG", "WEBP", "GIF", "TIFF", "AVIF"):
        options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert np.all(np.abs(decoder.decode(data).pixels.astype(int) - 10) <= (kind == "AVIF")), kind


def test_bytes_of_another_type_are_refused_before_any_child(decoder):
    jxl, jp2 = b"\0\0\0\x0cJXL \r\n\x87\n", b"\0\0\0\x0cjP  \r\n\x87\n"
    others = (b"", b"<svg/>", b"BM" + b"1" * 50, b"%PDF-1.7", bytes(100), b"RIFF1234WAVE", b"8BPS\0\1", jxl, jp2)
    for data in (*others, b"\0\0\0\x20ftypmp42", b"\0\0\0\x20ftypcrx "):
        assert sniff(data) is None
        refused(decoder, data, "IMAGE_TYPE")
    polyglot = b"\x89PNG\r\n\x1a\n" + encode(Image.new("RGB", (4, 4)), "GIF")
    refused(decoder, polyglot, "IMAGE_UNREADABLE")
    for named in (b"GIF89a" + bytes(50), b"BM" + bytes(50), b"II*\0" + bytes(50), b"\0\0\0\x20ftypavif" + bytes(50)):
        refused(decoder, named, "IMAGE_UNREADABLE")


def test_truncated_and_corrupt_images_are_refused(decoder):
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = encode(PICTURE, kind)
        for cut in (16, len(whole) // 2, len(whole) * 9 // 10):
            refused(decoder, whole[:cut], "IMAGE_UNREADABLE", field="images[3]")
    refused(decoder, png(64, 48, b"\0" * 100), "IMAGE_UNREADABLE")
    assert decoder.decode(encode(PICTURE)).width == 64


def test_limits_are_exact():
    with_limits = Decoder(
        DecodeSettings(decode_children=1, max_image_pixels=64 * 48, max_image_bytes=len(encode(PICTURE)))
    )
    try:
        assert with_limits.decode(encode(PICTURE)).width == 64
        refused(with_limits, encode(PICTURE) + b"\0", "IMAGE_TOO_LARGE")
        wide = encode(np.zeros((48, 65, 3), np.uint8))
        error = refused(with_limits, wide, "IMAGE_TOO_LARGE")
        assert "65 x 48" in error.message and "3072" in error.message
    finally:
        with_limits.close()


def test_a_huge_promise_is_refused_by_its_header(decoder):
    began = time.monotonic()
    for size in ((100_000, 100_000), (2**31 - 1, 2**31 - 1), (50_001, 1_000)):
        refused(decoder, png(*size), "IMAGE_TOO_LARGE")
    assert time.monotonic() - began < 3


@pytest.mark.slow
def test_a_bomb_of_the_largest_size_allowed_is_read_within_the_limits():
    patient = Decoder(DecodeSettings(decode_children=1, decode_wall_seconds=250))  # memory and CPU as ever
    width, height = 10_000, 5_000
    data = encode(Image.new("RGBA", (width, height), (1, 2, 3, 255)), compress_level=1)
    assert len(data) < 2 * MIB
    try:
        assert patient.decode(data).pixels.shape == (height, width, 3)
    finally:
        patient.close()


def test_text_bombs_are_refused_or_harmless(decoder):
    info = PngImagePlugin.PngInfo()
    info.add_text("bomb", "x" * (100 * MIB), zip=True)
    data = encode(Image.fromarray(PICTURE), pnginfo=info)
    assert len(data) < MIB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(decoder, data, "IMAGE_UNREADABLE")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    assert decoder.decode(encode(PICTURE)).width == 64


@pytest.mark.slow
def test_a_child_that_runs_out_of_memory_costs_only_itself():
    small = Decoder(DecodeSettings(decode_children=1, decode_memory_bytes=128 * MIB))
    try:
        assert small.decode(encode(PICTURE)).width == 64
        refused(small, encode(Image.new("RGB", (6000, 6000)), "JPEG"), "IMAGE_UNREADABLE")
        assert np.array_equal(small.decode(encode(PICTURE)).pixels, PICTURE)
    finally:
        small.close()


def test_a_killed_child_is_replaced_and_its_image_still_read(decoder):
    decoder.decode(encode(PICTURE))
    child = decoder._idle[-1]._process
    child.kill()
    assert np.array_equal(decoder.decode(encode(PICTURE)).pixels, PICTURE)
    assert decoder._idle[-1]._process.pid != child.pid


def test_an_image_that_takes_too_long_is_given_up():
    hasty = Decoder(DecodeSettings(decode_children=1, decode_wall_seconds=0.001))
    try:
        refused(hasty, encode(PICTURE), "IMAGE_UNREADABLE")
    finally:
        hasty.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_child_is_stripped_of_what_it_does_not_need(decoder):
    decoder.decode(encode(PICTURE))
    pid = decoder._idle[-1]._process.pid
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0), "labels come before pictures"
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        limits = {line[:26].strip(): line[26:].split()[:2] for line in file}
    assert limits["Max address space"] == [str(512 * MIB)] * 2
    assert limits["Max open files"] == ["3", "3"]
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert int(limits["Max cpu time"][0]) <= 10
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        status = dict(line.split(":", 1) for line in file)
    assert status["NoNewPrivs"].strip() == "1"
    assert os.geteuid() != 0 or status["Uid"].split()[0] == "65534"
    assert not any("KONOMI" in name for name in _environment(pid))


def _environment(pid):
    try:
        with open(f"/proc/{pid}/environ", encoding="utf-8") as file:
            return file.read().split("\0")
    except PermissionError:
        return []


def test_many_threads_share_few_children():
    pool = Decoder(DecodeSettings(decode_children=2))
    pictures = [encode(np.full((16, 16, 3), value, np.uint8)) for value in range(40)]
    try:
        with ThreadPoolExecutor(8) as threads:
            decoded = list(threads.map(pool.decode, pictures))
        assert [int(image.pixels[0, 0, 0]) for image in decoded] == list(range(40))
        assert len(pool._idle) <= 2
    finally:
        pool.close()


def test_children_are_renewed():
    pool = Decoder(DecodeSettings(decode_children=1, decode_images_per_child=2))
    try:
        for _ in range(3):
            assert pool.decode(encode(PICTURE)).width == 64
        assert pool._idle[-1].served == 1
    finally:
        pool.close()


def test_a_closed_decoder_says_so():
    closed = Decoder(DecodeSettings(decode_children=1))
    closed.close()
    with pytest.raises(Unavailable):
        closed.decode(encode(PICTURE))


@pytest.mark.slow
def test_three_hundred_damaged_files_never_hurt(decoder):
    rng = np.random.default_rng(11)
    kinds = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
    whole = [*(encode(PICTURE, kind, **EXACT.get(kind, {})) for kind in kinds), FOX_HEIC]
    for number in range(300):
        data = bytearray(whole[number % len(whole)])
        for _ in range(int(rng.integers(1, 8))):
            data[int(rng.integers(12, len(data)))] = int(rng.integers(256))
        try:
            assert decoder.decode(bytes(data)).pixels.ndim == 3
        except InvalidArgument as error:
            assert error.reason in ("IMAGE_UNREADABLE", "IMAGE_TOO_LARGE", "IMAGE_TYPE")
    assert np.array_equal(decoder.decode(whole[0]).pixels, PICTURE)


@pytest.mark.parametrize(("cores", "children"), [(1, 2), (2, 2), (4, 2), (5, 3), (16, 14), (128, 64)])
def test_children_leave_two_cores_to_the_rest(cores, children, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)))
    assert Decoder(DecodeSettings()).children == children
    assert Decoder(DecodeSettings(decode_children=3)).children == 3
    with pytest.raises(ValueError, match="decode_children"):
        DecodeSettings(decode_children=0)
