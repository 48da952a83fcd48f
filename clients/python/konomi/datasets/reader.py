"""Images in folders, archives, tables and files: found in a fixed order, told by their first bytes, never unpacked."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from konomi.datasets.archives import ARCHIVES
from konomi.datasets.beside import Beside, SideFiles, told
from konomi.datasets.captions import grade_of, words_of
from konomi.datasets.media import (
    HEAD_BYTES,
    MAX_IMAGE_BYTES,
    ImageFile,
    image_file,
    is_raw,
    media_type_of,
    not_an_image,
    pass_over,
    path_below,
)
from konomi.datasets.tally import Tally
from konomi.errors import InvalidArgument, KonomiError, NotFound
from konomi.files import open_regular
from konomi.i18n.catalogue import text

__all__ = ["ImageFile", "count_files", "find_images", "media_type_of"]

NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO)
"""What a system says of a name that no file can have, and of what is no file."""

LINKS = "links"
"""What links are counted under."""


def find_images(paths: Iterable[Path], tally: Tally | None = None, *, alone: bool = False) -> Iterator[ImageFile]:
    """Yields the images of folders (recursively, hidden files and links left out), archives, tables and single files.

    A single file that is named and no image yields an error; in folders and archives other files are passed over.

    Args:
        paths: where to look.
        tally: takes what was there and not understood, and what was passed over.
        alone: leave what stands beside images in folders (captions, sidecars, rows) unread: the pixels are what counts.

    Raises:
        NotFound: a path does not exist; nothing was read yet.
        InvalidArgument: a path is a pipe, a socket or a device, or cannot be looked at; nothing was read yet.
    """
    looked_at = [(path, _is_folder(path)) for path in paths]
    return _images(looked_at, tally if tally is not None else Tally(), alone=alone)


def _images(paths: list[tuple[Path, bool]], tally: Tally, *, alone: bool) -> Iterator[ImageFile]:
    for path, is_folder in paths:
        for image in _below(path, tally, alone=alone) if is_folder else _named(path, tally):
            yield replace(image, path=path_below(image.name, path if is_folder else path.parent))


def count_files(paths: Iterable[Path]) -> int:
    """Returns how many files there are to look at, for a progress bar; an archive counts once."""
    return sum(1 if not path.is_dir() else sum(1 for _ in _files(path, Tally(), [])) for path in paths)


def _is_folder(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        line = text("expected a folder, a zip or an image, but there is nothing at {path}", path=path)
        raise NotFound(line, field="path") from error
    except OSError as error:
        line = text("cannot read {path}: {why}", path=path, why=error.strerror)
        raise InvalidArgument(line, reason="FILE_UNREADABLE", field="path") from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        line = text("expected a folder, a zip or an image, but {path} is a pipe, a socket or a device", path=path)
        raise InvalidArgument(line, reason="NOT_A_FILE", field="path")
    return stat.S_ISDIR(mode)


def _files(folder: Path, tally: Tally, refused: list[ImageFile]) -> Iterator[Path]:
    """Yields the files below a folder in the order of their names; folders that cannot be read go to `refused`."""
    levels = [(folder, iter(_visible(folder, refused)))]
    while levels:
        parent, entries = levels[-1]
        entry = next(entries, None)
        if entry is None:
            levels.pop()
        elif entry.is_symlink():
            tally.passed_over[LINKS] += 1
        elif entry.is_dir(follow_symlinks=False):
            levels.append((parent / entry.name, iter(_visible(parent / entry.name, refused))))
        elif entry.is_file(follow_symlinks=False):
            yield parent / entry.name


def _visible(folder: Path, refused: list[ImageFile]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        message = text("cannot be read: {why}", why=error.strerror)
        refused.append(ImageFile(str(folder), error=InvalidArgument(message, reason="FOLDER_UNREADABLE")))
        return []
    return visible


def _below(folder: Path, tally: Tally, *, alone: bool) -> Iterator[ImageFile]:
    beside = None if alone else _beside(folder, tally)
    refused: list[ImageFile] = []
    for path in _files(folder, tally, refused):
        if path.suffix.lower() in CONTAINERS:
            images = CONTAINERS[path.suffix.lower()](path, tally)
            yield from (image for image in images if image.error is None or image.error.reason != "NO_IMAGES")
        else:
            yield from _file(path, path.relative_to(folder).as_posix(), beside, tally, required=False)
    if beside is not None:
        beside.close()
    yield from refused


def _named(path: Path, tally: Tally) -> Iterator[ImageFile]:
    if path.suffix.lower() in CONTAINERS:
        yield from CONTAINERS[path.suffix.lower()](path, tally)
    else:  # rows of other images are no fault of this one: what stands beside it is not closed
        yield from _file(path, path.name, _beside(path.parent, tally), tally, required=True)


def _beside(folder: Path, tally: Tally) -> SideFiles:
    """Returns what stands beside the images of a folder; links and what is no file are not there."""

    def read(name: str, limit: int) -> bytes | None:
        path = folder / name
        try:
            if path.is_symlink():
                return None
            with open_regular(path) as file:
                return file.read(limit)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            if error.errno in NO_SUCH_NAME:
                return None
            raise

    def names(inside: str) -> list[str]:
        try:
            return [f"{inside}/{name}" if inside else name for name in os.listdir(folder / inside)]
        except OSError:
            return []

    return SideFiles(read, names, tally, lambda name: str(folder / name))


def _file(path: Path, name: str, beside: SideFiles | None, tally: Tally, *, required: bool) -> Iterator[ImageFile]:
    try:
        with open_regular(path) as file:
            data = b"" if is_raw(name) else _picture(file)
    except OSError as error:
        message = text("cannot be read: {why}", why=error.strerror)
        yield ImageFile(str(path), error=InvalidArgument(message, reason="FILE_UNREADABLE"))
        return
    if data:
        yield image_file(str(path), data, beside.of(name) if beside is not None else None)
    elif required:
        yield ImageFile(str(path), error=not_an_image())
    elif (refused := pass_over(str(path), tally.passed_over)) is not None:
        yield refused


def _picture(file: BinaryIO) -> bytes:
    """Returns the bytes of an image, one more than is allowed at most; none of what is no image."""
    head = file.read(HEAD_BYTES)
    return head + file.read(MAX_IMAGE_BYTES + 1) if media_type_of(head) else b""


def _table(path: Path, tally: Tally) -> Iterator[ImageFile]:
    from konomi.datasets.parquet import read_rows

    try:
        for number, row in enumerate(read_rows(path)):
            name, data = f"{path}#{number}", row.pop("image")
            if isinstance(data, bytes):
                rating = grade_of(row)
                told(rating, tally.at(name))
                yield image_file(name, data, Beside(words_of(row), row, rating))
            else:
                yield ImageFile(name, error=not_an_image())
    except KonomiError as error:
        yield ImageFile(str(path), error=error)


CONTAINERS: Mapping[str, Callable[[Path, Tally], Iterator[ImageFile]]] = {**ARCHIVES, ".parquet": _table}
"""Ending of a file that holds images to what reads it."""
