"""The two places artifacts can live: a local folder with fsync and rename, and any other fsspec file system."""

import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from cachetools import LRUCache

from konomi_chassis.durable_files import make_folder, not_a_file, open_regular, sync_file, sync_folder
from konomi_chassis.storage.failpoints import failpoint

CHUNK = 1024 * 1024
SETTLED = 65_536
"""Keys and folders this process has made durable that are remembered at most; the others are synced again."""


class Upload(Protocol):
    """Bytes on their way in; nobody can see them before `commit` has returned."""

    def write(self, data: bytes) -> None:
        """Appends bytes."""

    def commit(self, key: str) -> None:
        """Makes the bytes durable under the key; afterwards they are there whole."""

    def abort(self) -> None:
        """Forgets the bytes; safe to call at any time, also after commit."""


class Blobs(Protocol):
    """A flat space of immutable byte strings."""

    def upload(self) -> Upload:
        """Begins an upload."""

    def settle(self, key: str) -> None:
        """Makes what is there already durable: whoever put it may have been killed before it was."""

    def read(self, key: str) -> Iterator[bytes]:
        """Yields the bytes in chunks of at most 1 MiB. Raises FileNotFoundError, DataLoss where no file stands."""

    def size(self, key: str) -> int | None:
        """Returns the size in bytes, or None when there is no such key. Raises DataLoss where no file stands."""

    def list_keys(self) -> Iterator[str]:
        """Yields every key, in order."""

    def free_bytes(self) -> int | None:
        """Returns the space left, or None where nobody can tell."""


class FolderUpload:
    """Temp file in `incoming/`, then fsync, rename, fsync of the folder it moved into and of the one that holds it."""

    def __init__(self, root: Path, settled: MutableMapping[str, bool]) -> None:
        self._root, self._settled = root, settled
        self._path: Path | None = root / "incoming" / f"{secrets.token_hex(16)}.part"
        self._file: IO[bytes] = self._path.open("xb")

    def write(self, data: bytes) -> None:
        """Appends bytes."""
        failpoint("artifact.write")
        self._file.write(data)

    def commit(self, key: str) -> None:
        """Makes the bytes durable under the key."""
        if self._path is None:
            raise ValueError("the upload was already committed or aborted")
        self._file.flush()
        failpoint("artifact.before_fsync")
        os.fsync(self._file.fileno())
        self._file.close()
        target = self._root / key
        if target.parent.name not in self._settled:
            make_folder(target.parent, self._root)
            self._settled[target.parent.name] = True
        failpoint("artifact.before_rename")
        os.replace(self._path, target)
        self._path = None
        failpoint("artifact.before_folder_fsync")
        sync_folder(target.parent)
        self._settled[key] = True

    def abort(self) -> None:
        """Removes the temp file."""
        if self._path is not None:
            with suppress(OSError):  # closing flushes, which a full disk fails; the file goes either way
                self._file.close()
            self._path.unlink(missing_ok=True)
            self._path = None


class Folder:
    """A local folder: `<root>/<first two digits>/<key>`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._settled: MutableMapping[str, bool] = LRUCache(SETTLED)
        make_folder(root / "incoming")

    def upload(self) -> FolderUpload:
        """Begins an upload."""
        return FolderUpload(self._root, self._settled)

    def settle(self, key: str) -> None:
        """Syncs the file, the folder that names it, and the one that names the folder; once in a process."""
        if key in self._settled:
            return
        path = self._root / key
        sync_file(path)
        sync_folder(path.parent)
        make_folder(path.parent, self._root)
        self._settled[key] = True

    def read(self, key: str) -> Iterator[bytes]:
        """Yields the bytes in chunks."""
        with os.fdopen(open_regular(self._root / key), "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def size(self, key: str) -> int | None:
        """Returns the size in bytes, or None."""
        try:
            status = (self._root / key).lstat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise not_a_file(self._root / key)
        return status.st_size

    def list_keys(self) -> Iterator[str]:
        """Yields every key, in order."""
        for folder in sorted(path for path in self._root.iterdir() if len(path.name) == 2 and path.is_dir()):
            yield from sorted(f"{folder.name}/{entry.name}" for entry in os.scandir(folder))

    def free_bytes(self) -> int | None:
        """Returns the space left for this user."""
        usage = os.statvfs(self._root)
        return usage.f_bavail * usage.f_frsize

    def sweep(self, before: float) -> int:
        """Removes leftovers of uploads killed before the given time (seconds since the epoch); returns how many."""
        removed = 0
        for entry in list(os.scandir(self._root / "incoming")):
            try:
                if entry.stat().st_mtime < before:
                    os.unlink(entry.path)
                    removed += 1
            except FileNotFoundError:
                continue
        return removed


class BucketUpload:
    """Bytes gathered in a local temp file, then put as one object, which fsspec back ends show whole or not at all."""

    def __init__(self, system: Any, root: str) -> None:
        self._system, self._root = system, root
        self._file = tempfile.NamedTemporaryFile(prefix="konomi-")  # noqa: SIM115  closed by abort, which always runs

    def write(self, data: bytes) -> None:
        """Appends bytes."""
        self._file.write(data)

    def commit(self, key: str) -> None:
        """Puts the object."""
        self._file.flush()
        self._system.put_file(self._file.name, f"{self._root}/{key}")

    def abort(self) -> None:
        """Forgets the bytes."""
        self._file.close()


class Bucket:
    """Any fsspec file system other than the local one."""

    def __init__(self, system: Any, root: str) -> None:
        self._system, self._root = system, root.rstrip("/")

    def upload(self) -> BucketUpload:
        """Begins an upload."""
        return BucketUpload(self._system, self._root)

    def settle(self, key: str) -> None:
        """An object that is there is durable."""

    def read(self, key: str) -> Iterator[bytes]:
        """Yields the bytes in chunks."""
        with self._system.open(f"{self._root}/{key}", "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def size(self, key: str) -> int | None:
        """Returns the size in bytes, or None."""
        try:
            return int(self._system.size(f"{self._root}/{key}"))
        except FileNotFoundError:
            return None

    def list_keys(self) -> Iterator[str]:
        """Yields every key, in order."""
        paths: Iterable[str] = self._system.find(self._root)
        yield from sorted("/".join(path.split("/")[-2:]) for path in paths)

    def free_bytes(self) -> int | None:
        """Nobody can tell."""
        return None
