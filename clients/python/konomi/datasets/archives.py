"""Images in zips and in tars (WebDataset shards): read one by one into memory with caps, never unpacked to disk.

A name is only ever shown, and matched with those of the files beside the image: back slashes are what Windows writes
between folders, and names without a sign of their encoding are read in that of their archive. One that would lead
elsewhere, comes twice or belongs to a link is refused all the same: an archive that has such names was not made to be
read.
"""

import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from konomi.datasets.beside import SideFiles
from konomi.datasets.media import (
    HEAD_BYTES,
    MAX_IMAGE_BYTES,
    ImageFile,
    image_file,
    is_raw,
    media_type_of,
    pass_over,
)
from konomi.datasets.spelling import archive_encoding, one_folder_sign
from konomi.datasets.tally import Tally
from konomi.errors import InvalidArgument
from konomi.files import open_regular
from konomi.i18n.catalogue import text

MAX_RATIO = 1000
MAX_ENTRIES = 1_000_000
DRIVE = re.compile(r"[A-Za-z]:/")
UTF8_NAME, UNICODE_PATH = 0x800, 0x7075
"""A zip's sign that a name is UTF-8, and the extra field in which Info-ZIP keeps the UTF-8 name beside another."""

BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error),
    *(OSError, RuntimeError, NotImplementedError, EOFError, ValueError, LookupError, ArithmeticError),
)
"""What zipfile and tarfile raise on archives that are damaged, locked or not what they seem."""

E = TypeVar("E")


def unsafe(name: str) -> bool:
    """Says whether a name in an archive leads out of it, or means different things to different programs."""
    plain = name.replace("\\", "/")
    return plain.startswith("/") or "\0" in plain or ".." in plain.split("/") or bool(DRIVE.match(plain))


class _Members(Generic[E]):
    """The members of an archive by their names; of two of one name the first counts."""

    def __init__(self, members: Iterable[tuple[str, E]]) -> None:
        self._members: dict[str, E] = {}
        self._folders: dict[str, list[str]] = {}
        for name, member in members:
            plain = one_folder_sign(name)
            if plain not in self._members:
                self._members[plain] = member
                self._folders.setdefault(plain.rpartition("/")[0], []).append(plain)

    def get(self, name: str) -> E | None:
        return self._members.get(name)

    def beside(self, folder: str) -> Iterable[str]:
        """Returns the names of a folder of the archive."""
        return self._folders.get(folder, ())


def zip_images(path: Path, tally: Tally) -> Iterator[ImageFile]:
    """Yields the images of a zip with what stands beside them; what cannot be read is an error of its own."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MAX_ENTRIES:
                raise zipfile.BadZipFile(text("more than {most} entries", most=MAX_ENTRIES))
            if sum(entry.compress_size for entry in entries) > os.fstat(file.fileno()).st_size:
                raise zipfile.BadZipFile(text("its entries overlap"))
            yield from _zip_entries(path, archive, _named(entries), tally)
    except BROKEN as error:
        message = text("is no readable zip: {why}", why=_why(error))
        yield ImageFile(str(path), error=InvalidArgument(message, reason="ZIP_UNREADABLE"))


def _named(entries: list[zipfile.ZipInfo]) -> list[tuple[str, zipfile.ZipInfo]]:
    """Returns each entry with its name: as it says itself, else in the encoding of the archive."""
    raw = [b"" if entry.flag_bits & UTF8_NAME else entry.orig_filename.encode("cp437") for entry in entries]
    encoding = archive_encoding(raw)
    names = [_unicode_path(entry.extra, name) for entry, name in zip(entries, raw, strict=True)]
    return [
        (name or (bytes_.decode(encoding, "replace") if bytes_ else entry.orig_filename), entry)
        for name, bytes_, entry in zip(names, raw, entries, strict=True)
    ]


def _unicode_path(extra: bytes, raw: bytes) -> str:
    """Returns the UTF-8 name in an entry's extra fields, where it belongs to the name the entry has."""
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        body = extra[4 : 4 + length]
        if kind == UNICODE_PATH and len(body) > 5 and struct.unpack("<I", body[1:5])[0] == zlib.crc32(raw):
            return body[5:].decode("utf-8", "replace")
        extra = extra[4 + length :]
    return ""


def _zip_entries(
    path: Path, archive: zipfile.ZipFile, entries: list[tuple[str, zipfile.ZipInfo]], tally: Tally
) -> Iterator[ImageFile]:
    members, seen = _Members(entries), set[str]()

    def read(name: str, limit: int) -> bytes | None:
        entry = members.get(name)
        return None if entry is None else _unpacked(archive, entry, limit)

    beside = SideFiles(read, members.beside, tally, lambda name: f"{path}!{name}")
    for name, entry in entries:
        shown = f"{path}!{name}"
        wrong = _wrong(name, entry.orig_filename in seen, stat.S_ISLNK(entry.external_attr >> 16))
        if wrong is None and _too_tight(entry):
            wrong = InvalidArgument(text("is packed too tightly to be an image"), reason="ZIP_BOMB")
        if wrong is not None:
            yield ImageFile(shown, error=wrong)
            continue
        seen.add(entry.orig_filename)
        try:
            with archive.open(entry) as file:
                head = file.read(HEAD_BYTES)
                data = head + file.read(MAX_IMAGE_BYTES + 1) if media_type_of(head) and not is_raw(name) else b""
        except BROKEN as error:
            message = text("cannot be unpacked: {why}", why=_why(error))
            yield ImageFile(shown, error=InvalidArgument(message, reason="ZIP_UNREADABLE"))
            continue
        yield from _image(shown, data, one_folder_sign(name), beside, tally)
    beside.close()


def _too_tight(entry: zipfile.ZipInfo) -> bool:
    return entry.file_size > max(1, entry.compress_size) * MAX_RATIO


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """Returns the first bytes of a text beside an image.

    Raises:
        ValueError: it cannot be unpacked.
    """
    if _too_tight(entry):
        raise ValueError(text("it is packed too tightly to be a text"))
    try:
        with archive.open(entry) as file:
            return file.read(limit)
    except BROKEN as error:
        raise ValueError(_why(error)) from error


def tar_images(path: Path, tally: Tally) -> Iterator[ImageFile]:
    """Yields the images of an uncompressed tar with what stands beside them: `key.png`, `key.txt`, `key.json`."""
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            members = []
            for member in archive:
                members.append(member)
                if len(members) > MAX_ENTRIES:
                    raise tarfile.ReadError(text("more than {most} entries", most=MAX_ENTRIES))
            yield from _tar_members(path, archive, members, tally)
    except BROKEN as error:
        message = text("is no readable tar: {why}", why=_why(error))
        yield ImageFile(str(path), error=InvalidArgument(message, reason="TAR_UNREADABLE"))


def _tar_members(
    path: Path, archive: tarfile.TarFile, members: list[tarfile.TarInfo], tally: Tally
) -> Iterator[ImageFile]:
    files = _Members((member.name, member) for member in members if member.isreg() and not member.issparse())

    def read(name: str, limit: int) -> bytes | None:
        member = files.get(name)
        return None if member is None else _contents(archive, member, limit)

    beside = SideFiles(read, files.beside, tally, lambda name: f"{path}!{name}")
    seen = set[str]()
    for member in members:
        if member.isdir():
            continue
        shown = f"{path}!{member.name}"
        wrong = _wrong(member.name, member.name in seen, not member.isreg() or member.issparse())
        seen.add(member.name)
        if wrong is not None:
            yield ImageFile(shown, error=wrong)
            continue
        try:
            is_image = media_type_of(_contents(archive, member, HEAD_BYTES)) and not is_raw(member.name)
            data = _contents(archive, member, MAX_IMAGE_BYTES + 1) if is_image else b""
        except ValueError as error:
            message = text("cannot be read: {why}", why=error)
            yield ImageFile(shown, error=InvalidArgument(message, reason="TAR_UNREADABLE"))
            continue
        yield from _image(shown, data, one_folder_sign(member.name), beside, tally)
    beside.close()


def _contents(archive: tarfile.TarFile, member: tarfile.TarInfo, limit: int) -> bytes:
    """Returns the first bytes of a member.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        file = archive.extractfile(member)
        return b"" if file is None else file.read(limit)
    except BROKEN as error:
        raise ValueError(_why(error)) from error


def _image(shown: str, data: bytes, name: str, beside: SideFiles, tally: Tally) -> Iterator[ImageFile]:
    """Yields the image of a member, or its error; other members are passed over."""
    if data:
        yield image_file(shown, data, beside.of(name))
    elif (refused := pass_over(shown, tally.passed_over)) is not None:
        yield refused


def _wrong(name: str, repeated: bool, link: bool) -> InvalidArgument | None:
    if unsafe(name):
        return InvalidArgument(text("has a name that leads out of the archive; it was not read"), reason="UNSAFE_NAME")
    if link:
        return InvalidArgument(text("is a link or a device, no file; it was not read"), reason="NOT_A_FILE")
    if repeated:
        message = text("has a name that came before in this archive; only the first was read")
        return InvalidArgument(message, reason="TWICE")
    return None


def _why(error: BaseException) -> str:
    """Returns why an archive cannot be read; an error without words is named by its kind."""
    return str(error) or type(error).__name__


ARCHIVES: Mapping[str, Callable[[Path, Tally], Iterator[ImageFile]]] = {".zip": zip_images, ".tar": tar_images}
"""Ending of an archive to what reads it."""
