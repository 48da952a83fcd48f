"""What the stand-ins keep: pictures of one colour, files named by digest, durable maps, a log of what was done."""

import hashlib
import json
import os
import sqlite3
import struct
import threading
import zlib
from pathlib import Path

from konomi.v1 import artifact_pb2


def noise(*parts) -> float:
    """Returns a number in 0..1 that depends on the parts alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def png(red: int, green: int, blue: int) -> bytes:
    """Returns a 4 x 4 PNG of one colour."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((red, green, blue)) * 4 for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def colour(data: bytes) -> tuple[int, int, int]:
    """Returns the colour of such a PNG."""
    start = data.index(b"IDAT") + 4
    size = struct.unpack(">I", data[start - 8 : start - 4])[0]
    pixels = zlib.decompress(data[start : start + size])
    return tuple(pixels[1:4])


class Store:
    """Artifacts as files named by digest."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "artifacts"
        self.folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes, media_type: str) -> artifact_pb2.Artifact:
        digest = hashlib.sha256(data).hexdigest()
        temporary = self.folder / f".{digest}.{os.getpid()}.{threading.get_ident()}"
        temporary.write_bytes(data)
        temporary.replace(self.folder / digest)
        return artifact_pb2.Artifact(digest=digest, media_type=media_type, size_bytes=len(data))

    def get(self, digest: str) -> bytes:
        return (self.folder / digest).read_bytes()


class Table:
    """A durable map from text to JSON, in the order of insertion."""

    def __init__(self, home: Path, name: str) -> None:
        (home / "databases").mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(home / "databases" / f"stand-in-{name}.sqlite", check_same_thread=False)
        self.connection.execute("CREATE TABLE IF NOT EXISTS t (k TEXT PRIMARY KEY, v TEXT)")
        self.lock = threading.Lock()

    def put(self, key: str, value) -> bool:
        """Returns false, and changes nothing, where the key is known."""
        with self.lock, self.connection:
            return self.connection.execute("INSERT OR IGNORE INTO t VALUES (?, ?)", (key, json.dumps(value))).rowcount

    def replace(self, key: str, value) -> None:
        with self.lock, self.connection:
            self.connection.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, json.dumps(value)))

    def get(self, key: str):
        with self.lock:
            row = self.connection.execute("SELECT v FROM t WHERE k = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def items(self):
        with self.lock:
            return [(k, json.loads(v)) for k, v in self.connection.execute("SELECT k, v FROM t ORDER BY rowid")]


def log_call(home: Path, *words) -> None:
    """Appends what was really done, so that a test can count repetitions."""
    with (home / "calls.log").open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")
