"""Reads everything of a home once and says what is damaged; changes nothing, also where konomi is running."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout
from pysqlite3 import dbapi2

from konomi.errors import DataLoss, NotFound
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.sqlite.page_checksums import RESERVED, damaged, damaged_pages, load, read_header
from konomi_chassis.storage.sqlite.write_ahead_log import check_log

OTHERS = frozenset({"night.sqlite"})
"""Databases another library keeps in its own way, without checksums."""


@dataclass(frozen=True)
class Examined:
    """What was seen of one thing.

    Attributes:
        kind: "database", "artifact", "artifacts", "labels", "images" or "head".
        name: which one.
        problem: what is wrong and how to come back; empty where nothing is.
        count: pages, artifacts or entries that were read.
        checked: checksums vouch for it.
        held: a running konomi has it open, so its log was not read.
    """

    kind: str
    name: str
    problem: str = ""
    count: int = 0
    checked: bool = True
    held: bool = False


def examine_databases(folder: Path) -> Iterator[Examined]:
    """Reads every page of every database of a folder."""
    load()
    for path in sorted(folder.glob("*.sqlite")):
        with holding(path) as held:
            try:
                yield _examine_database(path, held=held)
            except DataLoss as error:
                yield Examined("database", path.name, error.message, held=held)


def examine_artifacts(store: ArtifactStore) -> Iterator[Examined]:
    """Reads every artifact: yields one line for each that is damaged, then one for all."""
    count = 0
    for digest in store.digests():
        try:
            store.stat(digest)
            for _ in store.chunks(digest):
                pass
        except DataLoss as error:
            yield Examined("artifact", digest, error.message)
        except NotFound:  # a running konomi let it go meanwhile
            continue
        count += 1
    yield Examined("artifacts", "artifacts", count=count)


@contextmanager
def holding(path: Path) -> Iterator[bool]:
    """Keeps a database from being opened meanwhile; yields True where a running konomi has it already."""
    lock = FileLock(f"{path}.lock", fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield True
        return
    try:
        yield False
    finally:
        lock.release()


def open_to_read(path: Path, *, held: bool) -> Any:
    """Returns a connection of pysqlite3 that reads and leaves nothing behind; verified where the file has checksums.

    Raises:
        DataLoss: the log is damaged, or the file does not begin as it should.
    """
    if not held:
        check_log(path)
    header = read_header(path)
    if header is None and path.stat().st_size:
        raise damaged(path, "it does not begin as a SQLite database does")
    if header is not None and header.marked and header.reserved != RESERVED:
        raise damaged(path, f"its header keeps {header.reserved} bytes of a page free, not {RESERVED}")
    closed = not held and not path.with_name(f"{path.name}-wal").exists()
    mode = "immutable=1" if closed else "mode=ro"  # only a file nobody writes is read without making -shm
    return dbapi2.connect(f"file:{quote(str(path))}?{mode}", uri=True, isolation_level=None)


def _examine_database(path: Path, *, held: bool) -> Examined:
    header = read_header(path)
    with closing(open_to_read(path, held=held)) as connection:
        try:
            count = int(connection.execute("PRAGMA page_count").fetchone()[0])
            (report,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        except dbapi2.Error as error:
            report = str(error)
    if report != "ok":
        page = _first_damaged_page(path) if header is not None and header.marked else None
        raise damaged(path, " ".join(report.split()) if page is None else f"page {page} fails its checksum")
    marked = header is not None and header.marked
    return Examined("database", path.name, count=count, checked=marked and load(), held=held)


def _first_damaged_page(path: Path) -> int | None:
    descriptor, header = os.open(path, os.O_RDONLY), read_header(path)
    try:
        return next(damaged_pages(descriptor, header.page_size), None) if header is not None else None
    except OSError:
        return None
    finally:
        os.close(descriptor)
