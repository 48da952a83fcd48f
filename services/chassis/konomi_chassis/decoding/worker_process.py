"""One decoding child seen from its parent: bytes down one pipe, pixels up another, never longer than it may take."""

import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

CHILD = Path(__file__).with_name("worker.py")
REQUEST = struct.Struct("<QIIB")
ANSWER = struct.Struct("<BBHIIII")
"""Both as in worker.py, which is a script and imports nothing of konomi."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
TOO_LARGE, UNREADABLE, IMAGE = 0, 1, 2
LONGEST = 8
Least = tuple[int, int, bool]
"""Width and height an image is wanted in at least, and whether its shape may be lost."""
PIPE_BYTES = 1 << 20
"""An encoded image fits into the pipe, so that writing it does not wait for the child to read."""


KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""Told to glibc: every image needs the same few buffers, and having the kernel zero them anew costs a millisecond."""


class ChildLost(Exception):
    """The child died, stalled or ran out of memory over an image."""


class Refused(Exception):
    """The child answered that it does not take the image: `kind` is TOO_LARGE or UNREADABLE, with a word why."""

    def __init__(self, kind: int, why: str) -> None:
        super().__init__(why)
        self.kind, self.why = kind, why


@dataclass(frozen=True, eq=False)
class Decoded:
    """One decoded image.

    Attributes:
        pixels: (H, W, 3) uint8, RGB; upright, transparency over white; maybe shrunk, and the middle of a long one.
        format: one of FORMATS.
        width, height: of the whole image, in pixels.
    """

    pixels: np.ndarray
    format: str
    width: int
    height: int


class DecodingChild:
    """One child process; `decode` is used by one thread at a time."""

    def __init__(self, limits: tuple[int, int, int], wall_seconds: float, *, heif: bool = False) -> None:
        """Starts the child.

        Args:
            limits: address space in bytes, CPU seconds an image may take, most pixels.
            wall_seconds: time an image may take by the clock.
            heif: whether it reads HEIC too; it starts slower then.
        """
        self._wall_seconds, self.heif = wall_seconds, heif
        self.served, self.sound = 0, True
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(CHILD), *map(str, limits), str(int(heif))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", **KEEP_FREED_MEMORY},
            bufsize=0,
            close_fds=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._down, self._up = (
            _pipe(p, e) for p, e in ((self._process.stdin, select.POLLOUT), (self._process.stdout, select.POLLIN))
        )

    @property
    def alive(self) -> bool:
        """Says whether the process can take another image."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends the process now."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def decode(self, data: bytes, least: Least | None) -> Decoded:
        """Sends the bytes and reads the answer.

        Raises:
            Refused: the child does not take the image and lives on.
            ChildLost: it died or stalled over the image, and is dead now.
        """
        self.served, self.sound = self.served + 1, False
        until = time.monotonic() + self._wall_seconds
        try:
            decoded = self._ask(data, least or (0, 0, False), until)
        except (BrokenPipeError, EOFError, MemoryError, TimeoutError) as error:
            self.kill()
            raise ChildLost from error
        self.sound = True
        if isinstance(decoded, Refused):
            raise decoded
        return decoded

    def _ask(self, data: bytes, least: Least, until: float) -> Decoded | Refused:
        self._down(REQUEST.pack(len(data), *least), until)
        self._down(data, until)
        head = bytearray(ANSWER.size)
        self._up(head, until)
        kind, form, letters, width, height, columns, rows = ANSWER.unpack(head)
        if kind != IMAGE:
            text = bytearray(letters)
            self._up(text, until)
            if text == b"MemoryError":
                raise MemoryError
            return Refused(kind, text.decode("utf-8", "replace"))
        pixels = np.empty((rows, columns, 3), np.uint8)
        self._up(pixels.data.cast("B"), until)
        return Decoded(pixels, FORMATS[form], width, height)


def _pipe(pipe: IO[bytes], event: int) -> Callable[[bytes | bytearray | memoryview, float], None]:
    """Returns the function that writes to, or fills a buffer from, one end of a pipe until a moment."""
    number = pipe.fileno()
    os.set_blocking(number, False)
    with suppress(OSError, AttributeError):  # a smaller pipe is only slower
        fcntl.fcntl(number, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    poll = select.poll()
    poll.register(number, event)

    def move(buffer: bytes | bytearray | memoryview, until: float) -> None:
        view = memoryview(buffer)
        while view:
            try:
                count = os.write(number, view) if event == select.POLLOUT else os.readv(number, [view])
            except BlockingIOError:
                left = until - time.monotonic()
                if left <= 0 or not poll.poll(left * 1000):
                    raise TimeoutError from None
                continue
            if not count:
                raise EOFError
            view = view[count:]

    return move
