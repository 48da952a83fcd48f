"""One upload: files come in, then they are read as `konomi import` reads a folder, and it says what became of them."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypedDict

from konomi.client import Client
from konomi.client.refusals import told
from konomi.datasets.media import ImageFile
from konomi.datasets.reader import find_images
from konomi.errors import FailedPrecondition, KonomiError, ResourceExhausted
from konomi.i18n.catalogue import text
from konomi.taste.importing import ImportRun, ImportSummary
from konomi.v1 import rater_pb2 as rater
from konomi.web.uploads.staging import Staging, UploadLimits

RECEIVING, READING, DONE, FAILED, STOPPED = "receiving", "reading", "done", "failed", "stopped"
ENDED = (DONE, FAILED, STOPPED)
NAMED = 200
"""Files named one by one in an answer; what is beyond is counted."""


class FileRemark(TypedDict):
    """A file that was refused, or something of it that was not understood."""

    name: str
    reason: str
    message: str


class UploadStatus(TypedDict):
    """How far an upload is; what was refused, not understood and passed over only once it has ended."""

    state: str
    read: int
    total: int
    added: int
    already_known: int
    rated: int
    foreign: int
    failed: int
    unread: int
    refused: list[FileRemark]
    not_understood: list[FileRemark]
    passed_over: dict[str, int]
    problem: str


class PageUpload:
    """What somebody dropped on the page.

    Args:
        client: returns the client of now.
        taste: "tastes/{taste}".
        given: what holds for all images: source and licence.
        staging: where the files lie.
        limits: what may be read from them.
    """

    def __init__(
        self, client: Callable[[], Client], taste: str, given: rater.Image, staging: Staging, limits: UploadLimits
    ) -> None:
        self._client, self._taste, self._given, self._limits = client, taste, given, limits
        self.staging = staging
        self._summary = ImportSummary()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._read, self._problem, self._state = 0, "", RECEIVING
        self.touched = time.monotonic()

    @property
    def is_receiving(self) -> bool:
        """Says whether files still come."""
        return self._state == RECEIVING

    @property
    def is_ended(self) -> bool:
        """Says whether nothing more will happen."""
        return self._state in ENDED

    def begin_reading(self) -> None:
        """Takes no more files.

        Raises:
            FailedPrecondition: that was said before.
        """
        with self._lock:
            if self._state != RECEIVING:
                raise FailedPrecondition(text("this upload takes no more files"), reason="UPLOAD_CLOSED")
            self._state = READING

    def read(self) -> None:
        """Reads what came, to the end; its files are gone afterwards, however it ends."""
        outcome, self._problem = FAILED, text("the page met a fault of its own")
        try:
            files = self._bounded(find_images([self.staging.tree], self._summary.tally))
            ImportRun(self._client(), self._taste, self._given, self._summary).add_all(files, lambda _: None)
            outcome, self._problem = (STOPPED if self._stop.is_set() else DONE), ""
        except KonomiError as error:
            self._problem = self._shown(told(error))
        finally:
            self.staging.remove()
            self._state = outcome

    def stop(self) -> None:
        """Ends it: files that came are removed; of images that were read, those already known stay."""
        self._stop.set()
        with self._lock:
            if self._state == RECEIVING:
                self._state = STOPPED
                self.staging.remove()

    def status(self) -> UploadStatus:
        """Returns how far it is."""
        summary, tally = self._summary, self._summary.tally
        ended = self.is_ended
        failed = summary.failed[:NAMED] if ended else []
        unread = tally.unread[:NAMED] if ended else []
        return {
            "state": self._state,
            "read": self._read,
            "total": 0 if self.staging.containers else self.staging.pictures,
            "added": summary.added,
            "already_known": summary.already_known,
            "rated": summary.rated,
            "foreign": summary.foreign,
            "failed": len(summary.failed),
            "unread": tally.unread_counts.total() if ended else 0,
            "refused": [self._refused(one["path"], one["reason"], one["message"]) for one in failed],
            "not_understood": [self._refused(one.path, one.reason, one.message) for one in unread],
            "passed_over": dict(sorted(tally.passed_over.items())) if ended else {},
            "problem": self._problem if ended else "",
        }

    def _bounded(self, files: Iterable[ImageFile]) -> Iterator[ImageFile]:
        """Yields files until there are too many, or somebody stops it."""
        size = 0
        for file in files:
            if self._stop.is_set():
                return
            size += len(file.data)
            if self._read >= self._limits.images or size > self._limits.image_bytes:
                line = text("this is more than the page takes at once; unpack it and run: {line}", line="konomi import")
                raise ResourceExhausted(line, reason="TOO_MANY_IMAGES")
            yield file
            self._read += 1

    def _refused(self, name: str, reason: str, message: str) -> FileRemark:
        return {"name": self._shown(name), "reason": reason, "message": self._shown(message)}

    def _shown(self, words: str) -> str:
        """Returns words with the names their owner knows: nobody knows the folder they lay in."""
        return words.replace(f"{self.staging.tree}/", "")
