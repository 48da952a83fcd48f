"""Objects of any fsspec file system that is neither local nor S3; its package brings its own retries."""

from collections.abc import Iterator
from typing import IO, Any

from konomi_chassis.storage.blobs import CHUNK
from konomi_chassis.storage.buckets.bucket import Stored


class OtherObjects:
    """Objects by fsspec's common calls."""

    def __init__(self, system: Any) -> None:
        self._system = system

    def check(self, root: str) -> None:
        """Nothing is asked before the first object is."""

    def read(self, path: str, start: int, end: int) -> bytes:
        """Returns the bytes of a range. Raises FileNotFoundError."""
        return bytes(self._system.cat_file(path, start=start, end=end))

    def stat(self, path: str) -> Stored | None:
        """Returns an object's size, None where there is none."""
        try:
            return Stored(int(self._system.size(path)))
        except FileNotFoundError:
            return None

    def put(self, path: str, file: IO[bytes], size: int, sha256: str | None, *, exclusive: bool) -> None:
        """Puts an object; fsspec's back ends show what they write when it is closed. Raises FileExistsError."""
        if exclusive and self._system.exists(path):
            raise FileExistsError(path)
        with self._system.open(path, "wb") as target:
            while chunk := file.read(CHUNK):
                target.write(chunk)

    def list(self, root: str) -> Iterator[str]:
        """Yields every path, in order."""
        yield from sorted(self._system.find(root))
