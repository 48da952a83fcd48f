"""Hostile images among good ones: each is scored or refused as its own error, the good ones beside it are scored."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from konomi.v1 import rater_pb2 as pb
from tests.chassis.decoding.fox import FOX_HEIC
from tests.rater.conftest import png

REASONS = {"IMAGE_TYPE", "IMAGE_TOO_LARGE", "IMAGE_UNREADABLE"}


def encode(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def promising(width: int, height: int) -> bytes:
    """A PNG whose header promises a size its data does not hold."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def corpus() -> list[bytes]:
    """Hostile files of every kind that has hurt a decoder."""
    rng = np.random.default_rng(13)
    photo = Image.fromarray(rng.integers(0, 255, (90, 70, 3), dtype=np.uint8))
    whole = [encode(photo, kind) for kind in ("PNG", "JPEG", "WEBP")]
    bomb = PngImagePlugin.PngInfo()
    bomb.add_text("bomb", "x" * (70 << 20), zip=True)
    frames = [photo.convert("P")] * 40
    found = [data[: int(len(data) * share)] for data in whole for share in (0.0, 0.01, 0.3, 0.7, 0.99)]
    found += [promising(*size) for size in ((100_000, 100_000), (2**31 - 1, 1), (1, 2**31 - 1), (0, 10), (7000, 7000))]
    found += [encode(photo, "PNG", pnginfo=bomb), encode(photo.convert("1"), "PNG"), encode(photo.convert("LA"), "PNG")]
    found += [encode(photo, kind) for kind in ("GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "JPEG2000")]
    others = [*(encode(photo, kind) for kind in ("GIF", "TIFF", "AVIF")), FOX_HEIC]
    found += [data[: int(len(data) * share)] for data in others for share in (0.1, 0.5, 0.95, 1.0)]
    found += [encode(frames[0], "PNG", save_all=True, append_images=frames), encode(photo.convert("CMYK"), "JPEG")]
    found += [encode(Image.fromarray(np.zeros((4, 4), np.uint16)), "PNG"), encode(Image.new("RGB", (1, 9000)), "PNG")]
    found += [whole[0] + whole[1], whole[1] + b"<script>", b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(40), b"\xff\xd8\xff"]
    found += [
        b"\x89PNG\r\n\x1a\n" + encode(photo, "GIF"),
        b"%PDF-1.7",
        b"<svg onload=alert(1)>",
        b"PK\3\4",
        bytes(3000),
    ]
    for number in range(60):
        data = bytearray(whole[number % 3])
        for _ in range(1 + number % 9):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        found.append(bytes(data))
    return found


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
def test_every_hostile_image_is_its_own_error_and_costs_nobody_else(rater, fitted):
    files = corpus()
    assert len(files) > 90
    sizes = []
    for turn in range(2):
        for start in range(0, len(files), 20):
            part = files[start : start + 20]
            good = png((200, 30, 30), seed=90_000 + start + turn)
            inputs = [pb.ImageInput(content=data) for data in (*part, good)]
            results = rater.call("ScoreImages", pb.ScoreImagesRequest(taste=fitted.taste, images=inputs)).results
            assert len(results) == len(part) + 1
            for result in results[:-1]:
                assert result.HasField("score") or result.error.reason in REASONS or not part
            assert results[-1].HasField("score")
        sizes.append(resident())
    assert sizes[1] - sizes[0] < 64 << 20, "the rater's own memory stays as it is"


def test_a_call_of_nothing_but_bad_images_is_answered_image_by_image(rater, fitted):
    inputs = [pb.ImageInput(content=data) for data in (b"%PDF-1.7" + bytes(50), png((1, 2, 3))[:40], b"")]
    request = pb.ScoreImagesRequest(taste=fitted.taste, images=inputs, measure_diversity=True)
    answer = rater.call("ScoreImages", request)
    assert [result.error.reason for result in answer.results][:2] == ["IMAGE_TYPE", "IMAGE_UNREADABLE"]
    assert answer.results[2].HasField("error") and answer.diversity.n == 0
