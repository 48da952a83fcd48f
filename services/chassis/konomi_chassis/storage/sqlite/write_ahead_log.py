"""The write-ahead log of a database nobody has open: whether all that was acknowledged can be recovered from it.

SQLite recovers a log up to the first frame that fails its checksum and drops the rest without a word, as it must after
a power cut in the middle of a commit. A flipped bit looks the same. What tells them apart: a transaction is synced
before the next one is written, so a bad frame with two commits at or behind it is damage; and for the last transaction
a note beside the database, written after each commit and before it is acknowledged, says how far the log reached.
The note is not synced: after a power cut it may be older than the log, never newer.
"""

import os
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from konomi.errors import DataLoss
from konomi_chassis.durable_files import sync_folder
from konomi_chassis.storage.sqlite.page_checksums import RESTORE
from konomi_chassis.storage.sqlite.sqlite_checksum import Sums, checksum

HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
MAGIC = 0x377F0682
"""With words little-endian; one more means big-endian."""
VERSION = 3007000
INDEX_HEADER = struct.Struct("=12xB3xI12x8s8x")
"""WalIndexHdr, at the beginning of -shm twice (sqlite.org/walformat.html, 2.1): isInit, mxFrame, aSalt."""
NOTE = re.compile(r"([0-9a-f]{16}) ([0-9]{10}) ([0-9a-f]{8})\n")


@dataclass(frozen=True)
class Reach:
    """How far a log reaches: its salts (hex), which change with every turn, and its frames up to the last commit."""

    salts: str
    frames: int


class CommittedNote:
    """Notes after each commit how far the log reached, in `<database>-committed`, 37 bytes rewritten in place."""

    def __init__(self, path: Path) -> None:
        """Opens the log's index, which SQLite must have open already; it stays open until `close`.

        Closing a file gives up every lock this process holds on it, SQLite's too.
        """
        self._note = path.with_name(f"{path.name}-committed")
        self._index: int | None = os.open(path.with_name(f"{path.name}-shm"), os.O_RDONLY)
        self._file: int | None = None
        self._last: Reach | None = None
        self._lock = threading.Lock()

    def record(self) -> None:
        """Notes the state after a commit. A note that cannot be written is no failed commit: the old one stays true."""
        with self._lock, suppress(OSError):
            reach = self._look() if self._index is not None else None
            if reach is None or reach == self._last:
                return
            if self._file is None:
                self._file = os.open(self._note, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(self._file, _render(reach), 0)
            self._last = reach

    def forget(self) -> None:
        """Removes the note, durably: what it speaks of is about to go into the database itself."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = self._last = None
            self._note.unlink(missing_ok=True)
            sync_folder(self._note.parent)

    def close(self) -> None:
        """Notes nothing any more; called after SQLite has closed the database."""
        with self._lock:
            if self._index is not None:
                os.close(self._index)
            self._index = None

    def _look(self) -> Reach | None:
        assert self._index is not None
        for _ in range(100):
            both = os.pread(self._index, 96, 0)
            if len(both) == 96 and both[:48] == both[48:]:
                ready, frames, salts = INDEX_HEADER.unpack(both[:48])
                return Reach(salts.hex(), frames) if ready and frames else None
        return None


def check_log(path: Path) -> None:
    """Reads the log of a database nobody has open.

    Raises:
        DataLoss: the log is missing or damaged, so that acknowledged changes would be dropped.
    """
    noted = _read_note(path.with_name(f"{path.name}-committed"))
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size and not (path.exists() and path.stat().st_size):
        raise DataLoss(
            f"The database {path.name} is missing, its log {log.name} is there. {RESTORE.format(name=path.name)}",
            reason="DATABASE_DAMAGED",
        )
    reach = recoverable(log) if log.exists() else None
    if noted is None or (reach is not None and reach.salts != noted.salts):
        return
    if reach is None:
        raise _lost(log, "it is missing or empty")
    if reach.frames < noted.frames:
        raise _lost(log, f"it can be read up to frame {reach.frames}, but {noted.frames} were acknowledged")


def recoverable(log: Path) -> Reach | None:
    """Returns how far SQLite will recover a log; None for one that was never written.

    Raises:
        DataLoss: the header is damaged, or a frame that was synced before later ones were written.
    """
    with log.open("rb") as file:
        header = file.read(HEADER_BYTES)
        if not header.strip(b"\0"):
            return None
        if len(header) < HEADER_BYTES or not _is_header(header):
            raise _lost(log, "its header fails its checksum")
        end, bad, commits = Reach(header[16:24].hex(), 0), 0, 0
        for number, frame in enumerate(_frames(file, header), start=1):
            if not bad and frame.current and frame.follows:
                end = Reach(end.salts, number) if frame.commit else end
                continue
            bad = bad or number
            commits += frame.current and frame.commit and (frame.follows or number == bad)
    if commits > 1:
        raise _lost(log, f"frame {bad} fails its checksum, with later commits behind it")
    return end


@dataclass(frozen=True)
class _Frame:
    """A frame of a log: whether it is of the log's present turn, goes on from the frame before, ends a transaction."""

    current: bool
    follows: bool
    commit: bool


def _frames(file: BinaryIO, header: bytes) -> Iterator[_Frame]:
    big_endian, size = bool(header[3] & 1), int.from_bytes(header[8:12], "big")
    before = _sums(header[24:32])
    while len(frame := file.read(FRAME_HEADER_BYTES + size)) == FRAME_HEADER_BYTES + size:
        stored = _sums(frame[16:24])
        current = frame[8:16] == header[16:24] and frame[:4] != bytes(4)
        sums = checksum(frame[:8] + frame[FRAME_HEADER_BYTES:], before, big_endian=big_endian) if current else None
        yield _Frame(current, sums == stored, frame[4:8] != bytes(4))
        before = stored


def _is_header(header: bytes) -> bool:
    magic, version, size = struct.unpack(">III", header[:12])
    known = magic in (MAGIC, MAGIC + 1) and version == VERSION and 512 <= size <= 65536 and not size & (size - 1)
    return known and checksum(header[:24], big_endian=bool(magic & 1)) == _sums(header[24:32])


def _sums(data: bytes) -> Sums:
    return int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")


def _render(reach: Reach) -> bytes:
    line = f"{reach.salts} {reach.frames:010}"
    return f"{line} {zlib.crc32(line.encode()):08x}\n".encode()


def _read_note(path: Path) -> Reach | None:
    """Returns what was noted; None where no note is, or one that is torn or damaged: then nothing is known."""
    try:
        match = NOTE.fullmatch(path.read_bytes()[:64].decode("ascii", "replace"))
    except FileNotFoundError:
        return None
    if match is None:
        return None
    reach = Reach(match[1], int(match[2]))
    return reach if _render(reach) == match[0].encode() else None


def _lost(log: Path, how: str) -> DataLoss:
    name = log.name.removesuffix("-wal")
    return DataLoss(
        f"The log {name}-wal, which holds the last changes of {name}, is damaged: {how}. "
        f"{RESTORE.format(name=name)} To go on without those changes, delete {name}-wal and {name}-committed.",
        reason="DATABASE_DAMAGED",
    )
