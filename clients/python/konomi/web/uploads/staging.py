"""Files on their way in: kept by the names their owner gave them in a private folder of the home, within limits.

Names are data: one that would lead elsewhere is refused, nothing is unpacked, no link is ever made or followed, and no
file takes the place of another.
"""

import os
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from konomi.datasets.archives import unsafe
from konomi.datasets.media import MAX_IMAGE_BYTES, PICTURES, ending_of
from konomi.datasets.reader import CONTAINERS
from konomi.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    KonomiError,
    NotFound,
    ResourceExhausted,
    disk_full_error,
    is_full,
)
from konomi.files import LONGEST_NAME
from konomi.i18n.catalogue import text

MIB, GIB = 1024**2, 1024**3
FILE_BYTES = 8 * GIB
"""Of one file, which only an archive or a table may have."""


@dataclass(frozen=True)
class UploadLimits:
    """What one upload may bring.

    Attributes:
        files: at most so many.
        file_bytes: of an archive or a table.
        picture_bytes: of any other file.
        all_bytes: of all its files.
        images: read from it, those within archives too.
        image_bytes: of those images together, unpacked.
        spare_bytes: of the disk that stay free.
        depth: folders within each other.
    """

    files: int = 20_000
    file_bytes: int = FILE_BYTES
    picture_bytes: int = MAX_IMAGE_BYTES
    all_bytes: int = 32 * GIB
    images: int = 200_000
    image_bytes: int = 128 * GIB
    spare_bytes: int = GIB
    depth: int = 32


class Room:
    """What was announced to a disk and has not come yet, over all uploads: free room that is promised already."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming = 0

    def take(self, folder: Path, size: int, spare: int) -> None:
        """Promises room for so many bytes.

        Raises:
            ResourceExhausted: the disk has too little that is not promised.
        """
        with self._lock:
            if shutil.disk_usage(folder).free < self._coming + size + spare:
                line = text("the disk of the home has no room for {size} MiB more; free some", size=-(-size // MIB))
                raise disk_full_error(line)
            self._coming += size

    def came(self, size: int) -> None:
        """Takes so many bytes off what is promised: they are on the disk, or will not come."""
        with self._lock:
            self._coming -= size


class Staging:
    """The folder of one upload.

    Args:
        folder: made here, for its owner alone.
        limits: what may come.
        room: of the disk, shared by all uploads to it.
    """

    def __init__(self, folder: Path, limits: UploadLimits, room: Room | None = None) -> None:
        self._folder, self._limits, self.room = folder, limits, room or Room()
        self._parts = folder / "parts"
        self.tree = folder / "files"
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in (folder, self.tree, self._parts):
            place.mkdir(mode=0o700)
        self._lock = threading.Lock()
        self._number = self._files = self._bytes = 0
        self._closed = False
        self.pictures = 0
        """Files that are pictures by their names."""
        self.containers = 0
        """Files that may hold any number of them."""

    def receive(self, name: str, size: int) -> "Incoming":
        """Makes room for a file and returns where its bytes go.

        Args:
            name: with the folders it lies in, divided by "/".
            size: bytes that were announced.

        Raises:
            InvalidArgument: the name leads elsewhere or is too long, or the file is too large for what it is.
            ResourceExhausted: the upload has too many files or bytes, or the disk too little room.
            NotFound: the upload has ended meanwhile.
        """
        parts = _checked(name, self._limits.depth)
        self._measure(name, size)
        with self._lock:
            self._still_open()
            if self._files >= self._limits.files:
                line = text("expected at most {most} files at once, got more", most=self._limits.files)
                raise ResourceExhausted(line, reason="TOO_MANY_FILES")
            if self._bytes + size > self._limits.all_bytes:
                line = text("expected at most {most} MiB at once, got more", most=self._limits.all_bytes // MIB)
                raise ResourceExhausted(line, reason="TOO_MANY_BYTES")
            self.room.take(self._folder, size, self._limits.spare_bytes)
            self._files += 1
            self._bytes += size
            self._number += 1
            part = self._parts / str(self._number)
        return Incoming(self, part, self.tree.joinpath(*parts), size)

    def accept(self, incoming: "Incoming") -> None:
        """Gives a whole file its name.

        Raises:
            AlreadyExists: a file or folder of this name came before.
            NotFound: the upload has ended meanwhile.
        """
        with self._lock:
            self._still_open()
            try:
                incoming.place.parent.mkdir(parents=True, exist_ok=True)
                if os.path.lexists(incoming.place):
                    raise FileExistsError
                incoming.part.rename(incoming.place)
            except (FileExistsError, NotADirectoryError) as error:
                line = text("a file or folder of this name came before; only the first was taken")
                raise AlreadyExists(line, reason="TWICE") from error
            ending = ending_of(incoming.place.name)
            self.pictures += ending in PICTURES
            self.containers += ending in CONTAINERS

    def give_back(self, incoming: "Incoming") -> None:
        """Takes back the room of a file that did not arrive."""
        with self._lock:
            self._files -= 1
            self._bytes -= incoming.size

    def remove(self) -> None:
        """Removes all that came; what is still coming is refused from now on."""
        with self._lock:
            self._closed = True
        shutil.rmtree(self._folder, ignore_errors=True)

    def _still_open(self) -> None:
        if self._closed:
            raise NotFound(text("this upload has ended; bring the files again"), reason="UPLOAD_GONE")

    def _measure(self, name: str, size: int) -> None:
        is_container = ending_of(name) in CONTAINERS
        most = self._limits.file_bytes if is_container else self._limits.picture_bytes
        if size > most:
            line = text("expected at most {most} MiB, got more; shrink it first", most=most // MIB)
            raise InvalidArgument(line, reason="IMAGE_TOO_LARGE")


class Incoming:
    """One file on its way: its bytes go to a part without a name until all have come.

    Attributes:
        part: where they go.
        place: what the file will be called.
        size: bytes that were announced.
    """

    def __init__(self, staging: Staging, part: Path, place: Path, size: int) -> None:
        self.part, self.place, self.size = part, place, size
        self._staging, self._received, self._whole = staging, 0, False
        self._promised = size
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file: BinaryIO = os.fdopen(os.open(part, flags, 0o600), "wb")
        except OSError as error:
            staging.give_back(self)
            self._came(size)
            raise failure_of(error) from error

    def write(self, block: bytes) -> None:
        """Writes the next bytes.

        Raises:
            InvalidArgument: more come than were announced.
            ResourceExhausted: the disk is full.
        """
        self._received += len(block)
        if self._received > self.size:
            line = text("expected {size} bytes, as was announced, got more", size=self.size)
            raise InvalidArgument(line, reason="SIZE_MISMATCH")
        try:
            self._file.write(block)
        except OSError as error:
            raise failure_of(error) from error
        self._came(len(block))

    def finish(self) -> None:
        """Takes the file in.

        Raises:
            InvalidArgument: less came than was announced.
            AlreadyExists: a file or folder of this name came before.
            NotFound: the upload has ended meanwhile.
        """
        if self._received != self.size:
            line = text("expected {size} bytes, as was announced, got {got}", size=self.size, got=self._received)
            raise InvalidArgument(line, reason="SIZE_MISMATCH")
        try:
            self._file.close()
            self._staging.accept(self)
        except OSError as error:
            raise failure_of(error) from error
        self._whole = True

    def close(self) -> None:
        """Removes the part; a file that was not taken in leaves nothing behind."""
        self._came(self._promised)
        if not self._whole:
            self._staging.give_back(self)
        with suppress(OSError):  # the rest of a full disk's buffer
            self._file.close()
        self.part.unlink(missing_ok=True)

    def _came(self, size: int) -> None:
        self._promised -= size
        self._staging.room.came(size)


def failure_of(error: OSError) -> KonomiError:
    """Returns what a fault of the disk is to whoever brings files."""
    if is_full(error):
        return disk_full_error(text("the disk of the home is full; free some, then bring the files again"))
    return FailedPrecondition(text("cannot be kept: {why}", why=error.strerror), reason="FILE_UNWRITABLE")


def _checked(name: str, depth: int) -> list[str]:
    """Returns the parts of a name.

    Raises:
        InvalidArgument: it leads elsewhere, or is too long.
    """
    parts = name.split("/")
    if unsafe(name) or any(part in ("", ".") for part in parts):
        line = text("has a name that leads elsewhere; it was not taken")
        raise InvalidArgument(line, reason="UNSAFE_NAME", field="name")
    if len(parts) > depth or any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
        line = text("has a name that is too long; expected at most {most} bytes, and {depth} folders",
                    most=LONGEST_NAME, depth=depth)  # fmt: skip
        raise InvalidArgument(line, reason="NAME_TOO_LONG", field="name")
    return parts
