"""Image decoding in disposable, limited child processes: a hostile file costs a child, never the server."""

import json
import os
import selectors
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
from pydantic import Field

from konomi.errors import InvalidArgument, Unavailable
from konomi.settings import KonomiSettings

CHILD = Path(__file__).with_name("decode_child.py")
MIB = 1024 * 1024


class DecodeSettings(KonomiSettings):
    """Limits of image decoding."""

    toml_table: ClassVar[str] = "decode"

    decode_children: int = Field(default=2, ge=1, le=64)
    """Child processes at most."""

    max_image_bytes: int = Field(default=32 * MIB, ge=1)
    """Largest encoded image."""

    max_image_pixels: int = Field(default=50_000_000, ge=1)
    """Most pixels, as the header says, before anything is decoded."""

    decode_memory_bytes: int = Field(default=512 * MIB, ge=64 * MIB)
    """Address space of a child."""

    decode_cpu_seconds: int = Field(default=5, ge=1)
    """CPU time one image may take."""

    decode_wall_seconds: float = Field(default=60.0, gt=0)
    """Time one image may take by the clock."""

    decode_images_per_child: int = Field(default=512, ge=1)
    """Images after which a child is replaced by a fresh one."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """One decoded image.

    Attributes:
        pixels: (H, W, 3) uint8, RGB; upright, transparency over white.
        format: "PNG", "JPEG" or "WEBP".
        width, height: in pixels.
    """

    pixels: np.ndarray
    format: str
    width: int
    height: int


class Decoder:
    """A pool of decoding children; safe to use from many threads."""

    def __init__(self, settings: DecodeSettings | None = None) -> None:
        self._settings = settings or DecodeSettings()
        self._places = threading.BoundedSemaphore(self._settings.decode_children)
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._closed = False

    def decode(self, data: bytes, field: str = "image") -> Decoded:
        """Decodes the first frame of a PNG, JPEG or WebP.

        Args:
            data: the encoded image.
            field: path of the request field it came in, for the error.

        Raises:
            InvalidArgument: reason IMAGE_TYPE, IMAGE_TOO_LARGE or IMAGE_UNREADABLE.
        """
        self._check_header(data, field)
        with self._places:
            child = self._take()
            try:
                return child.decode(data, field)
            except InvalidArgument:
                if child.served == 1 or child.alive:
                    raise
            finally:
                self._give(child)
            # An old child may have died of what it did before: the image gets one of its own.
            child = _Child(self._settings)
            try:
                return child.decode(data, field)
            finally:
                self._give(child)

    def close(self) -> None:
        """Ends the children; later calls raise Unavailable."""
        with self._lock:
            self._closed = True
            children, self._idle = self._idle, []
        for child in children:
            child.kill()

    def _check_header(self, data: bytes, field: str) -> None:
        if len(data) > self._settings.max_image_bytes:
            limit = self._settings.max_image_bytes
            raise InvalidArgument(
                f"An image has at most {limit} bytes; this one has {len(data)}.", reason="IMAGE_TOO_LARGE", field=field
            )
        if sniff(data) is None:
            raise InvalidArgument(
                "An image is a PNG, JPEG or WebP; these bytes are none of them.", reason="IMAGE_TYPE", field=field
            )

    def _take(self) -> "_Child":
        with self._lock:
            if self._closed:
                raise Unavailable("The decoder is closed.", reason="DRAINING", retry_after=1.0)
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    return child
                child.kill()
        return _Child(self._settings)

    def _give(self, child: "_Child") -> None:
        with self._lock:
            if (
                child.sound
                and child.alive
                and child.served < self._settings.decode_images_per_child
                and not self._closed
            ):
                self._idle.append(child)
                return
        child.kill()


class _Child:
    """One child process; `decode` is used by one thread at a time."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self.served, self.sound = 0, True
        limits = (
            settings.decode_memory_bytes,
            settings.decode_cpu_seconds,
            settings.max_image_pixels,
        )
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(CHILD), *map(str, limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            bufsize=0,
            close_fds=True,
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

    def decode(self, data: bytes, field: str) -> Decoded:
        """Sends the bytes, reads the answer; a child that dies or stalls makes the image unreadable."""
        self.served, self.sound = self.served + 1, False
        until = time.monotonic() + self._settings.decode_wall_seconds
        try:
            _write(self._process.stdin, struct.pack("<Q", len(data)), until)
            _write(self._process.stdin, data, until)
            answer = json.loads(_read_line(self._process.stdout, until))
            if answer.get("message") == "MemoryError":
                raise MemoryError
            if "error" in answer:
                self.sound = True
                raise self._refused(answer, field)
            pixels = np.empty((answer["height"], answer["width"], 3), np.uint8)
            _read_into(self._process.stdout, pixels.data.cast("B"), until)
        except (BrokenPipeError, EOFError, MemoryError, TimeoutError) as error:
            self.kill()
            raise _unreadable("decoding it took more memory or time than an image may take", field) from error
        self.sound = True
        return Decoded(pixels, answer["format"], answer["width"], answer["height"])

    def _refused(self, answer: dict[str, str], field: str) -> InvalidArgument:
        if answer["error"] == "IMAGE_TOO_LARGE":
            limit = self._settings.max_image_pixels
            return InvalidArgument(
                f"An image has at most {limit} pixels; this one has {answer['message']}.",
                reason="IMAGE_TOO_LARGE",
                field=field,
            )
        return _unreadable(f"the decoder said {answer['message']}", field)


def sniff(data: bytes) -> str | None:
    """Returns "PNG", "JPEG" or "WEBP" by the first bytes, or None."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    return "WEBP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _unreadable(why: str, field: str) -> InvalidArgument:
    return InvalidArgument(
        f"The image cannot be read: {why}. Send a whole PNG, JPEG or WebP.", reason="IMAGE_UNREADABLE", field=field
    )


def _wait(pipe: IO[bytes], mask: int, until: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, mask)
        if not selector.select(max(0.0, until - time.monotonic())):
            raise TimeoutError


def _write(pipe: IO[bytes] | None, data: bytes, until: float) -> None:
    assert pipe is not None
    view = memoryview(data)
    os.set_blocking(pipe.fileno(), False)
    while view:
        _wait(pipe, selectors.EVENT_WRITE, until)
        view = view[os.write(pipe.fileno(), view) :]


def _read_line(pipe: IO[bytes] | None, until: float) -> bytes:
    assert pipe is not None
    line = bytearray()
    while not line.endswith(b"\n"):
        _wait(pipe, selectors.EVENT_READ, until)
        letter = os.read(pipe.fileno(), 1)
        if not letter:
            raise EOFError
        line += letter
    return bytes(line)


def _read_into(pipe: IO[bytes] | None, view: memoryview, until: float) -> None:
    assert pipe is not None
    while view:
        _wait(pipe, selectors.EVENT_READ, until)
        count = os.readv(pipe.fileno(), [view])
        if not count:
            raise EOFError
        view = view[count:]
