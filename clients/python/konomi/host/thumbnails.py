"""Thumbnails made in limited child processes: a hostile image costs a child, never the page, a night or its report."""

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, LifoQueue
from typing import IO

from konomi.errors import InvalidArgument, Unavailable
from konomi.i18n.catalogue import text

CHILD = Path(__file__).with_name("thumbnail_worker.py")
CHILDREN = 2
WALL_SECONDS = 20.0
IMAGES_PER_CHILD = 2000


class Shrinker:
    """A small pool of children; safe to use from many threads."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(CHILDREN)
        self._idle: LifoQueue[_Child] = LifoQueue()
        self._closed = False

    def shrink(self, data: bytes, side: int) -> bytes:
        """Returns a WebP with its longest side at most `side` pixels, without any of the image's metadata.

        Raises:
            InvalidArgument: the image cannot be read within the limits.
            Unavailable: the page is ending.
        """
        with self._places, self._child() as child:
            small = child.shrink(data, side)
        if not small:
            message = text("expected an image that can be read, got something else")
            raise InvalidArgument(message, reason="IMAGE_UNREADABLE")
        return small

    def warm(self) -> None:
        """Starts a child before it is asked for: the first picture shall not wait for it."""
        with self._places, self._child():
            return

    def close(self) -> None:
        """Ends the children."""
        self._closed = True
        while True:
            try:
                self._idle.get_nowait().kill()
            except Empty:
                return

    @contextmanager
    def _child(self) -> "Iterator[_Child]":
        if self._closed:
            raise Unavailable(text("the page is ending; ask again when it is back"), retry_after=1.0)
        try:
            child = self._idle.get_nowait()
        except Empty:
            child = _Child()
        try:
            yield child
        finally:
            if child.sound and child.served < IMAGES_PER_CHILD and not self._closed:
                self._idle.put(child)
            else:
                child.kill()


class _Child:
    """One child; used by one thread at a time."""

    def __init__(self) -> None:
        self.served, self.sound = 0, True
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _start()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def shrink(self, data: bytes, side: int) -> bytes:
        """Returns the thumbnail, nothing where the image is unreadable or the child died of it."""
        self.served += 1
        self.sound = False
        alarm = threading.Timer(WALL_SECONDS, self._process.kill)
        alarm.start()
        try:
            sink, source = self._process.stdin, self._process.stdout
            assert sink is not None and source is not None
            sink.write(struct.pack("<IQ", side, len(data)) + data)
            sink.flush()
            (length,) = struct.unpack("<Q", _exactly(source, 8))
            small = _exactly(source, length)
        except (BrokenPipeError, EOFError):
            return b""
        finally:
            alarm.cancel()
        self.sound = True
        return small

    def kill(self) -> None:
        """Ends the child and closes its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _start() -> str:
    """Returns the child's program: this interpreter's import path, then the script."""
    return f"import sys, runpy; sys.path[:0] = {sys.path!r}; runpy.run_path({str(CHILD)!r}, run_name='__main__')"


def _exactly(source: IO[bytes], count: int) -> bytes:
    data = source.read(count)
    if len(data) < count:
        raise EOFError
    return data
