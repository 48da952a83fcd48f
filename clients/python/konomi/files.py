"""Files written complete or not at all, locks looked at, JSON that is the same bytes for the same values."""

import fcntl
import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
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


def write_atomically(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Writes a file complete or not at all: a temporary one beside it, fsync, rename."""
    with replacing(path, mode=mode) as file:
        file.write(data)


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
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
