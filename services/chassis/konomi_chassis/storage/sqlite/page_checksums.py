"""Checksums on every page of a database, by SQLite's own cksumvfs: a flipped bit is an error, never another answer.

The last 8 bytes of each page hold its checksum (sqlite.org/cksumvfs.html). The header reserves them at byte 20, and a
file is marked by its application id, so that a flip of byte 20, which would turn checking off, is seen too.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import apsw
from pysqlite3 import dbapi2

from konomi.errors import DataLoss, FailedPrecondition
from konomi_chassis.durable_files import sync_folder
from konomi_chassis.storage.failpoints import failpoint
from konomi_chassis.storage.sqlite.sqlite_checksum import checksum

APPLICATION_ID = 0x6B6F6E6F
"""Marks a database whose pages carry checksums; "kono" in ASCII."""
MAGIC = b"SQLite format 3\0"
RESERVED = 8
FULL = 13
"""SQLITE_FULL."""
RESTORE = (
    "Stop konomi, put a backup in the place of {name} and delete {name}-wal, {name}-shm and {name}-committed; "
    "without a backup move {name} away, start again and bring back what you exported: konomi taste import."
)
_loading = threading.Lock()
_loaded: bool | None = None


@dataclass(frozen=True)
class Header:
    """What the first 100 bytes of a database say: bytes kept free at each page's end, and the application id."""

    reserved: int
    application_id: int
    page_size: int

    @property
    def marked(self) -> bool:
        """Whether the pages carry checksums."""
        return self.application_id == APPLICATION_ID


def load() -> bool:
    """Makes cksumvfs the way this process reads and writes every database; says whether it could be had."""
    global _loaded
    with _loading:
        if _loaded is None:
            _loaded = _load()
        return _loaded


def read_header(path: Path) -> Header | None:
    """Returns the header, or None where the file is missing or no SQLite database. For files nobody has open."""
    try:
        data = path.read_bytes() if path.stat().st_size < 100 else _head(path)
    except FileNotFoundError:
        return None
    if not data.startswith(MAGIC) or len(data) < 100:
        return None
    size = int.from_bytes(data[16:18], "big")
    return Header(data[20], int.from_bytes(data[68:72], "big"), 65536 if size == 1 else size)


def make_ready(path: Path) -> bool:
    """Sees to it that a database nobody has open carries checksums; says whether it does.

    A missing one is made, an older one is rewritten beside itself and then takes its own place, whole or not at all.

    Raises:
        DataLoss: it is marked but its pages would go unchecked, or an older one is damaged.
        FailedPrecondition: it carries checksums and this installation cannot keep them.
    """
    header = read_header(path)
    if header is None and path.exists() and path.stat().st_size:
        raise damaged(path, "it does not begin as a SQLite database does")
    if header is not None and header.marked and header.reserved != RESERVED:
        raise damaged(path, f"its header keeps {header.reserved} bytes of a page free, not {RESERVED}")
    if not load():
        if header is not None and header.marked:
            raise FailedPrecondition(
                f"{path.name} carries checksums on its pages, which this installation cannot keep: its apsw has no "
                "cksumvfs. Install apsw from its wheel (pip install --force-reinstall --only-binary apsw apsw).",
                reason="CHECKSUMS_UNAVAILABLE",
            )
        return False
    if header is not None:
        return header.marked or _convert(path)
    _replace(path, _make)
    return True


def damaged(path: Path, how: str) -> DataLoss:
    """Returns the error of a damaged database: what is wrong with it and how to come back."""
    return DataLoss(
        f"The database {path.name} is damaged ({how}). {RESTORE.format(name=path.name)}", reason="DATABASE_DAMAGED"
    )


def damaged_pages(descriptor: int, page_size: int) -> Iterator[int]:
    """Yields the numbers, from 1, of pages that fail their checksum, read from an open file.

    The file is given as a descriptor because closing one gives up every lock the process holds on the file.
    """
    for number in range(1, os.fstat(descriptor).st_size // page_size + 1):
        for _ in range(3):  # a checkpoint may be writing the very page
            page = os.pread(descriptor, page_size, (number - 1) * page_size)
            sums = checksum(page[:-RESERVED])
            if b"".join(part.to_bytes(4, "little") for part in sums) == page[-RESERVED:]:
                break
        else:
            yield number


def _load() -> bool:
    binaries = resources.files(apsw) / "sqlite_extra_binaries"
    names = ("cksumvfs.so", "cksumvfs.dylib", "cksumvfs.dll")
    place = next((str(binaries / name) for name in names if (binaries / name).is_file()), None)
    if place is None:
        return False
    try:
        connection = dbapi2.connect(":memory:")
        connection.enable_load_extension(True)
        connection.load_extension(place)
        connection.close()
    except (dbapi2.Error, AttributeError):
        return False
    return True


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def _make(path: Path) -> None:
    connection = apsw.Connection(str(path))
    try:
        connection.reserve_bytes(reserve=RESERVED)
        connection.execute("VACUUM")
    finally:
        connection.close()


def _convert(path: Path) -> bool:
    """Rewrites a database without checksums; False where the disk has no room for the copy."""
    try:
        _check_and_settle(path)
        _replace(path, lambda fresh: _copy(path, fresh))
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise damaged(path, str(error)) from error
    except (apsw.FullError, dbapi2.OperationalError) as error:
        if isinstance(error, dbapi2.Error) and getattr(error, "sqlite_errorcode", 0) != FULL:
            raise
        return False
    return True


def _check_and_settle(path: Path) -> None:
    """Reads the whole old database once, and brings what its write-ahead log holds into it."""
    connection = apsw.Connection(str(path))
    try:
        report = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if report != ("ok",):
            raise damaged(path, str(report[0] if report else "no answer"))
        connection.execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()


def _copy(path: Path, fresh: Path) -> None:
    connection = apsw.Connection(str(path))
    try:
        connection.reserve_bytes(reserve=RESERVED)
        connection.execute("VACUUM INTO ?", (str(fresh),))
    finally:
        connection.close()


def _seal(path: Path) -> None:
    """Writes every page again, now with its checksum; a process has one SQLite with cksumvfs, and apsw's is another."""
    connection = dbapi2.connect(path, isolation_level=None)
    try:
        for statement in (
            "PRAGMA checksum_verification=OFF",
            "PRAGMA journal_mode=OFF",
            f"PRAGMA application_id={APPLICATION_ID}",
            "VACUUM",
        ):
            connection.execute(statement).fetchall()
    finally:
        connection.close()


def _replace(path: Path, make: Callable[[Path], None]) -> None:
    """Makes a database beside `path`, checks every page of it, and lets it take the place in one step."""
    fresh = path.with_name(f"{path.name}-new")
    for ending in ("", "-journal", "-wal", "-shm"):
        fresh.with_name(fresh.name + ending).unlink(missing_ok=True)
    try:
        make(fresh)
        failpoint("database.in_conversion")
        _seal(fresh)
        descriptor = os.open(fresh, os.O_RDWR)
        try:
            header = read_header(fresh)
            if header is None or not header.marked or header.reserved != RESERVED:
                raise FailedPrecondition(f"{path.name} could not be given checksums.", reason="CHECKSUMS_UNAVAILABLE")
            if (page := next(damaged_pages(descriptor, header.page_size), None)) is not None:
                raise damaged(path, f"page {page} of its copy fails its checksum")
            if path.exists():
                os.fchmod(descriptor, path.stat().st_mode & 0o777)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        failpoint("database.before_exchange")
        os.replace(fresh, path)
        sync_folder(path.parent)
        failpoint("database.after_exchange")
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()
