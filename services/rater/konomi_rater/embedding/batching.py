"""Embeds the images of all callers together: decoded ahead in parallel, passed through the model in full batches.

One thread runs the model. A pass takes what is ready, and waits for more only while more is on its way and only for a
share of what a pass takes: a lone caller never waits (dynamic batching, as in Triton Inference Server, with the wait
tied to the measured pass instead of a fixed delay).
"""

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from konomi.errors import ResourceExhausted, Unavailable
from konomi_chassis.decoding.worker_process import Decoded, Least
from konomi_rater.embedding.joined import Embedder
from konomi_rater.embedding.requests import Caller, Embedded, EmbeddingRequest, ImageSource
from konomi_rater.settings import RaterSettings

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items by person and call; a person with many calls gets no more turns than one with a single call."""

    def __init__(self) -> None:
        self._people: OrderedDict[str, OrderedDict[object, deque[T]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, person: str, call: object, item: T) -> None:
        """Adds an item behind the others of its call."""
        self._people.setdefault(person, OrderedDict()).setdefault(call, deque()).append(item)
        self._count += 1

    def take(self) -> T:
        """Removes and returns the item whose turn it is.

        Raises:
            LookupError: the queue is empty.
        """
        person, calls = next(iter(self._people.items()), (None, None))
        if person is None or calls is None:
            raise LookupError("expected an item, the queue is empty")
        call, items = next(iter(calls.items()))
        item = items.popleft()
        self._count -= 1
        calls.move_to_end(call)
        self._people.move_to_end(person)
        if not items:
            del calls[call]
        if not calls:
            del self._people[person]
        return item


DECODING_SHARE = 0.25
"""How long to wait for images that are being decoded, as a share of the last pass: they are sure to come."""
RETURNING_SHARE = 0.1
"""How long to wait for callers just answered to come back with their next image, likewise."""
FIRST_WAIT = 0.02
"""The last pass before there was one, in seconds."""

Decode = Callable[[bytes, str, Least], Decoded]


@dataclass(frozen=True)
class QueueLimits:
    """Bounds of the queue.

    Attributes:
        batch: images in a pass at most.
        decoders: images decoded at once.
        images: images waiting at most.
        bytes: their encoded bytes at most.
    """

    batch: int
    decoders: int
    images: int
    bytes: int


def queue_limits(settings: RaterSettings, batch: int, decoders: int) -> QueueLimits:
    """Returns the bounds the settings give: how many pass at once depends on the device, which they may leave open."""
    return QueueLimits(batch, decoders, settings.queue_images, settings.queue_mebibytes << 20)


@dataclass(frozen=True)
class Lane:
    """Images that can share a pass: one model, and whether rows must not depend on their neighbours."""

    embedder: Embedder
    keep: bool


@dataclass(eq=False)
class _EmbeddingJob:
    request: EmbeddingRequest
    place: int
    lane: Lane
    source: ImageSource
    decoded: Decoded | None = None


@dataclass
class _Progress:
    """What a lane has in flight, and what its passes take."""

    ready: FairQueue[_EmbeddingJob] = field(default_factory=FairQueue)
    coming: int = 0
    returning: int = 0
    since: float = 0.0
    seconds: float = FIRST_WAIT

    def patience(self, batch: int, now: float) -> float:
        """Returns how many seconds it is still worth waiting before a pass."""
        if len(self.ready) >= batch:
            return 0.0
        share = DECODING_SHARE if self.coming else RETURNING_SHARE if self.returning else 0.0
        return self.since + share * self.seconds - now


class Batcher:
    """Decoding threads and one model thread behind a fair, bounded queue; they start with the first image."""

    def __init__(self, decode: Decode, limits: QueueLimits) -> None:
        self._decode, self._limits = decode, limits
        self._changed = threading.Condition()
        self._waiting: FairQueue[_EmbeddingJob] = FairQueue()
        self._lanes: dict[Lane, _Progress] = {}
        self._held = Counter({"images": 0, "bytes": 0})
        self._threads: list[threading.Thread] = []
        self._rate, self._closed = 1.0, False

    def submit(self, lane: Lane, sources: Sequence[ImageSource], caller: Caller) -> EmbeddingRequest:
        """Queues images and returns at once; `wait` on the request for what comes of them.

        Raises:
            ResourceExhausted: the queue is full and the caller is not patient (reason QUEUE_FULL).
            Unavailable: the server stops.
        """
        request = EmbeddingRequest(len(sources), caller)
        with self._changed:
            self._admit(sources, caller)
            progress = self._lanes.setdefault(lane, _Progress())
            progress.coming += len(sources)
            progress.returning = max(0, progress.returning - 1)
            for place, source in enumerate(sources):
                self._waiting.put(caller.name, request, _EmbeddingJob(request, place, lane, source))
            self._start()
            self._changed.notify_all()
        return request

    def close(self) -> None:
        """Ends the threads; what still waits is answered Unavailable."""
        with self._changed:
            self._closed = True
            left = [self._waiting.take() for _ in range(len(self._waiting))]
            left += [p.ready.take() for p in self._lanes.values() for _ in range(len(p.ready))]
            for job in left:
                job.request.fill(job.place, _stopping())
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=5.0)

    def _admit(self, sources: Sequence[ImageSource], caller: Caller) -> None:
        size = sum(source.size for source in sources)
        while not self._closed and self._held["images"] and not self._fits(len(sources), size):
            if not caller.patient:
                wait = min(30.0, max(0.5, self._held["images"] / self._rate))
                raise ResourceExhausted(
                    f"{self._held['images']} images wait already; try again in {wait:.1f} seconds.",
                    reason="QUEUE_FULL",
                    retry_after=wait,
                )
            caller.check()
            self._changed.wait(0.2)
        if self._closed:
            raise _stopping()
        self._held.update({"images": len(sources), "bytes": size})

    def _fits(self, images: int, size: int) -> bool:
        held, limits = self._held, self._limits
        return held["images"] + images <= limits.images and held["bytes"] + size <= limits.bytes

    def _start(self) -> None:
        if self._threads:
            return
        targets = [self._decode_all] * self._limits.decoders + [self._embed_all]
        names = [f"decode-{i}" for i in range(self._limits.decoders)] + ["embed"]
        self._threads = [threading.Thread(target=t, name=n, daemon=True) for t, n in zip(targets, names, strict=True)]
        for thread in self._threads:
            thread.start()

    def _decode_all(self) -> None:
        while (job := self._next_job()) is not None:
            try:
                model = job.lane.embedder
                decoded = self._decode(job.source.load(), job.source.field, model.fit.least)
                job.decoded = replace(decoded, pixels=model.fitted(decoded))
            except Exception as error:  # noqa: BLE001  it is the caller's to hear, not this thread's to end by
                self._finish([job], [error])
                continue
            with self._changed:
                if self._closed:  # nobody takes it any more, and its caller waits
                    job.request.fill(job.place, _stopping())
                    return
                progress = self._lanes[job.lane]
                progress.since = progress.since if progress.ready else time.monotonic()
                progress.coming -= 1
                progress.ready.put(job.request.caller.name, job.request, job)
                self._changed.notify_all()

    def _next_job(self) -> _EmbeddingJob | None:
        """Waits for an image to decode, no further ahead than the next two passes."""
        with self._changed:
            while not self._closed:
                if len(self._waiting) and sum(len(p.ready) for p in self._lanes.values()) < 2 * self._limits.batch:
                    job = self._waiting.take()
                    if not job.request.caller.ended:
                        return job
                    self._lanes[job.lane].coming -= 1
                    self._release(job)
                    continue
                self._changed.wait()
        return None

    def _embed_all(self) -> None:
        while (jobs := self._next_pass()) is not None:
            lane, began = jobs[0].lane, time.monotonic()
            try:
                decoded = [job.decoded for job in jobs if job.decoded is not None]
                vectors = lane.embedder.embed([image.pixels for image in decoded], keep=lane.keep)
                results = [Embedded(v, d.width, d.height) for v, d in zip(vectors, decoded, strict=True)]
            except Exception as error:  # noqa: BLE001  it is the caller's to hear, not this thread's to end by
                self._finish(jobs, [error] * len(jobs))
                continue
            seconds = max(1e-6, time.monotonic() - began)
            with self._changed:
                self._lanes[lane].seconds = seconds
                self._rate = len(jobs) / seconds
            self._finish(jobs, results)

    def _next_pass(self) -> list[_EmbeddingJob] | None:
        """Waits until a pass is worth beginning, and returns its images; those of callers who left are dropped."""
        with self._changed:
            while not self._closed:
                ready = [progress for progress in self._lanes.values() if progress.ready]
                if not ready:
                    self._changed.wait()
                    continue
                progress = min(ready, key=lambda p: p.since)
                wait = progress.patience(self._limits.batch, time.monotonic())
                if wait > 0:
                    self._changed.wait(wait)
                    continue
                progress.returning = 0
                jobs = self._take(progress)
                progress.since = time.monotonic()
                self._changed.notify_all()
                if jobs:
                    return jobs
        return None

    def _take(self, progress: _Progress) -> list[_EmbeddingJob]:
        jobs: list[_EmbeddingJob] = []
        while progress.ready and len(jobs) < self._limits.batch:
            job = progress.ready.take()
            if job.request.caller.ended:
                self._release(job)
            else:
                jobs.append(job)
        return jobs

    def _finish(self, jobs: Sequence[_EmbeddingJob], results: Sequence[Embedded | Exception]) -> None:
        with self._changed:
            for job, result in zip(jobs, results, strict=True):
                progress = self._lanes[job.lane]
                progress.coming -= job.decoded is None
                progress.returning += job.request.fill(job.place, result)
                self._release(job)
            self._changed.notify_all()

    def _release(self, job: _EmbeddingJob) -> None:
        self._held.subtract({"images": 1, "bytes": job.source.size})


def _stopping() -> Unavailable:
    return Unavailable("The server is draining; try again.", reason="DRAINING", retry_after=1.0)
