"""What keeps a database open for as long as its engine lives, and knows of its health."""

import os
import threading
from pathlib import Path
from typing import Any

from filelock import FileLock
from pysqlite3 import dbapi2

from konomi.errors import FailedPrecondition, KonomiError
from konomi_chassis.storage.sqlite.page_checksums import damaged, damaged_pages
from konomi_chassis.storage.sqlite.write_ahead_log import CommittedNote

PRAGMAS = (
    "PRAGMA busy_timeout=5000",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA cell_size_check=ON",
    "PRAGMA mmap_size=0",
)
IOERR, CORRUPT, NOTADB = 10, 11, 26
"""Primary result codes of SQLite."""


class Keeper:
    """Keeps a database open for as long as its engine lives, and what is known of its health.

    SQLite empties and deletes the log when the last connection closes; while this one is open none is the last.
    """

    def __init__(self, path: Path, lock: FileLock, *, checked: bool) -> None:
        self.path, self.checked, self.broken = path, checked, threading.Event()
        self.damage: KonomiError | None = None
        self._lock, self._closing, self._owner = lock, threading.Lock(), os.getpid()
        try:
            self._connection = dbapi2.connect(path, check_same_thread=False, isolation_level=None)
            self.configure(self._connection)
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        except dbapi2.Error as error:
            raise damaged(path, str(error)) from error
        self.note = CommittedNote(path)
        self._file = os.open(path, os.O_RDONLY)  # closed after SQLite's: that would give up SQLite's locks

    def configure(self, connection: Any) -> None:
        """Gives a connection the settings every one has."""
        connection.isolation_level = None  # transactions are begun by the engine, not guessed by the driver
        for pragma in PRAGMAS:
            connection.execute(pragma).fetchall()
        if self.checked and connection.execute("PRAGMA checksum_verification").fetchall() != [("1",)]:
            raise damaged(self.path, "its pages go unchecked")

    def empty_log(self) -> None:
        """Brings what the log holds into the database: nothing left over from a kill stays in it."""
        self.note.forget()
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def judge(self, error: BaseException) -> KonomiError | None:
        """Returns the damage behind an error of SQLite, or None; after either nothing more is written.

        SQLite calls a page with a wrong checksum a disk I/O error, as it does a failed fsync.
        """
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if self.damage is None and code in (CORRUPT, NOTADB):
            self.damage = damaged(self.path, str(error))
        if code == IOERR and self.damage is None:
            page = self.first_damaged_page()
            if page is None:
                # After a failed fsync the kernel may call lost pages clean: what follows could be lost too.
                self.broken.set()
            else:
                self.damage = damaged(self.path, f"page {page} fails its checksum")
        return self.damage if code in (IOERR, CORRUPT, NOTADB) else None

    def refuse_writes(self) -> None:
        """Raises DataLoss for a damaged database, FailedPrecondition for one whose disk failed a write."""
        if self.damage is not None:
            raise self.damage
        if self.broken.is_set():
            raise FailedPrecondition(
                f"{self.path.name} takes no writes since the disk failed one. Check the disk, then restart.",
                reason="STORE_READ_ONLY",
            )

    def close(self) -> None:
        """Gives the database up; once is enough, and what was forked off never does."""
        with self._closing:
            if self._file < 0 or os.getpid() != self._owner:
                return
            file, self._file = self._file, -1
        self.note.forget()
        self._connection.close()
        self.note.close()
        os.close(file)
        self._lock.release()

    def first_damaged_page(self) -> int | None:
        """Returns the number of the first page in the file whose checksum is wrong, None where none is known."""
        try:
            size = self._connection.execute("PRAGMA page_size").fetchone()[0]
            return next(damaged_pages(self._file, size), None) if self.checked else None
        except (dbapi2.Error, OSError):
            return None
