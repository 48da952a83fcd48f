"""Where artifacts live: a local folder with fsync and rename; the other place, a bucket, is in the room `buckets`.

Whoever discards from a folder holds its lock alone; whoever names a file there, or says that one is there already,
shares it for that moment and leaves the file's time of now. So nothing that was just acknowledged is ever discarded.
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from cachetools import LRUCache

from konomi_chassis.durable_files import make_folder, not_a_file, open_regular, sync_file, sync_folder
from konomi_chassis.storage.failpoints import failpoint

CHUNK = 1024 * 1024
NOTE = ".gone"
"""Ends the name of the note that stands where a discarded key was; it holds why."""
SETTLED = 65_536
"""Keys and folders this process has made durable that are remembered at most; the others are synced again."""


@dataclass(frozen=True)
class Discarded:
    """What became of keys that were to go: the bytes of each that went, 0 where it was gone, and those in use."""

    freed: Mapping[str, int]
    kept: frozenset[str]


class Upload(Protocol):
    """Bytes on their way in; nobody can see them before `commit` has returned."""

    def write(self, data: bytes) -> None:
        """Appends bytes."""

    def commit(self, key: str, *, replace: bool = False) -> None:
        """Makes the bytes durable under the key; afterwards they are there whole.

        Args:
            key: their name.
            replace: something lies there that is to go; without it, what another put there meanwhile may stay.
        """

    def abort(self) -> None:
        """Forgets the bytes; safe to call at any time, also after commit."""


class Blobs(Protocol):
    """A flat space of immutable byte strings."""

    def upload(self) -> Upload:
        """Begins an upload."""

    def settle(self, key: str) -> None:
        """Makes what is there already durable: whoever put it may have been killed before it was."""

    def vouches(self, key: str, digest: str, size: int) -> bool | None:
        """Says whether what lies under a key is certainly the right bytes, or not; None where only reading it tells."""

    def read(self, key: str) -> Iterator[bytes]:
        """Yields the bytes in chunks of at most 1 MiB. Raises FileNotFoundError, DataLoss where no file stands."""

    def size(self, key: str) -> int | None:
        """Returns the size in bytes, or None when there is no such key. Raises DataLoss where no file stands."""

    def list_keys(self) -> Iterator[str]:
        """Yields every key, in order."""

    def free_bytes(self) -> int | None:
        """Returns the space left, or None where nobody can tell."""

    def refresh(self, key: str) -> bool:
        """Marks a key as in use from now on; False where there is none."""

    def modified(self, key: str) -> float | None:
        """Returns when a key was last in use, Unix time; None where there is none or nobody can tell."""

    def discard(self, keys: Sequence[str], before: float | None, why: str) -> Discarded | None:
        """Removes keys last in use before a Unix time, whatever their time without one; None where nobody may."""


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

    def commit(self, key: str, *, replace: bool = False) -> None:
        """Makes the bytes durable under the key, in the place of any that were there."""
        if self._path is None:
            raise ValueError("the upload was already committed or aborted")
        self._file.flush()
        failpoint("artifact.before_fsync")
        os.fsync(self._file.fileno())
        self._file.close()
        target = self._root / key
        folder = key.rpartition("/")[0]
        if folder not in self._settled:
            make_folder(target.parent, self._root)
            self._settled[folder] = True
        failpoint("artifact.before_rename")
        with _locked(self._root, fcntl.LOCK_SH):
            os.replace(self._path, target)
            target.with_name(target.name + NOTE).unlink(missing_ok=True)
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
        self._settled_at = 0
        make_folder(root / "incoming")

    def upload(self) -> FolderUpload:
        """Begins an upload."""
        return FolderUpload(self._root, self._settled)

    def settle(self, key: str) -> None:
        """Syncs the file, the folder that names it, and the one that names the folder; once between two removals."""
        with _locked(self._root, fcntl.LOCK_SH) as lock:
            removals = _removals(lock)
            if removals != self._settled_at:  # another process may have put anew, less durably, what was removed
                self._settled, self._settled_at = LRUCache(SETTLED), removals
            if key in self._settled:
                return
            path = self._root / key
            sync_file(path)
            sync_folder(path.parent)
            make_folder(path.parent, self._root)
            self._settled[key] = True

    def vouches(self, key: str, digest: str, size: int) -> bool | None:
        """A file's size tells that it is wrong; that it is right only its bytes tell."""
        return None if self.size(key) == size else False

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

    def refresh(self, key: str) -> bool:
        """Marks a key as in use from now on; False where there is none."""
        try:
            with _locked(self._root, fcntl.LOCK_SH), os.fdopen(open_regular(self._root / key), "rb") as file:
                os.utime(file.fileno())
        except FileNotFoundError:
            return False
        return True

    def modified(self, key: str) -> float | None:
        """Returns when a key was last in use, or None."""
        try:
            return (self._root / key).lstat().st_mtime
        except FileNotFoundError:
            return None

    def discard(self, keys: Sequence[str], before: float | None, why: str) -> Discarded:
        """Removes keys, the bytes before what lies beside them; a kill at any point leaves a key whole or absent."""
        freed: dict[str, int] = {}
        with _locked(self._root, fcntl.LOCK_EX) as lock:
            _count_removal(lock)
            for key in keys:
                size = self._discard(self._root / key, before, why)
                if size is not None:
                    freed[key] = size
            failpoint("artifact.before_discard_fsync")
            for folder in {(self._root / key).parent for key in freed}:
                with suppress(FileNotFoundError):
                    sync_folder(folder)
        return Discarded(freed, frozenset(keys) - freed.keys())

    def _discard(self, path: Path, before: float | None, why: str) -> int | None:
        """Removes one key and its companion, leaving a note; returns its bytes, None where it is in use."""
        size, companion = 0, path.with_name(path.name + ".type")
        try:
            status = path.lstat()
            if before is not None and status.st_mtime >= before:
                return None
            path.with_name(path.name + NOTE).write_text(why, "ascii")
            failpoint("artifact.before_discard")
            path.unlink()
            size = status.st_size
        except FileNotFoundError:
            pass
        failpoint("artifact.after_discard")
        with suppress(FileNotFoundError):
            if before is None or companion.stat().st_mtime < before:  # a new one is of an upload under way
                companion.unlink()
        return size

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


@contextmanager
def _locked(root: Path, operation: int) -> Iterator[int]:
    """Holds the folder's lock, shared or alone, for a moment; the system frees it when the process dies."""
    descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield descriptor
    finally:
        os.close(descriptor)


def _removals(lock: int) -> int:
    """Returns how often something was discarded from the folder, as its lock counts it."""
    return int.from_bytes(os.pread(lock, 8, 0), "little")


def _count_removal(lock: int) -> None:
    os.pwrite(lock, (_removals(lock) + 1).to_bytes(8, "little"), 0)
