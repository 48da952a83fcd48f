"""The taste bundle: one plain tar of a manifest and artifacts, every byte of which is decided by what it holds.

The manifest comes first and lists every artifact with its sha256 digest and size; the members follow in its order as
`artifacts/<digest>`. Owner, time and mode are fixed and nothing is compressed, so a reader can compare every header
with the only one there may be: links, devices, other names, paths that lead elsewhere, members that come twice and
bytes after the end cannot occur in a bundle that was read to its end.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from konomi.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound
from konomi.files import canonical, open_regular, replacing
from konomi.i18n.catalogue import text

SCHEMA = "konomi.bundle/1"
MANIFEST = "manifest.json"
MANIFEST_BYTES = 256 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
DIGEST = re.compile(r"[0-9a-f]{64}")
TASTE = re.compile(r"tastes/[a-z0-9-]{1,40}")
MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,127}")


@dataclass(frozen=True)
class BundleEntry:
    """One artifact of a bundle; `part` says what it holds, for example "head" or "image"."""

    digest: str
    media_type: str
    size_bytes: int
    part: str


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds.

    Attributes:
        taste: "tastes/{taste}" it was exported as.
        taste_rows: digest of the rater's rows.
        lineage_rows: digest of the trainer's rows; empty where there was no trainer.
        entries: the artifacts, in the order of the file.
    """

    taste: str
    taste_rows: str
    lineage_rows: str
    entries: tuple[BundleEntry, ...]

    def count(self, part: str) -> int:
        """Returns how many artifacts of a kind there are."""
        return sum(entry.part == part for entry in self.entries)

    def to_bytes(self) -> bytes:
        """Returns the manifest as it stands in the file, its own sha256 with it."""
        content = {"schema": SCHEMA, **asdict(self), "entries": [asdict(entry) for entry in self.entries]}
        return canonical({**content, "sha256": hashlib.sha256(canonical(content)).hexdigest()}) + b"\n"


def write_bundle(path: Path, manifest: Manifest, read: Callable[[BundleEntry], Iterable[bytes]]) -> None:
    """Writes a bundle, complete or not at all; a file that is there is replaced only by the finished one.

    Args:
        path: the file.
        manifest: what it shall hold.
        read: yields the bytes of an entry.

    Raises:
        DataLoss: an entry's bytes are not those the manifest names.
    """
    with replacing(path) as file:
        _write_member(file, MANIFEST, len(manifest.to_bytes()), [manifest.to_bytes()])
        for entry in manifest.entries:
            _write_member(file, _name(entry), entry.size_bytes, _checked(entry, read(entry)))
        file.write(_end(file.tell()))


def read_manifest(path: Path) -> Manifest:
    """Returns the manifest of a bundle; what follows it is not looked at.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: it is no bundle, or its manifest was changed.
        FailedPrecondition: a newer konomi wrote it.
    """
    with _open(path) as file:
        return _manifest(file)


def read_bundle(path: Path, visit: Callable[[BundleEntry, Iterator[bytes]], None] | None = None) -> Manifest:
    """Reads a bundle to its end, checking every byte of it, and returns its manifest.

    Args:
        path: the file.
        visit: given each entry with its bytes; it must read them all. An error of the file's is raised while it reads
            or after, so what it has done with the bytes counts only once this returns.

    Raises:
        NotFound, InvalidArgument, FailedPrecondition: as for `read_manifest`.
        DataLoss: a byte was changed, or a part is missing, comes twice or should not be there.
    """
    with _open(path) as file:
        manifest = _manifest(file)
        for entry in manifest.entries:
            _expect(file, _header(_name(entry), entry.size_bytes), text("the header of {member}", member=_name(entry)))
            chunks = _checked(entry, _body(file, entry))
            if visit is not None:
                visit(entry, chunks)
            for _ in chunks:
                pass
            _expect(file, _padding(entry.size_bytes), text("the filling after {member}", member=_name(entry)))
        _expect(file, _end(file.tell()), text("the end of the archive"))
        if file.read(1):
            raise _damaged(text("nothing after the end of the archive"))
    return manifest


def _open(path: Path) -> BinaryIO:
    try:
        return open_regular(path)
    except OSError as error:
        line = text("expected a taste bundle at {path}: {why}", path=path, why=error.strerror)
        raise NotFound(line, reason="BUNDLE_MISSING") from error


def _manifest(file: BinaryIO) -> Manifest:
    head = file.read(tarfile.BLOCKSIZE)
    try:
        member = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise _no_bundle(text("its first bytes are no tar header")) from error
    if head != _header(MANIFEST, member.size) or not 0 < member.size <= MANIFEST_BYTES:
        raise _no_bundle(text("its first member is no plain {name}", name=MANIFEST))
    data = file.read(member.size)
    manifest = _parse(data)
    _expect(file, _padding(member.size), text("the filling after {member}", member=MANIFEST))
    return manifest


def _parse(data: bytes) -> Manifest:
    try:
        document: dict[str, Any] = dict(json.loads(data))
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_bundle(text("its manifest is no JSON")) from error
    schema = document.get("schema")
    if isinstance(schema, str) and schema != SCHEMA and schema.startswith("konomi.bundle/"):
        raise FailedPrecondition(
            text("expected {schema}, found {got}: use the konomi that knows it", schema=SCHEMA, got=schema[:40]),
            reason="BUNDLE_VERSION",
        )
    try:
        entries = tuple(BundleEntry(**entry) for entry in document["entries"])
        manifest = Manifest(document["taste"], document["taste_rows"], document["lineage_rows"], entries)
        whole = manifest.to_bytes() == data
    except (KeyError, TypeError, ValueError) as error:
        raise _no_bundle(text("its manifest lacks a field, or has one that is not known")) from error
    if not whole:
        raise _damaged(text("a manifest with its own digest"))
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    """Refuses a manifest whose digest is right and whose content cannot be."""
    digests = [entry.digest for entry in manifest.entries]
    well = all(
        isinstance(entry.digest, str) and DIGEST.fullmatch(entry.digest)
        and isinstance(entry.media_type, str) and MEDIA_TYPE.fullmatch(entry.media_type)
        and type(entry.size_bytes) is int and 0 <= entry.size_bytes < 2**50
        for entry in manifest.entries
    )  # fmt: skip
    if not well or not isinstance(manifest.taste, str) or not TASTE.fullmatch(manifest.taste):
        raise _no_bundle(text("its manifest names a taste or an artifact in a way that is not allowed"))
    if len(set(digests)) != len(digests):
        raise _no_bundle(text("its manifest names an artifact twice"))
    rows = {entry.digest for entry in manifest.entries if entry.part == "rows"}
    if {manifest.taste_rows, manifest.lineage_rows} - {""} != rows or not manifest.taste_rows:
        raise _no_bundle(text("its manifest does not list exactly the rows it names"))


def _checked(entry: BundleEntry, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the bytes of an entry; DataLoss at their end where they are not what the manifest names."""
    hasher, size = hashlib.sha256(), 0
    for chunk in chunks:
        hasher.update(chunk)
        size += len(chunk)
        yield chunk
    if size != entry.size_bytes or hasher.hexdigest() != entry.digest:
        raise _damaged(text("bytes of the digest {digest} in {member}", digest=entry.digest, member=_name(entry)))


def _body(file: BinaryIO, entry: BundleEntry) -> Iterator[bytes]:
    left = entry.size_bytes
    while left:
        chunk = file.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise _damaged(text("{size} bytes in {member}", size=entry.size_bytes, member=_name(entry)))
        left -= len(chunk)
        yield chunk


def _write_member(file: BinaryIO, name: str, size: int, chunks: Iterable[bytes]) -> None:
    file.write(_header(name, size))
    for chunk in chunks:
        file.write(chunk)
    file.write(_padding(size))


def _name(entry: BundleEntry) -> str:
    return f"artifacts/{entry.digest}"


def _header(name: str, size: int) -> bytes:
    """Returns the one header a member of this name and size may have."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _end(position: int) -> bytes:
    """Returns the two empty blocks and the filling of the last record."""
    blocks = 2 * tarfile.BLOCKSIZE
    return bytes(blocks + -(position + blocks) % tarfile.RECORDSIZE)


def _expect(file: BinaryIO, wanted: bytes, what: str) -> None:
    if file.read(len(wanted)) != wanted:
        raise _damaged(what)


def _no_bundle(why: str) -> InvalidArgument:
    return InvalidArgument(
        text("expected a taste bundle, but {why}; to write one: konomi taste export", why=why), reason="NOT_A_BUNDLE"
    )


def _damaged(what: str) -> DataLoss:
    return DataLoss(
        text("expected {what}, found something else: the bundle was changed or cut; take another copy", what=what),
        reason="BUNDLE_DAMAGED",
    )


def sorted_entries(entries: Sequence[BundleEntry]) -> tuple[BundleEntry, ...]:
    """Returns entries each once, in the order of a bundle: rows first, then by kind and digest."""
    once = {entry.digest: entry for entry in reversed(entries)}
    return tuple(sorted(once.values(), key=lambda entry: (entry.part != "rows", entry.part, entry.digest)))
