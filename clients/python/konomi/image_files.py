"""Images in folders, files and zips: found in a fixed order, told by their first bytes, never unpacked to disk."""

import stat
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from konomi.errors import InvalidArgument, KonomiError, NotFound

MAX_IMAGE_BYTES = 32 * 1024 * 1024
MAX_RATIO = 1000
MAX_ENTRIES = 1_000_000


@dataclass(frozen=True)
class ImageFile:
    """One image found: its bytes and media type, or why it could not be read."""

    name: str
    data: bytes = b""
    media_type: str = ""
    error: KonomiError | None = None


def media_type_of(head: bytes) -> str:
    """Returns the media type the first 12 bytes tell; empty when they are no PNG, JPEG or WebP."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else ""


def find_images(paths: Iterable[Path]) -> Iterator[ImageFile]:
    """Yields the images of folders (recursively, hidden files and links left out), zips and single files.

    A single file that is named and no image yields an error; in folders and zips other files are passed over.

    Raises:
        NotFound: a path does not exist; nothing was read yet.
    """
    paths = list(paths)
    for path in paths:
        if not path.exists():
            raise NotFound(f"expected a folder, a zip or an image, but there is nothing at {path}", field="path")
    for path in paths:
        yield from _below(path) if path.is_dir() else _named(path)


def count_files(paths: Iterable[Path]) -> int:
    """Returns how many files there are to look at, for a progress bar; a zip counts once."""
    return sum(1 if not path.is_dir() else sum(1 for _ in _files(path)) for path in paths)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and not path.is_symlink() and path.is_file():
            yield path


def _below(folder: Path) -> Iterator[ImageFile]:
    for path in _files(folder):
        found = _zip(path) if path.suffix.lower() == ".zip" else _file(path, required=False)
        yield from found


def _named(path: Path) -> Iterator[ImageFile]:
    yield from _zip(path) if path.suffix.lower() == ".zip" else _file(path, required=True)


def _file(path: Path, required: bool) -> Iterator[ImageFile]:
    try:
        with path.open("rb") as file:
            head = file.read(12)
            media_type = media_type_of(head)
            if media_type:
                yield _image(str(path), head + file.read(MAX_IMAGE_BYTES + 1), media_type)
            elif required or path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"):
                yield ImageFile(str(path), error=_not_an_image())
    except OSError as error:
        yield ImageFile(str(path), error=InvalidArgument(f"cannot be read: {error.strerror}", reason="FILE_UNREADABLE"))


def _zip(path: Path) -> Iterator[ImageFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES:
                raise zipfile.BadZipFile(f"more than {MAX_ENTRIES} entries")
            for entry in entries:
                yield from _entry(path, archive, entry)
    except (zipfile.BadZipFile, OSError) as error:
        yield ImageFile(str(path), error=InvalidArgument(f"is no readable zip: {error}", reason="ZIP_UNREADABLE"))


def _entry(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[ImageFile]:
    """Reads one entry into memory, with caps; its name is only ever shown, never used as a path."""
    name = f"{path}!{entry.filename}"
    if entry.is_dir() or stat.S_ISLNK(entry.external_attr >> 16):
        return
    if entry.file_size > max(1, entry.compress_size) * MAX_RATIO:
        yield ImageFile(name, error=InvalidArgument("is packed too tightly to be an image", reason="ZIP_BOMB"))
        return
    try:
        with archive.open(entry) as file:
            head = file.read(12)
            media_type = media_type_of(head)
            if media_type:
                yield _image(name, head + file.read(MAX_IMAGE_BYTES + 1), media_type)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        yield ImageFile(name, error=InvalidArgument(f"cannot be unpacked: {error}", reason="ZIP_UNREADABLE"))


def _image(name: str, data: bytes, media_type: str) -> ImageFile:
    if len(data) > MAX_IMAGE_BYTES:
        message = f"expected at most {MAX_IMAGE_BYTES // 1024**2} MiB, got more; shrink it first"
        return ImageFile(name, error=InvalidArgument(message, reason="IMAGE_TOO_LARGE"))
    return ImageFile(name, data, media_type)


def _not_an_image() -> InvalidArgument:
    return InvalidArgument("expected a PNG, JPEG or WebP image, got something else", reason="IMAGE_TYPE")
