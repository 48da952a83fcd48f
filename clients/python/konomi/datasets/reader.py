"""Images in folders, archives, tables and files: found in a fixed order, told by their first bytes, never unpacked."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from konomi.datasets.archives import beside, tar_images, zip_images
from konomi.datasets.captions import Metadata, words_of
from konomi.datasets.media import MAX_IMAGE_BYTES, ImageFile, image_file, media_type_of, not_an_image
from konomi.errors import InvalidArgument, KonomiError, NotFound
from konomi.i18n.catalogue import text

__all__ = ["ImageFile", "count_files", "find_images", "media_type_of"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def find_images(paths: Iterable[Path]) -> Iterator[ImageFile]:
    """Yields the images of folders (recursively, hidden files and links left out), archives, tables and single files.

    A single file that is named and no image yields an error; in folders and archives other files are passed over.

    Raises:
        NotFound: a path does not exist; nothing was read yet.
    """
    paths = list(paths)
    for path in paths:
        if not path.exists():
            line = text("expected a folder, a zip or an image, but there is nothing at {path}", path=path)
            raise NotFound(line, field="path")
    for path in paths:
        yield from _below(path) if path.is_dir() else _named(path)


def count_files(paths: Iterable[Path]) -> int:
    """Returns how many files there are to look at, for a progress bar; an archive counts once."""
    return sum(1 if not path.is_dir() else sum(1 for _ in _files(path)) for path in paths)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and not path.is_symlink() and path.is_file():
            yield path


def _below(folder: Path) -> Iterator[ImageFile]:
    read = _reader(folder)
    metadata = Metadata(read)
    for path in _files(folder):
        if path.suffix.lower() in CONTAINERS:
            images = CONTAINERS[path.suffix.lower()](path)
            yield from (image for image in images if image.error is None or image.error.reason != "NO_IMAGES")
        else:
            yield from _file(path, path.relative_to(folder).as_posix(), read, metadata, required=False)


def _named(path: Path) -> Iterator[ImageFile]:
    if path.suffix.lower() in CONTAINERS:
        yield from CONTAINERS[path.suffix.lower()](path)
    else:
        read = _reader(path.parent)
        yield from _file(path, path.name, read, Metadata(read), required=True)


def _reader(folder: Path) -> Callable[[str, int], bytes | None]:
    """Returns what reads a file of a folder by its name; links and what is no file are not there."""

    def read(name: str, limit: int) -> bytes | None:
        path = folder / name
        if path.is_symlink() or not path.is_file():
            return None
        try:
            with path.open("rb") as file:
                return file.read(limit)
        except OSError:
            return None

    return read


def _file(
    path: Path, name: str, read: Callable[[str, int], bytes | None], metadata: Metadata, *, required: bool
) -> Iterator[ImageFile]:
    try:
        with path.open("rb") as file:
            head = file.read(12)
            data = head + file.read(MAX_IMAGE_BYTES + 1) if media_type_of(head) else b""
    except OSError as error:
        message = text("cannot be read: {why}", why=error.strerror)
        yield ImageFile(str(path), error=InvalidArgument(message, reason="FILE_UNREADABLE"))
        return
    if data:
        yield image_file(str(path), data, *beside(name, read, metadata))
    elif required or path.suffix.lower() in PICTURES:
        yield ImageFile(str(path), error=not_an_image())


def _table(path: Path) -> Iterator[ImageFile]:
    from konomi.datasets.parquet import read_rows

    try:
        for number, row in enumerate(read_rows(path)):
            name, data = f"{path}#{number}", row.pop("image")
            if isinstance(data, bytes):
                yield image_file(name, data, words_of(row), row)
            else:
                yield ImageFile(name, error=not_an_image())
    except KonomiError as error:
        yield ImageFile(str(path), error=error)


CONTAINERS: Mapping[str, Callable[[Path], Iterator[ImageFile]]] = {
    ".zip": zip_images,
    ".tar": tar_images,
    ".parquet": _table,
}
"""Ending of a file that holds images to what reads it."""
