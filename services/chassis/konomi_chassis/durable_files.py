"""Files and folders a power cut cannot take back, and files opened only where they are files."""

import errno
import os
import stat
from pathlib import Path

from konomi.errors import DataLoss


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable; syncing a file does that for its bytes alone."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Makes the bytes of a file durable whoever wrote them; not the file's name."""
    _sync(path, os.O_RDONLY | os.O_NOFOLLOW)


def make_folder(folder: Path, below: Path | None = None) -> None:
    """Makes a folder where there is none, and its name durable, with those of the folders it lies in.

    One that is there already may have been made just before a kill: until its name is synced, everything put into it
    is one power cut from being gone.

    Args:
        folder: the folder.
        below: a folder above it that is durable already; without it all are synced as far as they may be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for place in folder.absolute().parents:
        try:
            sync_folder(place)
        except PermissionError:
            return  # not ours, so not made by us
        if place == below:
            return


def open_regular(path: Path) -> int:
    """Returns a descriptor for reading a regular file; never waits for the other end of a pipe.

    Raises:
        FileNotFoundError: nothing has this name.
        DataLoss: a link, pipe, device or folder stands there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise not_a_file(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_a_file(path)
    return descriptor


def not_a_file(path: Path) -> DataLoss:
    """Returns the error of a file in whose place something else stands."""
    return DataLoss(
        f"Where the file {path.name} should be stands something else: a link, a pipe, a device or a folder. "
        "Remove it, then restore the file from a backup.",
        reason="NOT_A_FILE",
    )


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
