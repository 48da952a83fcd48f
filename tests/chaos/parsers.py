"""Every parser of bytes from elsewhere that client and services have: what it is fed first, and what it may raise.

A parser answers or refuses: it raises nothing but an error of konomi's own, takes no longer than some seconds, and
fills no memory. The fuzzers of `test_fuzz` and the examples of `tests/client/datasets/test_hostile_bytes` ask it alike.
"""

import io
import json
import os
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from konomi.errors import Internal, KonomiError

INFOTEXT = "a fox in snow\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 8x8"
XMP = (
    '<?xpacket begin="\ufeff"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="3"><xmp:Rating>4</xmp:Rating>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
RECORDS = (
    {"prompt": "a fox", "seed": "4321", "metadata_scheme": "fooocus"},
    {"sui_image_params": {"prompt": "a fox", "seed": 99}},
    {"positive_prompt": "a fox", "seed": 5.0},
    {"image": {"prompt": [{"prompt": "a fox", "weight": 1}], "seed": -1}},
    {"Software": "NovelAI", "Description": "a fox", "Comment": '{"seed": 1, "uc": ""}'},
    {"c": "a fox", "seed": 1, "steps": 3},
    {
        "3": {
            "class_type": "KSampler",
            "inputs": {"seed": ["7", 0], "steps": 2, "cfg": 8, "sampler_name": "euler", "positive": ["6", 0]},
        },
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["4", 1]}},
        "7": {"class_type": "Seed", "inputs": {"value": 1}},
    },
)
ROWS = "".join(
    json.dumps(row) + "\n"
    for row in (
        {"file_name": "a.png", "text": "a fox", "grade": "SSR", "seed": 7},
        {"file_name": "deep\\b.png", "caption": "", "grade": 5.0},
        {"file_name": "c.png", "grade": True, "seed": 2**64},
    )
)


def png(*chunks: tuple[bytes, bytes], colour: int = 6, size: int = 16) -> bytes:
    """A small PNG of 8 bits a sample with some chunks before its pixels; checksums are right."""
    rows = b"".join(bytes([row % 5]) + bytes(range(size * (4 if colour == 6 else 3))) for row in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(order: str = "<") -> bytes:
    """An EXIF block with a description, stars and a comment."""
    comment = b"UNICODE\0" + INFOTEXT.encode("utf-16-le")
    entries = [(0x010E, 2, 8, b"words!!\0"), (0x4746, 3, 1, struct.pack(f"{order}HH", 4, 0)), (0x8769, 4, 1, None)]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    after = 8 + 2 + 12 * len(entries) + 4
    body = b""
    for tag, kind, count, value in entries:
        place = struct.pack(f"{order}I", after if tag == 0x010E else after + 8)
        head += struct.pack(f"{order}HHI", tag, kind, count) + (place if value is None or len(value) > 4 else value)
    body += b"words!!\0" + struct.pack(f"{order}HHHII", 1, 0x9286, 7, len(comment), after + 8 + 18)
    return head + bytes(4) + body + bytes(4) + comment


def jpeg(block: bytes, packet: bytes = b"") -> bytes:
    """The beginning of a JPEG with EXIF and XMP in it."""
    segments = [b"Exif\0\0" + block[:65000], b"http://ns.adobe.com/xap/1.0/\0" + packet[:65000]]
    return b"\xff\xd8" + b"".join(b"\xff\xe1" + struct.pack(">H", len(s) + 2) + s for s in segments) + b"\xff\xd9"


def zipped() -> bytes:
    """A zip with an image, what stands beside it, and names of several kinds."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (("set/a.png", png()), ("set\\a.txt", b"a fox"), ("猫.png", png()), ("metadata.jsonl", ROWS)):
            archive.writestr(name, data)
        archive.writestr("set/a.png.xmp", XMP)
    return out.getvalue()


def tarred(form: int = tarfile.PAX_FORMAT) -> bytes:
    """A WebDataset shard."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in (("0.png", png()), ("0.txt", b"a fox"), ("0.json", b'{"grade": 5}'), ("猫.png", png())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def table() -> bytes:
    """A parquet table with an image."""
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    rows = pyarrow.table({"image": [png(), b"none"], "text": ["a fox", ""], "grade": ["UR", None], "seed": [1, 2]})
    pyarrow.parquet.write_table(rows, out, compression="zstd")
    return out.getvalue()


def bundle() -> bytes:
    """A taste bundle with two rows and an image."""
    from konomi.taste.bundle_format import BundleEntry, Manifest, write_bundle

    contents = {"rows": b'{"kind":"konomi.taste"}\n', "image": png()}
    digests = {part: __import__("hashlib").sha256(data).hexdigest() for part, data in contents.items()}
    kinds = {"rows": "application/json", "image": "image/png"}
    entries = tuple(BundleEntry(digests[part], kinds[part], len(data), part) for part, data in contents.items())
    manifest = Manifest("tastes/default", digests["rows"], "", entries)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "taste"
        write_bundle(path, manifest, lambda entry: [contents[entry.part]])
        return path.read_bytes()


def safetensors() -> bytes:
    """A safetensors file of two tensors."""
    header = json.dumps({
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "F16", "shape": [3], "data_offsets": [16, 22]},
    }).encode()  # fmt: skip
    return struct.pack("<Q", len(header)) + header + bytes(22)


def snapshot() -> bytes:
    """The rows of a taste as one service gives them to another home."""
    lines = [{"kind": "konomi.taste", "schema": 1}, {"images": {"digest": "0" * 64, "facts": {"base64": "AA=="}}}]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def training_manifest() -> bytes:
    """The frozen inputs of a training run."""
    item = {"digest": "0" * 64, "caption": "a fox", "weight": 1.0, "role": "selected"}
    return json.dumps({"schema": "konomi.manifest/1", "items": [item]}).encode()


def _file(data: bytes, ending: str, use: Callable[[Path], object]) -> None:
    """Gives bytes to a parser of files, in memory where the system has a place for that."""
    with tempfile.NamedTemporaryFile(suffix=ending, dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
        file.write(data)
        file.flush()
        use(Path(file.name))


def _images(ending: str) -> Callable[[bytes], None]:
    from konomi.datasets.reader import find_images
    from konomi.datasets.tally import Tally

    def read(data: bytes) -> None:
        def use(path: Path) -> None:
            for image in find_images([path], Tally()):
                assert image.error is None or not isinstance(image.error, Internal)

        _file(data, ending, use)

    return read


def _xmp(data: bytes) -> None:
    from konomi.datasets.xmp import rating_in_sidecar, rating_inside

    for rating in (rating_in_sidecar(data), rating_inside(data), rating_inside(jpeg(b"", data))):
        assert rating.grade in (None, 0, 1, 2, 3, 4, 5)


def _image(data: bytes) -> None:
    from konomi.datasets.png_metadata import MAX_PROMPT_BYTES, origin_of

    for image in (data, png((b"tEXt", data), size=2), png((b"iTXt", b"prompt\0\0\0\0\0" + data), size=2), jpeg(data)):
        origin = origin_of(image)
        assert len(origin.prompt.encode()) <= MAX_PROMPT_BYTES and origin.prompt.isprintable()
        assert origin.seed is None or 0 <= origin.seed < 2**63


def _words(data: bytes) -> None:
    from konomi.datasets.captions import line_of
    from konomi.datasets.prompts import said_by
    from konomi.datasets.spelling import decoded, lines_of, one_spelling
    from konomi.host.terminal import json_line, visible

    words = decoded(data)
    decoded(data, whole=False)
    for text in (words or "", data.decode("utf-8", "surrogateescape")):
        said_by(text, plain=True)
        line_of(text)
        lines_of(text)
        one_spelling(text)
        assert visible(visible(text)) == visible(text)
        assert json.loads(json_line({"x": text}, io.TextIOWrapper(io.BytesIO(), "utf-8"))) == {"x": text}


def _rows(data: bytes) -> None:
    from konomi.datasets.beside import SideFiles
    from konomi.datasets.tally import Tally

    for name in ("metadata.jsonl", "a.json", "a.txt", "a.xmp"):
        files = {name: data}
        beside = SideFiles(_of(files), lambda _, names=tuple(files): names, Tally(), str)
        for image in ("a.png", "deep/b.png", "c.png"):
            beside.of(image)
        beside.close()


def _of(files: dict[str, bytes]) -> Callable[[str, int], bytes | None]:
    return lambda name, limit: files[name][:limit] if name in files else None


def _grades(data: bytes) -> None:
    from konomi.taste.label_file import read_grades

    silent = SimpleNamespace(rater=SimpleNamespace(record_labels=lambda **_: None))
    _file(data, ".jsonl", lambda path: read_grades(silent, "default", path))


def _bundle(data: bytes) -> None:
    from konomi.taste.bundle_format import read_bundle

    _file(data, ".konomi", lambda path: read_bundle(path, lambda entry, chunks: [None for _ in chunks]))


def _safetensors(data: bytes) -> None:
    from konomi_chassis.models.safetensors_check import check_bytes

    check_bytes(data)


def _snapshot(data: bytes) -> None:
    from konomi_chassis.storage.snapshots import parse

    parse(data, "konomi.taste", 8, ("images", "labels"))


def _manifest(data: bytes) -> None:
    from konomi_trainer.data.manifest import parse

    parse(data)


def _plan(data: bytes) -> None:
    from konomi.night.engine.preparation import read_plan

    _file(data, ".toml", read_plan)


@dataclass(frozen=True)
class ForeignBytes:
    """One parser.

    Attributes:
        read: gives it bytes.
        seeds: makes what a fuzzer begins with.
    """

    read: Callable[[], Callable[[bytes], None]]
    seeds: Callable[[], Sequence[bytes]]

    def answer(self, data: bytes) -> None:
        """Gives bytes to the parser; an error of konomi's own is an answer, a bug of its is none."""
        try:
            self.read()(data)
        except Internal:
            raise
        except KonomiError:
            pass


def _always(read: Callable[[bytes], None]) -> Callable[[], Callable[[bytes], None]]:
    return lambda: read


PARSERS = {
    "xmp": ForeignBytes(_always(_xmp), lambda: [XMP.encode(), XMP.encode("utf-16"), jpeg(tiff(), XMP.encode())]),
    "image": ForeignBytes(
        _always(_image),
        lambda: [
            png((b"tEXt", b"parameters\0" + INFOTEXT.encode())),
            png((b"zTXt", b"prompt\0\0" + zlib.compress(json.dumps(RECORDS[6]).encode()))),
            jpeg(tiff()),
            jpeg(tiff(">")),
            b"RIFF\0\0\0\0WEBPEXIF" + struct.pack("<I", len(tiff())) + tiff(),
            tiff(),
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x06Exif\0\0" + tiff(">"),
            *(json.dumps(record).encode() for record in RECORDS),
        ],
    ),
    "words": ForeignBytes(
        _always(_words),
        lambda: [
            INFOTEXT.encode(),
            "大きな木".encode("cp932"),
            "été".encode("latin-1"),
            "木 x".encode("utf-16"),
            b'"a fox" -s 50 -S 102',
            *(json.dumps(record).encode() for record in RECORDS),
        ],
    ),
    "rows": ForeignBytes(_always(_rows), lambda: [ROWS.encode(), ROWS.encode("utf-16"), b'{"grade": 5, "seed": "7"}']),
    "grades": ForeignBytes(_always(_grades), lambda: [b'{"digest": "' + b"0" * 64 + b'", "grade": 5}\n']),
    "zip": ForeignBytes(lambda: _images(".zip"), lambda: [zipped()]),
    "tar": ForeignBytes(lambda: _images(".tar"), lambda: [tarred(), tarred(tarfile.GNU_FORMAT)]),
    "parquet": ForeignBytes(lambda: _images(".parquet"), lambda: [table()]),
    "bundle": ForeignBytes(_always(_bundle), lambda: [bundle()]),
    "safetensors": ForeignBytes(_always(_safetensors), lambda: [safetensors()]),
    "snapshot": ForeignBytes(_always(_snapshot), lambda: [snapshot()]),
    "manifest": ForeignBytes(_always(_manifest), lambda: [training_manifest()]),
    "plan": ForeignBytes(
        _always(_plan), lambda: [b'[[stage]]\nsystem = "converge"\nunits = 2\n[night]\nimages = 64\n']
    ),
}
"""Name to parser."""
