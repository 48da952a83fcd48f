"""The taste bundle's file: written once, read back byte for byte, and refused when anything in it is not as it was."""

import hashlib
import io
import json
import random
import tarfile
from pathlib import Path

import pytest

from konomi.errors import DataLoss, FailedPrecondition, InvalidArgument, KonomiError, NotFound
from konomi.files import canonical
from konomi.taste.bundle_format import (
    BundleEntry,
    Manifest,
    read_bundle,
    read_manifest,
    sorted_entries,
    write_bundle,
)

ROWS = b'{"kind":"konomi.taste","schema":1}\n'
CONTENTS = {"rows": ROWS, "head": b"head " * 700, "image": b"\x89PNG" + bytes(2000), "night": b"{}"}


def entry(data: bytes, part: str) -> BundleEntry:
    return BundleEntry(hashlib.sha256(data).hexdigest(), "application/octet-stream", len(data), part)


def manifest_of(contents: dict[str, bytes]) -> Manifest:
    entries = sorted_entries([entry(data, part) for part, data in contents.items()])
    return Manifest("tastes/default", hashlib.sha256(ROWS).hexdigest(), "", entries)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "taste.konomi"
    write_bundle(path, manifest_of(CONTENTS), lambda found: [CONTENTS[found.part][:7], CONTENTS[found.part][7:]])
    return path


def test_what_was_written_is_read(bundle):
    seen = {}
    manifest = read_bundle(bundle, lambda found, chunks: seen.__setitem__(found.part, b"".join(chunks)))
    assert seen == CONTENTS
    assert manifest == read_manifest(bundle) == manifest_of(CONTENTS)
    assert manifest.count("image") == 1 and list(bundle.parent.iterdir()) == [bundle]


def test_the_same_content_makes_the_same_bytes_and_any_tar_reads_them(bundle, tmp_path):
    again = tmp_path / "again.konomi"
    write_bundle(again, manifest_of(dict(reversed(CONTENTS.items()))), lambda found: [CONTENTS[found.part]])
    assert again.read_bytes() == bundle.read_bytes()
    with tarfile.open(bundle) as tar:
        names = tar.getnames()
        assert names[0] == "manifest.json" and names[1] == f"artifacts/{hashlib.sha256(ROWS).hexdigest()}"
        for name in names[1:]:
            assert hashlib.sha256(tar.extractfile(name).read()).hexdigest() == name.removeprefix("artifacts/")


@pytest.mark.slow
def test_a_change_of_any_single_byte_is_refused(bundle):
    whole = bundle.read_bytes()
    rng = random.Random(0)
    places = {*range(0, len(whole), 97), *rng.sample(range(len(whole)), 300), len(whole) - 1}
    for place in sorted(places):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        bundle.write_bytes(changed)
        with pytest.raises(KonomiError) as refused:
            read_bundle(bundle)
        assert isinstance(refused.value, DataLoss | InvalidArgument | FailedPrecondition), place
    bundle.write_bytes(whole)
    read_bundle(bundle)


def test_a_cut_or_longer_file_is_refused(bundle):
    whole = bundle.read_bytes()
    for cut in (*range(0, len(whole), 509), len(whole) - 1):
        bundle.write_bytes(whole[:cut])
        with pytest.raises(KonomiError):
            read_bundle(bundle)
    bundle.write_bytes(whole + b"\0")
    with pytest.raises(DataLoss, match="nothing after the end"):
        read_bundle(bundle)


def forged(path: Path, change) -> None:
    """Rewrites a bundle's manifest, its own digest made to fit, and the rest as it was."""
    whole = path.read_bytes()
    size = tarfile.TarInfo.frombuf(whole[:512], "utf-8", "strict").size
    content = json.loads(whole[512 : 512 + size])
    del content["sha256"]
    change(content)
    data = canonical({**content, "sha256": hashlib.sha256(canonical(content)).hexdigest()}) + b"\n"
    member = tarfile.TarInfo("manifest.json")
    member.size = len(data)
    path.write_bytes(
        member.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512) + whole[512 + size + (-size % 512) :]
    )


def first(content: dict) -> dict:
    return content["entries"][0]


MANIFESTS = {
    "an unknown version": (lambda c: c.update(schema="konomi.bundle/9"), FailedPrecondition, "konomi.bundle/9"),
    "no version": (lambda c: c.update(schema="zip"), DataLoss, "own digest"),
    "a path as digest": (lambda c: first(c).update(digest="../../etc/passwd"), InvalidArgument, "not allowed"),
    "an absolute path": (lambda c: first(c).update(digest="/" + "a" * 63), InvalidArgument, "not allowed"),
    "NUL in a digest": (lambda c: first(c).update(digest="a" * 63 + "\0"), InvalidArgument, "not allowed"),
    "a negative size": (lambda c: first(c).update(size_bytes=-1), InvalidArgument, "not allowed"),
    "a truth value as size": (lambda c: first(c).update(size_bytes=True), InvalidArgument, "not allowed"),
    "another taste's path": (lambda c: c.update(taste="tastes/../x"), InvalidArgument, "not allowed"),
    "a field too many": (lambda c: first(c).update(path="/etc"), InvalidArgument, "not known"),
    "an entry twice": (lambda c: c["entries"].append(dict(first(c))), InvalidArgument, "twice"),
    "a missing part": (lambda c: c["entries"].append({**first(c), "digest": "b" * 64, "part": ""}), DataLoss, "header"),
    "a part not listed": (lambda c: c["entries"].pop(), DataLoss, "end of the archive"),
    "rows that are not there": (lambda c: c.update(taste_rows="c" * 64), InvalidArgument, "rows"),
    "no list": (lambda c: c.update(entries=5), InvalidArgument, "lacks a field"),
}  # fmt: skip


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_forged_manifest_is_refused(bundle, case):
    change, kind, said = MANIFESTS[case]
    forged(bundle, change)
    with pytest.raises(kind, match=said):
        read_bundle(bundle)


def hostile(path: Path, name: str, kind: bytes, size: int = 0) -> None:
    """A tar that begins with a good manifest and goes on with a member nobody should take."""
    manifest = manifest_of(CONTENTS)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for member_name, data in (("manifest.json", manifest.to_bytes()), (name, bytes(size))):
            member = tarfile.TarInfo(member_name)
            member.size, member.type = len(data), tarfile.REGTYPE if member_name == "manifest.json" else kind
            link = member_name == name and kind in (tarfile.SYMTYPE, tarfile.LNKTYPE)
            member.linkname = "/etc/passwd" if link else ""
            tar.addfile(member, io.BytesIO(data))


DIGEST = hashlib.sha256(ROWS).hexdigest()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE,
                                  tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME])  # fmt: skip
@pytest.mark.parametrize(
    "name", [f"artifacts/{DIGEST}", "../../evil", "/etc/evil", "artifacts/..\\evil", "artifacts/%2e%2e%2fevil"]
)
def test_a_hostile_member_is_refused_and_nothing_is_written(tmp_path, name, kind):
    path = tmp_path / "inside" / "taste.konomi"
    path.parent.mkdir()
    hostile(path, name, kind)
    with pytest.raises(DataLoss, match="header"):
        read_bundle(path)
    hostile(path, name, tarfile.REGTYPE, size=len(ROWS))
    with pytest.raises(DataLoss):
        read_bundle(path)
    assert [found.name for found in tmp_path.rglob("*")] == ["inside", "taste.konomi"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(600), b"\x89PNG\r\n\x1a\n" + bytes(600), b"x" * 5000])
def test_what_is_no_bundle_is_said_to_be_none(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InvalidArgument, match="konomi taste export") as refused:
        read_bundle(tmp_path / "x")
    assert refused.value.reason == "NOT_A_BUNDLE"
    with pytest.raises(NotFound, match="taste bundle"):
        read_bundle(tmp_path / "y")


def test_bytes_that_are_not_the_digests_leave_no_file_and_the_old_one_alone(bundle):
    before = bundle.read_bytes()
    with pytest.raises(DataLoss):
        write_bundle(bundle, manifest_of(CONTENTS), lambda found: [CONTENTS[found.part][:-1], b"?"])
    assert bundle.read_bytes() == before and list(bundle.parent.iterdir()) == [bundle]
