"""Finding images in folders, files and zips, hostile ones too; the texts inside a PNG."""

import json
import os
import struct
import zipfile
import zlib

import pytest

from konomi.datasets.media import path_below
from konomi.datasets.png_metadata import origin_of
from konomi.datasets.prompts import clean
from konomi.datasets.reader import count_files, find_images, media_type_of
from konomi.datasets.tally import Tally
from konomi.errors import NotFound

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (SIGNATURE, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", ""),
        (b"GIF89a", "image/gif"),
        (b"BM\x36\0\0\0\0\0\0\0\x36\0", "image/bmp"),
        (b"BM is no picture", ""),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"\0\0\0\x18ftypavif", "image/avif"),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"\0\0\0\x18ftypmif1", "image/heif"),
        (b"\0\0\0\x18ftypmp42", ""),
        (b"\xff\x0a", ""),
        (b"<svg", ""),
        (b"", ""),
    ],
)
def test_media_types_by_their_bytes(head, kind):
    assert media_type_of(head) == kind


def test_order_is_fixed_and_extensions_do_not_matter(tmp_path, png):
    for name in ("b.png", "a.jpeg", "c"):
        (tmp_path / name).write_bytes(png(1))
    found = list(find_images([tmp_path]))
    assert [os.path.basename(image.name) for image in found] == ["a.jpeg", "b.png", "c"]
    assert {image.media_type for image in found} == {"image/png"}
    assert count_files([tmp_path, tmp_path / "c"]) == 4


def test_a_missing_path_is_told_before_anything_is_read(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png(1))
    with pytest.raises(NotFound):
        next(find_images([tmp_path, tmp_path / "none"]))


def test_an_image_keeps_its_name_below_what_was_searched_and_nothing_of_the_machine(tmp_path, png):
    (tmp_path / "holiday" / "2024").mkdir(parents=True)
    (tmp_path / "holiday" / "2024" / "IMG_1.png").write_bytes(png(1))
    with zipfile.ZipFile(tmp_path / "holiday" / "old.zip", "w") as archive:
        archive.writestr("deep/IMG_2.png", png(2))
    odd = os.fsencode(tmp_path / "holiday") + b"/a\nb\xff.png"
    with open(odd, "wb") as file:
        file.write(png(3))
    inside = [image.path for image in find_images([tmp_path / "holiday"])]
    assert inside == ["2024/IMG_1.png", "a\ufffdb\ufffd.png", "old.zip!deep/IMG_2.png"]
    assert [image.path for image in find_images([tmp_path / "holiday" / "old.zip"])] == ["old.zip!deep/IMG_2.png"]
    assert [image.path for image in find_images([tmp_path / "holiday" / "2024" / "IMG_1.png"])] == ["IMG_1.png"]


def test_a_name_that_is_too_long_loses_its_outermost_folders(tmp_path):
    long = "/".join(["f" * 200] * 8 + ["IMG_1.png"])
    assert path_below(f"{tmp_path}/{long}", tmp_path) == "/".join(["f" * 200] * 5 + ["IMG_1.png"])
    assert path_below("猫" * 500, tmp_path).encode() == ("猫" * 341).encode()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("../../etc/a.png", "etc/a.png"),
        ("a/../../b.png", "a/b.png"),
        ("a/./b//c.png", "a/b/c.png"),
        ("a..png", "a..png"),
        ("..a/b...png", "..a/b...png"),
        ("///etc/a.png", "etc/a.png"),
        ("C:\\Users\\ann\\a.png", "Users\\ann\\a.png"),
        ("c:/Users/a.png", "Users/a.png"),
        ("C:\\D:/\\..\\/a.png", "..\\/a.png"),
        ("\\\\server\\a.png", "server\\a.png"),
        ("\\../../a.png", "a.png"),
        ("C:/C:/\\../a.png", "a.png"),
        ("..", ""),
        ("x" * 1024 + "/C:/../a.png", "a.png"),
        ("exe\u202egnp.png", "exe\ufffdgnp.png"),
        ("\u2066a\u2069.png", "\ufffda\ufffd.png"),
        ("two\u2028lines\u2029.png", "two\ufffdlines\ufffd.png"),
        ("a\nb\x7f\x85.png", "a\ufffdb\ufffd\ufffd.png"),
        ("half \udcff.png", "half \ufffd.png"),
        ("עברית/\u200f猫.png", "עברית/\u200f猫.png"),
    ],
)
def test_a_path_leads_nowhere_and_turns_no_reading(tmp_path, name, path):
    assert path_below(name, tmp_path) == path_below(f"{tmp_path}/{name}", tmp_path) == path


def test_a_camera_s_own_file_is_no_tiff(tmp_path, png):
    raw = b"II*\0\x08\0\0\0" + bytes(200)
    for name in ("DSC_1.NEF", "x.dng"):
        (tmp_path / name).write_bytes(raw)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("y.arw", raw)
    tally = Tally()
    assert list(find_images([tmp_path], tally)) == []
    assert tally.passed_over == {".nef": 1, ".dng": 1, ".arw": 1}
    assert next(find_images([tmp_path / "x.dng"])).error.reason == "IMAGE_TYPE"


def test_too_large_a_file(tmp_path, png, monkeypatch):
    for module in ("media", "reader", "archives"):
        monkeypatch.setattr(f"konomi.datasets.{module}.MAX_IMAGE_BYTES", 100)
    (tmp_path / "a.png").write_bytes(png(1) + bytes(200))
    (found,) = find_images([tmp_path])
    assert found.error.reason == "IMAGE_TOO_LARGE"


def test_a_file_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.png"
    path.mkdir()
    assert list(find_images([path])) == []
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04 not a zip")
    (found,) = find_images([tmp_path])
    assert found.error.reason == "ZIP_UNREADABLE"


def test_zip_entries_are_read_in_memory_with_caps(tmp_path, png):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("..\\up.png", png(1))
        file.writestr("bomb.png", SIGNATURE + bytes(50_000_000))
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("folder/", "")
    found = list(find_images([path]))
    assert [(image.name.split("!")[1], image.error and image.error.reason) for image in found] == [
        ("..\\up.png", "UNSAFE_NAME"),
        ("bomb.png", "ZIP_BOMB"),
        ("link.png", "NOT_A_FILE"),
    ]
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_corrupt_entry_spoils_only_itself(tmp_path, png):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.png", png(1))
        file.writestr("b.png", png(2))
    data = bytearray(path.read_bytes())
    data[data.index(png(1)) + 30] ^= 1
    path.write_bytes(data)
    found = list(find_images([path]))
    assert [image.error and image.error.reason for image in found] == ["ZIP_UNREADABLE", None]


def test_infotext(png):
    text = "masterpiece, a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Seed: 1234, Size: 512x512"
    origin = origin_of(png(1, text))
    assert (origin.prompt, origin.seed, origin.starter) == ("masterpiece, a cat", 1234, False)
    assert origin_of(png(1, "only a prompt")).prompt == "only a prompt"
    assert origin_of(png(1)) == origin_of(b"\xff\xd8\xff") == origin_of(b"")


def test_own_record_beats_infotext(png):
    record = {"prompt": "ink portrait", "seed": 5, "base_model": "starter", "unit": "base"}
    packed = b"konomi\0\1\0\0\0" + zlib.compress(json.dumps(record).encode())
    data = SIGNATURE + chunk(b"tEXt", b"parameters\0other, Seed: 9") + chunk(b"iTXt", packed)
    origin = origin_of(data)
    assert (origin.prompt, origin.seed, origin.starter) == ("ink portrait", 5, True)


@pytest.mark.parametrize(
    "data",
    [
        SIGNATURE + b"\xff\xff\xff\xfftEXt",
        SIGNATURE + chunk(b"iTXt", b"konomi\0\1\0\0\0not zlib"),
        SIGNATURE + chunk(b"iTXt", b"konomi"),
        SIGNATURE + chunk(b"tEXt", b"konomi\0" + b"[" * 100_000),
        SIGNATURE + chunk(b"tEXt", b'konomi\0{"seed": -1, "prompt": 3}'),
        SIGNATURE + chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(100_000_000))),
        SIGNATURE + struct.pack(">I", 0) * 100,
    ],
)
def test_malformed_texts_say_nothing_dangerous(data):
    origin = origin_of(data)
    assert origin.seed is None
    assert len(origin.prompt.encode()) <= 4096
    assert origin.prompt.isprintable()


def test_clean_prompts():
    assert clean("a\x00b\x1b[31m\nc") == "a b [31m c"
    assert clean("好" * 5000).encode() == ("好" * 1365).encode()
    assert clean("\ud800x") == "x"


def test_what_stands_beside_images_is_left_unread_where_the_pixels_alone_count(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "a.txt").write_text("a caption")
    (tmp_path / "metadata.jsonl").write_text("broken {")
    read, alone = Tally(), Tally()
    assert [image.caption for image in find_images([tmp_path], read)] == ["a caption"]
    assert [image.caption for image in find_images([tmp_path], alone, alone=True)] == [None]
    assert read.unread and not alone.unread
