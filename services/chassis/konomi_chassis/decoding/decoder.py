"""Image decoding in disposable, limited child processes: a hostile file costs a child, never the server."""

import threading
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from konomi.errors import InvalidArgument, Unavailable
from konomi.settings import KonomiSettings
from konomi_chassis.decoding.worker_process import TOO_LARGE, ChildLost, Decoded, DecodingChild, Least, Refused
from konomi_chassis.process import usable_cores

MIB = 1024 * 1024
HEIF = "HEIF"
KINDS = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC"
"""What is decoded, for errors: a closed list, see FORMATS."""
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
            return min(MOST_CHILDREN, max(LEAST_CHILDREN, usable_cores() - CORES_LEFT))
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
        """Decodes the first frame of an image of one of FORMATS.

        Args:
            data: the encoded image.
            field: path of the request field it came in, for the error.
            least: the size it is wanted in, resampled later; a larger one comes shrunk by a whole factor to no less
                than two or three times that, a JPEG is decoded small, and of one longer than LONGEST times its
                shorter side only the middle comes, unless it is to be squashed. None for the whole image.

        Raises:
            InvalidArgument: reason IMAGE_TYPE, IMAGE_TOO_LARGE or IMAGE_UNREADABLE.
        """
        heif = self._check_header(data, field) == HEIF
        try:
            return self._decode(data, least, heif)
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

    def _decode(self, data: bytes, least: Least | None, heif: bool) -> Decoded:
        with self._places:
            child = self._take(heif)
            try:
                return child.decode(data, least)
            except ChildLost:
                if child.served == 1:
                    raise
            finally:
                self._give(child)
            # An old child may have died of what it did before: the image gets one of its own.
            child = self._start(heif)
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

    def _check_header(self, data: bytes, field: str) -> str:
        if len(data) > self._settings.max_image_bytes:
            limit = self._settings.max_image_bytes
            raise InvalidArgument(
                f"An image has at most {limit} bytes; this one has {len(data)}.", reason="IMAGE_TOO_LARGE", field=field
            )
        form = sniff(data)
        if form is None:
            raise InvalidArgument(
                f"An image is a {KINDS}; these bytes are none of them.", reason="IMAGE_TYPE", field=field
            )
        return form

    def _take(self, heif: bool) -> DecodingChild:
        with self._lock:
            if self._closed:
                raise Unavailable("The decoder is closed.", reason="DRAINING", retry_after=1.0)
            for child in [child for child in reversed(self._idle) if child.heif == heif]:
                self._idle.remove(child)
                if child.alive:
                    return child
                child.kill()
            if len(self._idle) >= self.children:  # all of the other kind: the one that rested longest makes way
                self._idle.pop(0).kill()
        return self._start(heif)

    def _start(self, heif: bool) -> DecodingChild:
        settings = self._settings
        limits = (settings.decode_memory_bytes, settings.decode_cpu_seconds, settings.max_image_pixels)
        return DecodingChild(limits, settings.decode_wall_seconds, heif=heif)

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


SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
"""First bytes to format."""
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), HEIF),
}
"""Brand of an ISO base media file (ISO/IEC 23008-12) to format; what calls itself mif1 may also be an AVIF."""


def sniff(data: bytes) -> str | None:
    """Returns the format the first 12 bytes tell, one of FORMATS, or None."""
    for signature, form in SIGNATURES:
        if data.startswith(signature):
            return form
    if data[:4] == b"RIFF":
        return "WEBP" if data[8:12] == b"WEBP" else None
    if data[4:8] == b"ftyp":
        return BRANDS.get(data[8:12])
    return "BMP" if data[:2] == b"BM" and data[6:10] == bytes(4) else None


def _unreadable(why: str, field: str) -> InvalidArgument:
    return InvalidArgument(
        f"The image cannot be read: {why}. Send a whole {KINDS}.", reason="IMAGE_UNREADABLE", field=field
    )
