"""Files written complete or not at all, locks looked at, JSON that is the same bytes for the same values."""

import errno
import fcntl
import json
import os
import stat
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

NAMESPACE = uuid.UUID("6b6f6e6f-6d69-5e6e-8069-676874000001")
"""Namespace of every derived id."""

LOOK_SECONDS = 0.25
"""How long a lock may be busy only because other processes look at it: whoever takes one waits that long."""


def canonical(value: Any) -> bytes:
    """Returns JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def derived_id(*parts: object) -> str:
    """Returns the UUID that names a step's request: the same parts, the same id."""
    return str(uuid.uuid5(NAMESPACE, "/".join(str(part) for part in parts)))


LONGEST_NAME = 255
"""Bytes of a file's name at most, on every file system konomi meets."""

_left_to_others: ContextVar[int | None] = ContextVar("konomi_left_to_others", default=None)


def keep_private() -> None:
    """Makes whatever this process and its children write their owner's alone; only what is handed over is not."""
    _left_to_others.set(os.umask(0o077))


def hand_over(path: Path) -> None:
    """Gives a file or folder that was written for its user, outside any home, the permissions their umask leaves."""
    umask = _left_to_others.get()
    if umask is None:
        return
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        each.chmod((0o777 if each.is_dir() else 0o666) & ~umask)


@contextmanager
def replacing(path: Path, *, mode: int = 0o666, synced: bool = True) -> Iterator[BinaryIO]:
    """Yields a file that takes the place of another when the block ends without an error, and is gone otherwise.

    Args:
        path: what is replaced, or made where there is none; its folder is made too.
        mode: permissions of the new file, less the umask.
        synced: the bytes are on the disk before the file has its name, and the name is too when the block has ended;
            without it a power cut may take them.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the file that was there stays as it was.
    """
    make_folder(path.parent) if synced else path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            yield file
            if synced:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if synced:
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_name(name: str) -> str:
    """Returns a name beside another that no other thread takes, and that is legal wherever the other is."""
    mark = f".{os.getpid()}-{threading.get_ident()}"
    room = LONGEST_NAME - len(mark) - 1
    return f".{os.fsdecode(os.fsencode(name)[:room])}{mark}"


def write_atomically(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Writes a file complete or not at all: a temporary one beside it, fsync, rename."""
    with replacing(path, mode=mode) as file:
        file.write(data)


def write_for_user(path: Path, data: bytes) -> None:
    """Writes a file that its user asked for, outside any home: complete or not at all, with their own permissions."""
    write_atomically(path, data)
    hand_over(path)


def write_quickly(path: Path, data: bytes) -> None:
    """Writes a file that can be made again: a power cut may take it, a kill never halves it."""
    with replacing(path, synced=False) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON for its owner alone, complete or not at all."""
    write_atomically(path, json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).encode(), mode=0o600)


def make_folder(folder: Path) -> None:
    """Makes a folder where there is none, and the names of those that were made durable."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in made:
        sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable; syncing a file does that for its bytes alone."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading, and nothing that is none: opening a pipe would wait for whoever writes into it.

    Raises:
        OSError: it cannot be opened, or is a pipe, a socket or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(descriptor, "rb")


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object of a file, an empty one where there is no file."""
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


def is_locked(path: Path) -> bool:
    """Says whether a living process holds the `filelock.FileLock` of a path; needs no right to write.

    A shared lock for an instant tells: those who look do not hinder each other, and take nothing from the holder.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True
    return False
