"""Image decoding in disposable, limited child processes: a hostile file costs a child, never the server."""

import os
import threading
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from konomi.errors import InvalidArgument, Unavailable
from konomi.settings import KonomiSettings
from konomi_chassis.decoding.worker_process import TOO_LARGE, ChildLost, Decoded, DecodingChild, Least, Refused

MIB = 1024 * 1024
LEAST_CHILDREN, MOST_CHILDREN, CORES_LEFT = 2, 64, 2
"""Children at least and at most, and cores left to the rest, where the machine decides."""


class DecodeSettings(KonomiSettings):
    """Limits of image decoding."""

    toml_table: ClassVar[str] = "decode"

    decode_children: Annotated[int, Field(ge=1, le=MOST_CHILDREN)] | Literal["auto"] = "auto"
    """Child processes at most; "auto" leaves two cores to the rest of the service, and is 2 where there are few."""

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

    def children(self) -> int:
        """Returns the child processes at most, by the cores this process may use where nobody says."""
        if self.decode_children == "auto":
            return min(MOST_CHILDREN, max(LEAST_CHILDREN, len(os.sched_getaffinity(0)) - CORES_LEFT))
        return self.decode_children


class Decoder:
    """A pool of decoding children; safe to use from many threads."""

    def __init__(self, settings: DecodeSettings | None = None) -> None:
        self._settings = settings or DecodeSettings()
        self.children = self._settings.children()
        """Images decoded at once."""
        self._places = threading.BoundedSemaphore(self.children)
        self._lock = threading.Lock()
        self._idle: list[DecodingChild] = []
        self._closed = False

    def decode(self, data: bytes, field: str = "image", least: Least | None = None) -> Decoded:
        """Decodes the first frame of a PNG, JPEG or WebP.

        Args:
            data: the encoded image.
            field: path of the request field it came in, for the error.
            least: the size it is wanted in, resampled later; a larger one comes shrunk by a whole factor to no less
                than two or three times that, a JPEG is decoded small, and of one longer than LONGEST times its
                shorter side only the middle comes, unless it is to be squashed. None for the whole image.

        Raises:
            InvalidArgument: reason IMAGE_TYPE, IMAGE_TOO_LARGE or IMAGE_UNREADABLE.
        """
        self._check_header(data, field)
        try:
            return self._decode(data, least)
        except ChildLost as error:
            why = "decoding it took more memory or time than an image may take"
            raise _unreadable(why, field) from error
        except Refused as refused:
            if refused.kind != TOO_LARGE:
                raise _unreadable(f"the decoder said {refused.why}", field) from refused
            raise InvalidArgument(
                f"An image has at most {self._settings.max_image_pixels} pixels; this one has {refused.why}.",
                reason="IMAGE_TOO_LARGE",
                field=field,
            ) from refused

    def _decode(self, data: bytes, least: Least | None) -> Decoded:
        with self._places:
            child = self._take()
            try:
                return child.decode(data, least)
            except ChildLost:
                if child.served == 1:
                    raise
            finally:
                self._give(child)
            # An old child may have died of what it did before: the image gets one of its own.
            child = self._start()
            try:
                return child.decode(data, least)
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

    def _take(self) -> DecodingChild:
        with self._lock:
            if self._closed:
                raise Unavailable("The decoder is closed.", reason="DRAINING", retry_after=1.0)
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    return child
                child.kill()
        return self._start()

    def _start(self) -> DecodingChild:
        settings = self._settings
        limits = (settings.decode_memory_bytes, settings.decode_cpu_seconds, settings.max_image_pixels)
        return DecodingChild(limits, settings.decode_wall_seconds)

    def _give(self, child: DecodingChild) -> None:
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
