"""What a taste's owner grades next: one queue a taste, the same in every browser and after every restart."""

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypedDict, cast

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from konomi.client import Client, paging
from konomi.errors import InvalidArgument, KonomiError
from konomi.files import write_quickly
from konomi.i18n import catalogue
from konomi.taste.labelling import ungraded
from konomi.v1 import rater_pb2 as rater
from konomi.web.responses import Asked, number, text

FULL = 28
"""Images a queue is filled up to; a shorter queue follows the newest grades more closely."""
LOW = 12
"""Images left at which it is filled up ahead of need: SuggestImages is slow, and the page must not wait for it."""
SKIPPED_KEPT = 2000
TASTE_ID = re.compile(r"[a-z0-9-]{1,40}")
REPEAT = rater.SUGGESTION_REASON_REPEAT_CHECK


class DueImage(TypedDict):
    """An image to grade, as the contract's JSON has it, and the name of why it is asked about."""

    image: Mapping[str, object]
    reason: str


class Sitting(TypedDict):
    """What the page shows next, and how far the taste is."""

    images: list[DueImage]
    graded: int
    known: int
    fitted: bool


class QueueState(TypedDict, total=False):
    """A queue's file: what is due and why, what was skipped, and the newest label it knows of."""

    queue: list[tuple[str, int]]
    skipped: list[str]
    sequence: int


class GradingQueue:
    """One taste's queue, kept in a small file; the rater alone remembers the grades.

    Two locks: one around the queue, held for moments only, because every grade takes it; one around filling it up,
    which waits for the rater.

    Args:
        client: returns the client of now.
        taste: "tastes/{taste}".
        path: the file.
        workers: where the queue is filled up ahead of need.
        wanted: returns digests of images that somebody waits for, such as a growing set; they are due first.
    """

    def __init__(
        self,
        client: Callable[[], Client],
        taste: str,
        path: Path,
        workers: Executor,
        wanted: Callable[[str], Sequence[str]] = lambda taste: (),
    ) -> None:
        self._client, self._taste, self._path, self._workers = client, taste, path, workers
        self._wanted, self._put_first = wanted, set[str]()
        self._lock, self._filling = threading.RLock(), threading.Lock()
        kept = _read(path)
        self._queue: list[tuple[str, int]] = [(digest, reason) for digest, reason in kept.get("queue", [])]
        self._skipped: list[str] = kept.get("skipped", [])
        self._sequence: int = kept.get("sequence", 0)
        self._seen = self._sequence
        self._passed: set[str] = set()  # what left the queue while it is being filled up
        self._checked = False

    def show(self, count: int) -> Sitting:
        """Returns images to show, first the one that is due, and how far the taste is.

        Args:
            count: how many at most; fewer come where the queue is shorter and still long enough to go on with.
        """
        self._catch_up()
        self._put_wanted_first()
        if len(self._queue) < (count if count > FULL else min(count, LOW)):
            self._fill(max(count, FULL))
        with self._lock:
            due = self._queue[:count]
        taste = self._client().rater.get_taste(name=self._taste)
        return {
            "images": self._described(due),
            "graded": taste.label_count,
            "known": taste.image_count,
            "fitted": bool(taste.active_rater_version),
        }

    def recorded(self, entry: rater.Label) -> None:
        """Notes a durable label: its image is no longer due; one that was undone is due again."""
        with self._lock:
            self._sequence = max(self._sequence, entry.sequence)
            if entry.grade or entry.undoes:
                self._leave_out(entry.image_digest)
            if entry.undoes:
                self._queue.insert(0, (entry.image_digest, int(entry.reason)))
            self._keep()
        self._fill_ahead()

    def skip(self, digest: str) -> None:
        """Leaves an image out until nothing else is left."""
        with self._lock:
            self._leave_out(digest)
            self._skipped = [*(other for other in self._skipped if other != digest), digest][-SKIPPED_KEPT:]
            self._keep()
        self._fill_ahead()

    def unskip(self, digest: str) -> None:
        """Takes the skipping of an image back: it is due now."""
        with self._lock:
            self._skipped = [other for other in self._skipped if other != digest]
            self._queue = [(digest, 0), *(item for item in self._queue if item[0] != digest)]
            self._keep()

    def _leave_out(self, digest: str) -> None:
        self._queue = [item for item in self._queue if item[0] != digest]
        self._passed.add(digest)

    def _catch_up(self) -> None:
        """Once after a start: takes out what was graded while this file was not looked after."""
        if self._checked:
            return
        with self._filling:
            token = str(self._seen) if self._seen else ""
            for entry in paging.labels(self._client(), self._taste, page_token=token):
                with self._lock:
                    self._sequence = max(self._sequence, entry.sequence)
                    if not entry.undone and not entry.undoes:
                        self._leave_out(entry.image_digest)
            self._checked = True
            with self._lock:
                self._keep()

    def _put_wanted_first(self) -> None:
        """Puts what somebody waits for before everything else, once each and only what has no grade."""
        wanted: Sequence[str] = ()
        with suppress(KonomiError, OSError):  # a night whose record is damaged says so in its own view
            wanted = self._wanted(self._taste)
        fresh = [digest for digest in wanted if digest not in self._put_first]
        if not fresh:
            return
        due = ungraded(self._client(), self._taste, fresh)
        with self._lock:
            self._put_first.update(fresh)
            first = [digest for digest in due if digest not in self._skipped]
            others = [item for item in self._queue if item[0] not in first]
            self._queue = [*((digest, 0) for digest in first), *others]
            self._keep()

    def _fill_ahead(self) -> None:
        if len(self._queue) <= LOW and not self._filling.locked():
            self._workers.submit(self._fill_quietly)

    def _fill_quietly(self) -> None:
        with suppress(KonomiError, OSError):  # whoever asks for images next fills up too, and is told why not
            self._fill(FULL)

    def _fill(self, target: int) -> None:
        """Fills the queue up to `target` images; grades that come meanwhile are taken note of and not waited for."""
        with self._filling:
            with self._lock:
                short = target - len(self._queue)
                count, seed = min(1000, target + len(self._skipped)), self._sequence
                self._passed = set()
            if short <= 0:
                return
            suggestions = self._client().rater.suggest_images(taste=self._taste, count=count, seed=seed).suggestions
            with self._lock:
                out = {digest for digest, _ in self._queue} | self._passed
                fresh = [item for item in suggestions if item.image.digest not in out]
                new = [item for item in fresh if item.image.digest not in set(self._skipped)]
                if not new and not self._queue:
                    new, self._skipped = fresh, []
                self._queue += [(item.image.digest, int(item.reason)) for item in new[:short]]
                self._keep()

    def _described(self, due: list[tuple[str, int]]) -> list[DueImage]:
        if not due:
            return []
        due_only = rater.ImageFilter(digests=[digest for digest, _ in due])
        images = self._client().rater.list_images(taste=self._taste, filter=due_only, page_size=len(due)).images
        by_digest = {image.digest: image for image in images}
        shown: list[DueImage] = []
        for digest, reason in due:
            if digest not in by_digest:
                continue
            image = MessageToDict(by_digest[digest])
            if reason == REPEAT:
                image.pop("grade", None)  # a hidden repeat must look like any other image
            shown.append(
                {"image": image, "reason": rater.SuggestionReason.Name(rater.SuggestionReason.ValueType(reason))}
            )
        return shown

    def _keep(self) -> None:
        body: QueueState = {"queue": self._queue, "skipped": self._skipped, "sequence": self._sequence}
        write_quickly(self._path, json.dumps(body).encode())


def _read(path: Path) -> QueueState:
    """Returns what a queue left behind; a file that is missing or damaged only means a new queue."""
    try:
        state = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return cast(QueueState, state) if isinstance(state, dict) else {}


class GradingQueues:
    """The queues of a home, by taste.

    Args:
        client: returns the client of now.
        folder: where their files lie.
        wanted: returns digests of images of a taste that somebody waits for; they are due first.
    """

    def __init__(
        self,
        client: Callable[[], Client],
        folder: Path,
        wanted: Callable[[str], Sequence[str]] = lambda taste: (),
    ) -> None:
        self._client, self._folder, self._wanted = client, folder, wanted
        self._lock = threading.Lock()
        self._queues: dict[str, GradingQueue] = {}
        self._workers = ThreadPoolExecutor(1, "page-queue")

    def close(self) -> None:
        """Lets go of the worker that fills queues up."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def of(self, taste: str) -> GradingQueue:
        """Returns a taste's queue.

        Raises:
            InvalidArgument: this is no name of a taste.
            NotFound: there is no such taste.
        """
        plain = taste.removeprefix("tastes/")
        if taste != f"tastes/{plain}" or not TASTE_ID.fullmatch(plain):
            raise InvalidArgument(catalogue.text('expected "tastes/{id}"'), field="taste")
        with self._lock:
            if taste not in self._queues:
                self._client().rater.get_taste(name=taste)
                path = self._folder / f"sitting-{plain}.json"
                self._queues[taste] = GradingQueue(self._client, taste, path, self._workers, self._wanted)
            return self._queues[taste]

    def observe(self, rpc: str, request: Message, reply: Message) -> None:
        """Takes note of what the page recorded; a fault here never fails a call that is already durable."""
        taste = getattr(request, "taste", "")
        if rpc not in ("RecordLabels", "UndoLabel") or not taste:
            return
        entries = [reply] if isinstance(reply, rater.Label) else getattr(reply, "labels", [])
        try:
            queue = self.of(taste)
            for entry in entries:
                queue.recorded(entry)
        except (KonomiError, OSError):
            return

    def show(self, asked: Asked) -> Sitting:
        """Endpoint: what to grade next."""
        return self.of(text(asked, "taste")).show(number(asked, "count", 8, 1, 256))

    def skip(self, asked: Asked) -> Mapping[str, object]:
        """Endpoint: leaves an image for later."""
        self.of(text(asked, "taste")).skip(text(asked, "digest"))
        return {}

    def unskip(self, asked: Asked) -> Mapping[str, object]:
        """Endpoint: takes a skip back."""
        self.of(text(asked, "taste")).unskip(text(asked, "digest"))
        return {}
