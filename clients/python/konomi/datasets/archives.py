"""Images in zips and in tars (WebDataset shards): read one by one into memory with caps, never unpacked to disk.

A name is only ever shown. One that would lead elsewhere, comes twice or belongs to a link is refused all the same: an
archive that has such names was not made to be read.
"""

import json
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from konomi.datasets.captions import Facts, Metadata, caption_of, concept_of, line_of, words_of
from konomi.datasets.media import MAX_IMAGE_BYTES, ImageFile, image_file, media_type_of
from konomi.errors import InvalidArgument
from konomi.i18n.catalogue import text

MAX_RATIO = 1000
MAX_ENTRIES = 1_000_000
SIDE_BYTES = 256 * 1024
DRIVE = re.compile(r"[A-Za-z]:")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
BROKEN = (zipfile.BadZipFile, tarfile.TarError, OSError, RuntimeError, NotImplementedError, EOFError, ValueError)
"""What zipfile and tarfile raise on archives that are damaged, locked or not what they seem."""


def unsafe(name: str) -> bool:
    """Says whether a name in an archive leads out of it, or means different things to different programs."""
    return name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/") or bool(DRIVE.match(name))


def zip_images(path: Path) -> Iterator[ImageFile]:
    """Yields the images of a zip with what stands beside them; what cannot be read is an error of its own."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MAX_ENTRIES:
                raise zipfile.BadZipFile(text("more than {most} entries", most=MAX_ENTRIES))
            if sum(entry.compress_size for entry in entries) > path.stat().st_size:
                raise zipfile.BadZipFile(text("its entries overlap"))
            yield from _zip_entries(path, archive, entries)
    except BROKEN as error:
        message = text("is no readable zip: {why}", why=error)
        yield ImageFile(str(path), error=InvalidArgument(message, reason="ZIP_UNREADABLE"))


def _zip_entries(path: Path, archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> Iterator[ImageFile]:
    seen: dict[str, zipfile.ZipInfo] = {}

    def read(name: str, limit: int) -> bytes | None:
        entry = seen.get(name) or by_name.get(name)
        if entry is None or entry.file_size > max(1, entry.compress_size) * MAX_RATIO:
            return None
        try:
            with archive.open(entry) as file:
                return file.read(limit)
        except BROKEN:
            return None

    by_name = {entry.filename: entry for entry in reversed(entries)}
    metadata = Metadata(read)
    for entry in entries:
        shown = f"{path}!{entry.filename}"
        wrong = _wrong(entry.orig_filename, entry.filename in seen, stat.S_ISLNK(entry.external_attr >> 16))
        if wrong is None and entry.file_size > max(1, entry.compress_size) * MAX_RATIO:
            wrong = InvalidArgument(text("is packed too tightly to be an image"), reason="ZIP_BOMB")
        if wrong is not None:
            yield ImageFile(shown, error=wrong)
            continue
        seen[entry.filename] = entry
        try:
            with archive.open(entry) as file:
                head = file.read(12)
                data = head + file.read(MAX_IMAGE_BYTES + 1) if media_type_of(head) else b""
        except BROKEN as error:
            message = text("cannot be unpacked: {why}", why=error)
            yield ImageFile(shown, error=InvalidArgument(message, reason="ZIP_UNREADABLE"))
            continue
        if data:
            yield image_file(shown, data, *beside(entry.filename, read, metadata))


def tar_images(path: Path) -> Iterator[ImageFile]:
    """Yields the images of an uncompressed tar with what stands beside them: `key.png`, `key.txt`, `key.json`."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = []
            for member in archive:
                members.append(member)
                if len(members) > MAX_ENTRIES:
                    raise tarfile.ReadError(text("more than {most} entries", most=MAX_ENTRIES))
            yield from _tar_members(path, archive, members)
    except BROKEN as error:
        message = text("is no readable tar: {why}", why=error)
        yield ImageFile(str(path), error=InvalidArgument(message, reason="TAR_UNREADABLE"))


def _tar_members(path: Path, archive: tarfile.TarFile, members: list[tarfile.TarInfo]) -> Iterator[ImageFile]:
    by_name = {member.name: member for member in reversed(members) if member.isreg() and not member.issparse()}

    def read(name: str, limit: int) -> bytes | None:
        member = by_name.get(name)
        file = archive.extractfile(member) if member is not None else None
        return file.read(limit) if file is not None else None

    metadata, seen = Metadata(read), set()
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
            data = read(member.name, MAX_IMAGE_BYTES + 1) if media_type_of(read(member.name, 12) or b"") else None
        except BROKEN as error:
            message = text("cannot be read: {why}", why=error)
            yield ImageFile(shown, error=InvalidArgument(message, reason="TAR_UNREADABLE"))
            continue
        if data:
            yield image_file(shown, data, *beside(member.name, read, metadata))


def beside(name: str, read: Callable[[str, int], bytes | None], metadata: Metadata) -> tuple[str, Facts]:
    """Returns caption and facts of an image from what stands beside it."""
    facts = metadata.of(name) or _record(read(f"{name.rpartition('.')[0]}.json", SIDE_BYTES))
    return caption_of(name, read) or words_of(facts) or concept_of(name), facts


def _record(data: bytes | None) -> Facts:
    try:
        facts: Any = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _wrong(name: str, repeated: bool, link: bool) -> InvalidArgument | None:
    if unsafe(name):
        return InvalidArgument(text("has a name that leads out of the archive; it was not read"), reason="UNSAFE_NAME")
    if link:
        return InvalidArgument(text("is a link or a device, no file; it was not read"), reason="NOT_A_FILE")
    if repeated:
        message = text("has a name that came before in this archive; only the first was read")
        return InvalidArgument(message, reason="TWICE")
    return None


__all__ = ["beside", "line_of", "tar_images", "unsafe", "zip_images"]
