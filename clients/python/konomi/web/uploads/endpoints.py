"""The page's way in for pictures: begin an upload, send its files one by one, have them read, follow it, stop it."""

import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from konomi.client import Client
from konomi.client.services import taste_name
from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError, NotFound, ResourceExhausted
from konomi.i18n import catalogue
from konomi.v1 import rater_pb2 as rater
from konomi.web.responses import Asked, answer, failure, in_worker, text
from konomi.web.uploads.staging import Room, Staging, UploadLimits
from konomi.web.uploads.upload import PageUpload, UploadStatus

NAME = "x-konomi-name"
"""Header with a file's name, percent-encoded UTF-8."""

BLOCK_BYTES = 1024 * 1024
"""Bytes handed to the disk at a time."""

OPEN_AT_ONCE = 4
IDLE_SECONDS = 15 * 60.0
"""An upload whose files stop coming is given up after so long."""

LOOK_SECONDS = 60.0
"""From one look for such uploads to the next, while any is open."""

KEPT = 32
"""Uploads that can be asked about, ended ones among them."""

ID = re.compile(r"[0-9a-f]{32}")


class UploadEndpoints:
    """The uploads of a home.

    Args:
        client: returns the client of now.
        folder: where files lie until they are read; whatever a killed process left there is removed.
        limits: what one upload may bring.
        now: the clock.
    """

    def __init__(
        self,
        client: Callable[[], Client],
        folder: Path,
        limits: UploadLimits | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._folder, self._limits, self._now = client, folder, limits or UploadLimits(), now
        self._lock = threading.Lock()
        self._uploads: OrderedDict[str, PageUpload] = OrderedDict()
        self._room, self._closed = Room(), False
        self._timer: threading.Timer | None = None
        self._writers, self._readers = ThreadPoolExecutor(4, "page-uploads"), ThreadPoolExecutor(1, "page-reading")
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Stops every upload and removes what came."""
        with self._lock:
            uploads, self._closed = list(self._uploads.values()), True
            if self._timer is not None:
                self._timer.cancel()
        for upload in uploads:
            upload.stop()
        self._writers.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def begin(self, asked: Asked) -> Mapping[str, object]:
        """Endpoint: opens an upload into a taste, which is made where there is none; says what it may bring.

        Raises:
            InvalidArgument: the name of the taste is none.
            ResourceExhausted: too many uploads are open.
        """
        taste = taste_name(text(asked, "taste", "tastes/default"))
        source = rater.SOURCE_SCRAPED if asked.get("scraped") is True else rater.SOURCE_IMPORTED
        given = rater.Image(source=source, licence=text(asked, "licence"))
        self._client().rater.ensure_taste(taste)
        self._give_up_idle()
        with self._lock:
            if sum(not upload.is_ended for upload in self._uploads.values()) >= OPEN_AT_ONCE:
                line = catalogue.text("too many uploads at once; wait until one has ended")
                raise ResourceExhausted(line, reason="TOO_MANY_UPLOADS", retry_after=5.0)
            name = secrets.token_hex(16)
            staging = Staging(self._folder / name, self._limits, self._room)
            self._uploads[name] = PageUpload(self._client, taste, given, staging, self._limits)
            self._uploads[name].touched = self._now()
            ended = [key for key, upload in self._uploads.items() if upload.is_ended]
            for old in ended[: max(0, len(self._uploads) - KEPT)]:
                del self._uploads[old]
        self._look_again()
        return {"upload": name, "limits": asdict(self._limits)}

    async def file(self, request: Request) -> Response:
        """Takes one file: its name in a header, its bytes as the body, which is read once all else is in order."""
        try:
            upload, name = self._receiving(request.path_params["upload"]), _name(request)
            size = int(request.headers["content-length"])  # the guard saw to it
            incoming = await in_worker(self._writers, upload.staging.receive, name, size)
            try:
                async for block in _blocks(request):
                    await in_worker(self._writers, incoming.write, block)
                    upload.touched = self._now()
                await in_worker(self._writers, incoming.finish)
            finally:
                await in_worker(self._writers, incoming.close)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except KonomiError as error:
            return failure(error)
        return answer({})

    def finish(self, asked: Asked) -> UploadStatus:
        """Endpoint: all files came; they are read in the background."""
        upload = self._of(text(asked, "upload"))
        upload.begin_reading()
        self._readers.submit(copy_context().run, upload.read)
        return upload.status()

    def status(self, asked: Asked) -> UploadStatus:
        """Endpoint: how far an upload is."""
        return self._of(text(asked, "upload")).status()

    def stop(self, asked: Asked) -> UploadStatus:
        """Endpoint: ends an upload; images that are known already stay."""
        upload = self._of(text(asked, "upload"))
        upload.stop()
        return upload.status()

    def _of(self, name: str) -> PageUpload:
        with self._lock:
            upload = self._uploads.get(name) if ID.fullmatch(name) else None
        if upload is None:
            line = catalogue.text("this upload is not known any more; bring the files again")
            raise NotFound(line, reason="UPLOAD_GONE")
        return upload

    def _receiving(self, name: str) -> PageUpload:
        upload = self._of(name)
        if not upload.is_receiving:
            raise FailedPrecondition(catalogue.text("this upload takes no more files"), reason="UPLOAD_CLOSED")
        upload.touched = self._now()
        return upload

    def _give_up_idle(self) -> None:
        """Ends uploads whose files stopped coming; what they left may take long to remove, so no lock is held."""
        with self._lock:
            now = self._now()
            open_ones = [upload for upload in self._uploads.values() if upload.is_receiving]
            idle = [upload for upload in open_ones if now - upload.touched > IDLE_SECONDS]
        for upload in idle:
            upload.stop()

    def _look_again(self) -> None:
        """Looks for idle uploads once more after a while, and so on while any is open: a closed tab says nothing."""

        def look() -> None:
            self._give_up_idle()
            with self._lock:
                self._timer = None
                waiting = any(upload.is_receiving for upload in self._uploads.values())
            if waiting:
                self._look_again()

        with self._lock:
            if self._timer is None and not self._closed:
                self._timer = threading.Timer(LOOK_SECONDS, look)
                self._timer.daemon = True
                self._timer.start()


def _name(request: Request) -> str:
    """Returns the name a file has where it comes from.

    Raises:
        InvalidArgument: there is none, or it is no text.
    """
    names = request.headers.getlist(NAME)
    try:
        (name,) = (unquote(value, errors="strict") for value in names)
    except ValueError as error:
        line = catalogue.text("expected the name of the file in the header {name}", name=NAME)
        raise InvalidArgument(line, reason="NAME_MISSING", field="name") from error
    if not name:
        raise InvalidArgument(
            catalogue.text("expected the name of the file in the header {name}", name=NAME),
            reason="NAME_MISSING",
            field="name",
        )
    return name


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """Yields a body in blocks that are worth a trip to the disk."""
    block = bytearray()
    async for data in request.stream():
        block += data
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
