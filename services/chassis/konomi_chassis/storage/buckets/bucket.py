"""A bucket as the artifact store sees it: whole objects under keys, read through a cache of this node.

A key names its content, so two writers of one key mean the same bytes, and "it exists" is success once what exists was
compared. Nothing here lists but `list_keys`, which only an examination asks for: rows know what there is.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from konomi_chassis.storage.blobs import CHUNK, Discarded
from konomi_chassis.storage.buckets.node_cache import NodeCache

FIRST_RANGE, NEXT_RANGE = 4 << 20, 32 << 20
"""Bytes asked for at once: most artifacts are images, which the first range holds whole."""
CHEAP_BYTES = 8 << 20
"""Largest object that is read to compare it, where the server keeps no digest of its own."""
SPOOL_BYTES = 8 << 20
"""Bytes of an upload that are gathered in memory; beyond them it goes to a file without a name."""
NAMES_CONTENT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Stored:
    """What a server says of an object: its size in bytes, and its sha256 in hexadecimal digits where it keeps one."""

    size: int
    sha256: str | None = None


class Objects(Protocol):
    """The objects of one place, by their paths; what goes wrong comes as errors of konomi."""

    def check(self, root: str) -> None:
        """Returns when objects can be read and put below the root; raises what stands in the way."""

    def read(self, path: str, start: int, end: int) -> bytes:
        """Returns the bytes of a range, fewer at the end, none beyond it. Raises FileNotFoundError."""

    def stat(self, path: str) -> Stored | None:
        """Returns what there is to know of an object without reading it, None where there is none."""

    def put(self, path: str, file: IO[bytes], size: int, sha256: str | None, *, exclusive: bool) -> None:
        """Puts an object, which is there whole or not at all.

        Raises:
            FileExistsError: `exclusive`, and the server saw one there. A server that cannot tell replaces it.
        """

    def list(self, root: str) -> Iterator[str]:
        """Yields the path of every object below a root, in order."""


class BucketUpload:
    """Bytes gathered on this node, then put as one object."""

    def __init__(self, bucket: "Bucket", folder: Path) -> None:
        self._bucket = bucket
        spooled = tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=str(folder))  # noqa: SIM115  closed by abort
        self._file, self._size = cast(IO[bytes], spooled), 0

    def write(self, data: bytes) -> None:
        """Appends bytes."""
        self._file.write(data)
        self._size += len(data)

    def commit(self, key: str, *, replace: bool = False) -> None:
        """Puts the object."""
        self._bucket.put(key, self._file, self._size, replace=replace)

    def abort(self) -> None:
        """Forgets the bytes."""
        self._file.close()


class Bucket:
    """Immutable byte strings as objects below a root.

    Args:
        objects: of the place.
        root: path below which everything lies: a bucket's name, and perhaps a prefix in it.
        cache: what this node keeps of them; None to fetch each time.
        folder: of this machine, for uploads that do not fit into memory.
    """

    def __init__(self, objects: Objects, root: str, cache: NodeCache | None, folder: Path) -> None:
        self._objects, self._root, self._cache, self._folder = objects, root.rstrip("/"), cache, folder

    def upload(self) -> BucketUpload:
        """Begins an upload."""
        return BucketUpload(self, self._folder)

    def put(self, key: str, file: IO[bytes], size: int, *, replace: bool) -> None:
        """Puts a file's bytes under a key; where it is there already and its content is right, that is success."""
        path, digest = self._path(key), _digest(key)
        file.seek(0)
        try:
            self._objects.put(path, file, size, digest, exclusive=not replace)
        except FileExistsError:  # of another writer, or of an attempt of ours whose answer was lost
            if digest is not None and not self.vouches(key, digest, size):
                file.seek(0)
                self._objects.put(path, file, size, digest, exclusive=False)
        if digest is not None and self._cache is not None:
            file.seek(0)
            self._cache.keep(digest, iter(lambda: file.read(CHUNK), b""), size)

    def vouches(self, key: str, digest: str, size: int) -> bool:
        """Says whether what lies under a key has a size and, where that is cheap to find out, a digest."""
        stored = self._objects.stat(self._path(key))
        if stored is None or stored.size != size:
            return False
        if stored.sha256 is not None:
            return stored.sha256 == digest
        return size > CHEAP_BYTES or hashlib.sha256(b"".join(self._ranges(key))).hexdigest() == digest

    def settle(self, key: str) -> None:
        """An object that is there is durable."""

    def read(self, key: str) -> Iterator[bytes]:
        """Yields the bytes in chunks: from this node where it has them, else from the bucket, and this node keeps them.

        What this node keeps is checked before its first byte is given away; what the bucket sends, by the reader.
        """
        digest = _digest(key)
        if self._cache is None or digest is None:
            yield from self._ranges(key)
            return
        kept = self._cache.read(digest)
        if kept is not None:
            yield from kept
            return
        yield from self._cache.keeping(digest, self._ranges(key))

    def _ranges(self, key: str) -> Iterator[bytes]:
        """Yields an object's bytes range by range, so that a connection that breaks costs no more than one."""
        start, length = 0, FIRST_RANGE
        while True:
            data = self._objects.read(self._path(key), start, start + length)
            view = memoryview(data)
            for offset in range(0, len(data), CHUNK):
                yield bytes(view[offset : offset + CHUNK])
            if len(data) < length:
                return
            start, length = start + length, NEXT_RANGE

    def size(self, key: str) -> int | None:
        """Returns the size in bytes, or None."""
        stored = self._objects.stat(self._path(key))
        return None if stored is None else stored.size

    def list_keys(self) -> Iterator[str]:
        """Yields every key, in order."""
        for path in self._objects.list(self._root):
            yield "/".join(path.split("/")[-2:])

    def free_bytes(self) -> int | None:
        """Nobody can tell."""
        return None

    def refresh(self, key: str) -> bool:
        """Says whether the key is there: nothing of konomi's removes it."""
        return self.size(key) is not None

    def modified(self, key: str) -> float | None:
        """Nobody asks: nothing is discarded here."""
        return None

    def discard(self, keys: Sequence[str], before: float | None, why: str) -> Discarded | None:
        """Leaves everything alone: what may go from there is for its keeper to say."""
        return None

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"


def _digest(key: str) -> str | None:
    """Returns the sha256 that a key's content must have, None for what only lies beside an artifact."""
    name = key.rpartition("/")[2]
    return name if NAMES_CONTENT.fullmatch(name) else None
