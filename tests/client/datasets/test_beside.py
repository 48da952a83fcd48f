"""What stands beside images: spelt otherwise, in other encodings, saying no; what is not understood is named."""

import json
import os
import socket
import struct
import subprocess
import tempfile
import unicodedata
import zipfile
import zlib
from pathlib import Path

import pytest

from konomi.datasets.reader import find_images
from konomi.datasets.tally import Tally
from konomi.datasets.xmp import Rating
from konomi.errors import InvalidArgument, NotFound

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="{}"/></rdf:RDF></x:xmpmeta>'
)


def found(*paths: Path):
    """The images by their names below the first path, and what was not understood: (name, what, reason)."""
    tally = Tally()
    images = {image.name.removeprefix(f"{paths[0]}")[1:]: image for image in find_images(paths, tally)}
    return images, [(u.path.removeprefix(f"{paths[0]}")[1:], u.what, u.reason) for u in tally.unread], tally


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def zipped(path: Path, entries: list[tuple[bytes, bytes]], extra: bytes = b"") -> Path:
    """A zip whose names are bytes without a sign of their encoding."""
    body, directory = b"", b""
    for name, data in entries:
        head = struct.pack(
            "<HHHHHIIIHH", 20, 0, 0, 0, 0x5921, zlib.crc32(data), len(data), len(data), len(name), len(extra)
        )
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + head + struct.pack("<HHHII", 0, 0, 0, 0, len(body))
        directory += name + extra
        body += b"PK\x03\x04" + head + name + extra + data
    count, start = len(entries), len(body)
    path.write_bytes(
        body + directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), start, 0)
    )
    return path


@pytest.mark.parametrize("said", ["0", "-1"])
def test_a_sidecar_that_takes_a_rating_back_is_an_answer(tmp_path, png, said):
    write(tmp_path, {"a.png": png(1), "a.png.xmp": XMP.format(said), "a.xmp": XMP.format(5)})
    assert found(tmp_path)[0]["a.png"].rating == Rating(0), "the first sidecar spoke: the second is not asked"
    write(tmp_path, {"a.png.xmp": "", "metadata.jsonl": '{"file_name": "a.png", "grade": 0}'})
    assert found(tmp_path)[0]["a.png"].rating == Rating(0), "a row's 0 is an answer too"
    write(tmp_path, {"metadata.jsonl": '{"file_name": "a.png", "grade": null}'})
    assert found(tmp_path)[0]["a.png"].rating == Rating(5)


def test_an_empty_caption_is_an_answer_and_none_is_not(tmp_path, png):
    rows = [{"file_name": "10_dog/b.png", "text": ""}, {"file_name": "10_dog/c.png"}]
    write(
        tmp_path,
        {
            **{f"10_dog/{name}.png": png(number) for number, name in enumerate("abc")},
            "10_dog/a.txt": "",
            "10_dog/a.caption": "not asked",
            "metadata.jsonl": "\n".join(map(json.dumps, rows)),
        },
    )
    captions = {name: image.caption for name, image in found(tmp_path)[0].items()}
    assert captions == {"10_dog/a.png": "", "10_dog/b.png": "", "10_dog/c.png": "dog"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("letter", ["", "\u2028", "\u2029", "\x85", "\x0b", "\x0c"])
def test_rows_in_every_encoding_with_every_letter_in_them(tmp_path, png, encoding, letter):
    rows = [{"file_name": f"{n}.png", "text": f"row{letter} {n}", "grade": n + 1} for n in range(3)]
    plain = "\n".join(json.dumps(row, ensure_ascii=ord(letter or "x") < 32) for row in rows) + "\n"
    write(tmp_path, {f"{n}.png": png(n) for n in range(3)} | {"metadata.jsonl": plain.encode(encoding)})
    images, unread, _ = found(tmp_path)
    assert [image.rating.grade for image in images.values()] == [1, 2, 3]
    shown = " " if letter else ""
    assert [image.caption for image in images.values()] == [f"row{shown} {n}" for n in range(3)]
    assert unread == []


def test_captions_in_other_encodings_are_read_or_named_and_never_half_read(tmp_path, png):
    texts = {"a": "a tall tree".encode("utf-16"), "b": "大きな木".encode("cp932"), "c": "été".encode("latin-1")}
    lost = {"d": "一只猫在草地上".encode("gbk")}
    write(tmp_path, {f"{name}.png": png(ord(name)) for name in texts | lost})
    write(tmp_path, {f"{name}.txt": data for name, data in (texts | lost).items()})
    images, unread, _ = found(tmp_path)
    assert [image.caption for image in images.values()] == ["a tall tree", "大きな木", "été", None]
    assert unread == [("d.txt", "caption", "CAPTION_UNDECODABLE")]


def test_a_long_caption_that_is_cut_inside_a_character_is_read(tmp_path, png):
    write(tmp_path, {"a.png": png(1), "a.txt": "x" + "好" * 40_000})
    images, unread, _ = found(tmp_path)
    assert images["a.png"].caption.startswith("x好") and unread == []


def test_names_in_two_spellings_are_one_file(tmp_path, png):
    name = unicodedata.normalize("NFD", "Ä")
    rows = [
        {"file_name": "deep\\B.PNG", "text": "by a back slash and capitals"},
        {"file_name": f"./deep/{unicodedata.normalize('NFC', name)}.png", "text": "composed", "grade": 2},
    ]
    write(
        tmp_path,
        {
            f"deep/{name}.png": png(1),
            "deep/b.png": png(2),
            "c.png": png(3),
            "C.TXT": "capitals",
            "c.PNG.xmp": XMP.format(4),
            "metadata.jsonl": "\n".join(map(json.dumps, rows)),
        },
    )
    with zipfile.ZipFile(tmp_path.parent / "set.zip", "w") as archive:
        for path in sorted(tmp_path.rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    for place in (tmp_path, tmp_path.parent / "set.zip"):
        images, unread, _ = found(place)
        assert {unicodedata.normalize("NFC", name): (i.caption, i.rating.grade) for name, i in images.items()} == {
            "c.png": ("capitals", 4),
            "deep/Ä.png": ("composed", 2),
            "deep/b.png": ("by a back slash and capitals", None),
        }
        assert unread == []


def test_of_two_files_that_are_spelt_alike_neither_is_guessed(tmp_path, png):
    write(tmp_path, {"a.png": png(1), "A.txt": "one", "a.TXT": "two", "b.png": png(2), "b.txt": "exact", "B.txt": "no"})
    assert [image.caption for image in found(tmp_path)[0].values()] == [None, "exact"]


def test_what_was_there_and_not_understood_is_named(tmp_path, png):
    rows = ['{"file_name": "0.png", "grade": "great"}', "{broken", '{"text": "nameless"}', '{"file_name": "gone.png"}']
    write(
        tmp_path,
        {
            **{f"{n}.png": png(n) for n in range(5)},
            "metadata.jsonl": "\n".join(rows),
            "1.png.xmp": "not XMP at all",
            "2.xmp": XMP.format("3.5"),
            "3.json": "[1, 2]",
            "4.png.xmp": "<x:xmpmeta><unclosed></x:xmpmeta>",
        },
    )
    _, unread, tally = found(tmp_path)
    assert sorted(unread) == [
        ("0.png", "rating", "RATING_UNKNOWN"),
        ("1.png", "rating", "SIDECAR_UNREADABLE"),
        ("2.png", "rating", "RATING_UNKNOWN"),
        ("3.json", "row", "RECORD_UNREADABLE"),
        ("4.png", "rating", "SIDECAR_UNREADABLE"),
        ("metadata.jsonl", "row", "ROW_UNREADABLE"),
        ("metadata.jsonl", "row", "ROW_UNREADABLE"),
        ("metadata.jsonl", "row", "ROW_WITHOUT_IMAGE"),
    ]
    messages = {unread.message for unread in tally.unread}
    assert "expected a rating of 1 to 5, got great" in messages
    assert "expected a row with a file_name in line 2" in messages
    assert "its row names gone.png, and there is no such image" in messages
    write(tmp_path, {"metadata.jsonl": "一只猫在草地上".encode("gbk")})
    assert ("metadata.jsonl", "row", "METADATA_UNDECODABLE") in found(tmp_path)[1]


def test_a_damaged_text_beside_an_image_in_a_zip_is_named(tmp_path, png):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", png(1))
        archive.writestr("a.txt", "a caption that rots")
        archive.writestr("a.png.xmp", XMP.format(3))
    data = bytearray(path.read_bytes())
    data[data.index(b"that rots")] ^= 1
    path.write_bytes(data)
    images, unread, _ = found(path)
    assert images["a.png"].rating == Rating(3), "a sidecar inside an archive is read"
    assert unread == [("a.txt", "caption", "SIDECAR_UNREADABLE")]


def test_names_of_zips_without_a_sign_of_their_encoding(tmp_path, png):
    names = ["表紙.png", "ソファ/猫.png", "犬.png"]
    path = zipped(tmp_path / "sjis.zip", [(name.encode("cp932"), png(at)) for at, name in enumerate(names)])
    images, _, _ = found(path)
    assert list(images) == names and not any(image.error for image in images.values())
    path = zipped(tmp_path / "windows.zip", [(b"set\\one.png", png(1)), (b"set\\one.txt", b"one"), (b"set\\", b"")])
    images, _, _ = found(path)
    assert [(name, image.caption, image.error) for name, image in images.items()] == [("set\\one.png", "one", None)]
    raw = b"\xff\xfe.png"
    field = b"\1" + struct.pack("<I", zlib.crc32(raw)) + "木.png".encode()
    path = zipped(tmp_path / "info.zip", [(raw, png(1))], struct.pack("<HH", 0x7075, len(field)) + field)
    assert list(found(path)[0]) == ["木.png"]


def test_a_name_whose_sidecars_name_is_too_long_is_read_like_any_other(tmp_path, png):
    long = "猫" * 83 + "z.png"
    write(tmp_path, {"a.png": png(1), long: png(2)})
    images, unread, _ = found(tmp_path)
    assert [image.error for image in images.values()] == [None, None] and unread == []
    with pytest.raises(InvalidArgument, match="File name too long"):
        next(find_images([tmp_path / ("a" * 300 + ".png")]))


def test_pipes_sockets_and_devices_are_refused_at_once(tmp_path, png):
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.zip")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        for path in (tmp_path / "pipe.png", tmp_path / "pipe.zip", tmp_path / "socket.png", Path("/dev/null")):
            with pytest.raises(InvalidArgument, match="is a pipe, a socket or a device") as refused:
                find_images([path])
            assert refused.value.reason == "NOT_A_FILE"
        write(tmp_path, {"a.png": png(1)})
        os.mkfifo(tmp_path / "a.txt")
        os.mkfifo(tmp_path / "a.png.xmp")
        images, unread, _ = found(tmp_path)
    assert list(images) == ["a.png"], "in a folder they are no files"
    assert images["a.png"].caption is None
    assert {reason for _, _, reason in unread} <= {"SIDECAR_UNREADABLE"}


def test_a_path_below_a_file_is_not_there(tmp_path, png):
    write(tmp_path, {"a.png": png(1)})
    with pytest.raises(NotFound, match="there is nothing at"):
        find_images([tmp_path / "a.png" / "b.png"])


def test_a_file_that_vanishes_or_a_folder_that_cannot_be_read_is_its_own_error(png):
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    write(folder, {"a.png": png(1), "locked/b.png": png(2), "secret.png": png(3), "z.png": png(4), "z.txt": "no"})
    for name in ("locked", "secret.png", "z.txt"):
        (folder / name).chmod(0)
    tally, user = Tally(), os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root reads everything
    try:
        rest = {image.name.removeprefix(f"{folder}/"): image for image in find_images([folder], tally)}
    finally:
        os.seteuid(user)
    assert {name: image.error.reason for name, image in rest.items() if image.error} == {
        "secret.png": "FILE_UNREADABLE",
        "z.txt": "FILE_UNREADABLE",  # whatever it is called, it may be an image
        "locked": "FOLDER_UNREADABLE",
    }
    assert rest["locked"].error.message == "cannot be read: Permission denied"
    assert [(u.path, u.reason) for u in tally.unread] == [(f"{folder}/z.txt", "SIDECAR_UNREADABLE")]

    images = find_images([folder])
    next(images)
    (folder / "z.png").unlink()
    assert {image.error.message for image in images if image.error} == {"cannot be read: No such file or directory"}


def test_pictures_of_other_kinds_and_links_are_counted(tmp_path, png):
    psd = b"8BPS\0\1" + bytes(200)
    write(tmp_path, {"IMG_1.PSD": psd, "IMG_2.psd": psd, "x.jp2": b"\0\0\0\x0cjP  \r\n", "notes.md": b"text"})
    write(tmp_path, {"really.gif": png(1), "no.png": b"PK"})
    (tmp_path / "link.png").symlink_to(tmp_path / "really.gif")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("c.jxl", b"\xff\x0a")
        archive.writestr("inner.zip", b"PK")
        archive.writestr("broken.jpg", b"no picture")
    images, _, tally = found(tmp_path)
    assert tally.passed_over == {".psd": 2, ".jp2": 1, "links": 1, ".jxl": 1, ".zip": 1}
    assert {name: image.error and image.error.reason for name, image in images.items()} == {
        "really.gif": None,
        "no.png": "IMAGE_TYPE",
        "b.zip!broken.jpg": "IMAGE_TYPE",
    }


def test_folders_deeper_than_a_stack_are_read(tmp_path, png):
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=place)
        deeper = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = deeper
    os.close(place)
    try:
        assert {image.error.reason for image in find_images([tmp_path])} <= {"FOLDER_UNREADABLE"}  # a path ends at 4096
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # deeper than Python's own removal goes
