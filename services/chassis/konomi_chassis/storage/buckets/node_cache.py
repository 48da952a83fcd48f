"""What a node keeps of a bucket: files named by their digest, checked whenever they are read, the oldest going first.

Several processes of a node share the folder. A file appears by a rename and is whole; one that was damaged since is
removed and fetched anew; one that another process removes while it is read stays readable until it is closed.
"""

import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from konomi.errors import DataLoss
from konomi_chassis.durable_files import open_regular
from konomi_chassis.storage.blobs import CHUNK

LARGEST_SHARE = 4
"""A file may take a quarter of the cache: one checkpoint must not push every image out."""
LOW_WATER = 0.9
"""Share of the bound that is left once the oldest files went: not every file that comes is to look at all of them."""


class NodeCache:
    """Bytes by their digest in a folder of this machine, at most `limit` of them.

    Args:
        folder: where they lie; it is made.
        limit: bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._bytes = self._shrink()

    def read(self, digest: str) -> Iterator[bytes] | None:
        """Returns the bytes in chunks of at most 1 MiB, checked; None where they are not here, or no longer right."""
        path = self._path(digest)
        try:
            file = os.fdopen(open_regular(path), "rb")
        except (OSError, DataLoss):
            return None
        with contextlib.ExitStack() as stack:
            stack.enter_context(file)
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:  # type: ignore[arg-type]
                path.unlink(missing_ok=True)
                return None
            with contextlib.suppress(OSError):
                os.utime(file.fileno())  # the oldest time goes first, so this one was wanted now
            file.seek(0)
            kept = stack.pop_all()

        def chunks() -> Iterator[bytes]:
            with kept:
                while chunk := file.read(CHUNK):
                    yield chunk

        return chunks()

    def keeping(self, digest: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yields chunks on and keeps them once the last came; they are kept only where they have the digest.

        A cache that cannot be written is no reason not to read.
        """
        with contextlib.ExitStack() as stack:
            entry: _Entry | None = stack.enter_context(self._entry())
            for chunk in chunks:
                if entry is not None and not entry.write(chunk):
                    entry = None
                yield chunk
            if entry is not None and entry.digest() == digest:
                self._admit(entry, digest)

    def keep(self, digest: str, chunks: Iterable[bytes], size: int) -> None:
        """Keeps bytes of that size that were just put: whoever asks on this node first is likely to ask soon."""
        if size <= self._limit // LARGEST_SHARE:
            for _ in self.keeping(digest, chunks):
                pass

    def _entry(self) -> "_Entry":
        return _Entry(self._folder, self._limit // LARGEST_SHARE)

    def _admit(self, entry: "_Entry", digest: str) -> None:
        path = self._path(digest)
        try:
            path.parent.mkdir(exist_ok=True)
            entry.rename(path)
        except OSError:
            return
        with self._lock:
            self._bytes += entry.size
            if self._bytes > self._limit:
                self._bytes = self._shrink()

    def _shrink(self) -> int:
        """Removes the files longest unwanted where all are too many; returns the bytes that stay."""
        found = []
        for folder, _, names in os.walk(self._folder):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    path = os.path.join(folder, name)
                    status = os.lstat(path)
                    found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self._limit:
            return total
        for _, size, path in sorted(found):
            if total <= self._limit * LOW_WATER:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size
        return total

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest


class _Entry:
    """A file on its way into the cache; without a rename it goes away."""

    def __init__(self, folder: Path, largest: int) -> None:
        self._path, self._largest, self.size = folder / f"{secrets.token_hex(16)}.part", largest, 0
        self._hasher, self._file = hashlib.sha256(), None
        with contextlib.suppress(OSError):
            self._file = self._path.open("xb")

    def __enter__(self) -> "_Entry":
        return self

    def write(self, chunk: bytes) -> bool:
        """Appends bytes; False where they are too many or cannot be written."""
        self.size += len(chunk)
        if self._file is None or self.size > self._largest:
            return False
        try:
            self._file.write(chunk)
        except OSError:
            return False
        self._hasher.update(chunk)
        return True

    def digest(self) -> str:
        """Returns the sha256 of what was written."""
        return self._hasher.hexdigest()

    def rename(self, target: Path) -> None:
        """Gives the file its name. It is not synced: what a power cut leaves of it is checked when it is read."""
        if self._file is None:
            raise FileNotFoundError(self._path)
        self._file.close()
        os.replace(self._path, target)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._path.unlink(missing_ok=True)
