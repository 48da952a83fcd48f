"""Files that can be made again: written complete or not at all by any thread, but not forced to disk."""

import json
import os
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file complete or not at all: a temporary one beside it, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


NAMESPACE = uuid.UUID("6b6f6e6f-6d69-5e6e-8069-676874000001")
"""Namespace of every id a night derives."""


def canonical(value: Any) -> bytes:
    """Returns JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def derived_id(*parts: object) -> str:
    """Returns the UUID that names a step's request: the same parts, the same id."""
    return str(uuid.uuid5(NAMESPACE, "/".join(str(part) for part in parts)))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON complete or not at all: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object of a file, an empty one where there is no file."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def write_quickly(path: Path, data: bytes) -> None:
    """Writes a file by a temporary one beside it and a rename; a power cut may take it, a kill never halves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    temporary.write_bytes(data)
    temporary.replace(path)
