"""What lies in a home that no service keeps: caches, journals of scoring runs, whole homes of `konomi demo`.

Nothing here is followed through a link, and nothing outside the home is ever touched.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from konomi.errors import FailedPrecondition
from konomi.home import Home
from konomi.night.records.store import NightStore
from konomi.night.retention import DAY, StorageSettings

DEMO = re.compile(r"demo-\d{8}-\d{6}")
GOING = re.compile(r"\.demo-\d{8}-\d{6}\.going")
"""A demo home that is being removed; what a kill leaves of one goes the next time."""
CACHES = (("cache",), ("run", "scores"))
"""Folders of files that are made again when they are needed."""


@dataclass(frozen=True)
class DiskSpace:
    """Files and their bytes."""

    count: int = 0
    size: int = 0

    def __add__(self, other: "DiskSpace") -> "DiskSpace":
        return DiskSpace(self.count + other.count, self.size + other.size)


@dataclass(frozen=True)
class DemoHome:
    """A whole home of a demo: its folder, what it takes, when it was last written, and whether konomi runs on it."""

    path: Path
    space: DiskSpace
    written: float
    held: bool


def regular_files(folder: Path) -> "Iterator[os.DirEntry[str]]":
    """Yields every regular file below a folder, through no link."""
    waiting = [str(folder)] if folder.is_dir() and not folder.is_symlink() else []
    while waiting:
        with suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry


def space_of(folder: Path) -> DiskSpace:
    """Returns the files below a folder and their bytes; what goes meanwhile is left out."""
    count = size = 0
    for entry in regular_files(folder):
        with suppress(FileNotFoundError):
            size, count = size + entry.stat(follow_symlinks=False).st_size, count + 1
    return DiskSpace(count, size)


def old_caches(home: Path, days: float, now: float, *, remove: bool) -> DiskSpace:
    """Returns what cached files nobody used for some days take, and removes them where asked to; 0 days is never."""
    count = size = 0
    for parts in CACHES if days else ():
        for entry in regular_files(home.joinpath(*parts)):
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if status.st_mtime < now - days * DAY:
                    if remove:
                        os.unlink(entry.path)
                    count, size = count + 1, size + status.st_size
    return DiskSpace(count, size)


def demo_homes(home: Path) -> list[DemoHome]:
    """Returns the homes of demos below a home, oldest name first, and what is left of those half removed."""
    if not home.is_dir():
        return []
    names = sorted(entry.name for entry in os.scandir(home) if entry.is_dir(follow_symlinks=False))
    return [_demo(home / name) for name in names if DEMO.fullmatch(name) or GOING.fullmatch(name)]


def old_demos(homes: list[DemoHome], settings: StorageSettings, now: float) -> list[DemoHome]:
    """Returns the homes of demos that may go: older than the policy says, and nothing runs on them."""
    oldest = now - settings.demo_days * DAY
    return [
        demo
        for demo in homes
        if GOING.fullmatch(demo.path.name) or (settings.demo_days and not demo.held and demo.written < oldest)
    ]


def remove_demo(demo: DemoHome) -> bool:
    """Removes a demo's home while nothing can start on it; False where something runs on it after all."""
    path = demo.path
    if DEMO.fullmatch(path.name):
        with ExitStack() as locks:
            try:
                locks.enter_context(Home(path).held())
                locks.enter_context(NightStore(path).lock())
            except FailedPrecondition:
                return False
            path = path.rename(path.with_name(f".{path.name}.going"))
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _demo(path: Path) -> DemoHome:
    space, written = space_of(path), path.stat().st_mtime
    for entry in regular_files(path):
        with suppress(FileNotFoundError):
            written = max(written, entry.stat(follow_symlinks=False).st_mtime)
    held = Home(path).is_up() or NightStore(path).runner() is not None
    return DemoHome(path, space, written, held)
