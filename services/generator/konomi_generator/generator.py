"""The use case: prompts, seeds and a model in, stored images out, each as soon as it is finished."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from konomi.errors import Cancelled, InvalidArgument, KonomiError, NotFound
from konomi_chassis.artifacts import Artifact, ArtifactStore
from konomi_chassis.base_models import STARTER, BaseModel, BaseModels
from konomi_chassis.decode import Decoder
from konomi_generator import png
from konomi_generator.metadata import Record
from konomi_generator.prompts import check_wildcards, fill
from konomi_generator.request import AdapterFile, Sampling, Wanted

MAX_WAITING = 64
LOOK_SECONDS = 0.1
LARGEST_ADAPTER = 2 << 30


class Backend(Protocol):
    """What makes pixels; see konomi_generator.backend."""

    def prepare(self, model: BaseModel, adapters: Sequence[AdapterFile], scheduler: str) -> str:
        """Gets a model with adapters ready and returns the scheduler's name."""

    def run(
        self,
        model: BaseModel,
        wanted: Sequence[Wanted],
        sampling: Sampling,
        stopped: Callable[[], bool],
        deliver: Callable[[int, np.ndarray | KonomiError], None],
    ) -> None:
        """Makes images; delivers each, from any thread."""


@dataclass(frozen=True)
class Image:
    """One image asked for: prompt template, seed, and for image to image where to start and how far to go."""

    prompt: str
    seed: int
    init_digest: str = ""
    strength: float = 0.5


@dataclass(frozen=True)
class Request:
    """A request for images; 0 steps, side or batch size and None guidance mean the model's own default."""

    images: Sequence[Image]
    base_model: str = STARTER
    adapters: Sequence[tuple[str, float]] = ()
    negative_prompt: str = ""
    steps: int = 0
    guidance_scale: float | None = None
    width: int = 0
    height: int = 0
    scheduler: str = ""
    batch_size: int = 0
    unit: str = ""
    night: str = ""
    wildcards: Mapping[str, Sequence[str]] = field(default_factory=dict)
    guide_from_base: bool = False


@dataclass(frozen=True)
class Finished:
    """One finished image: its artifact, or the error that left it out."""

    index: int
    prompt: str
    seed: int
    parents: tuple[str, ...]
    seconds: float
    artifact: Artifact | None = None
    error: KonomiError | None = None


class Generator:
    """Makes images for one home; one request at a time has the device, others wait their turn."""

    def __init__(
        self,
        models: BaseModels,
        store: ArtifactStore,
        backend: Backend,
        decoder: Decoder,
        *,
        writers: int,
        max_side: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models, self._store, self._backend, self._decoder = models, store, backend, decoder
        self._pool = ThreadPoolExecutor(writers, thread_name_prefix="write")
        self._turn = threading.Lock()
        self._max_side, self._clock = max_side, clock

    def models(self) -> list[tuple[BaseModel, str]]:
        """Returns the usable base models and their digests, by id."""
        return [(model, self._models.digest(model)) for model in self._models.usable()]

    def model(self, id: str) -> tuple[BaseModel, str]:
        """Returns a base model and its digest. Raises what `BaseModels.get` raises."""
        model = self._models.get(id)
        return model, self._models.digest(model)

    def generate(self, request: Request, stopped: Callable[[], bool]) -> Iterator[Finished]:
        """Makes the images of a request and yields each as it is finished, in any order.

        Args:
            request: what to make.
            stopped: says whether the caller has gone away; then the work ends within one denoising step.

        Raises:
            InvalidArgument, NotFound, FailedPrecondition: the request, the model or an adapter is at fault.
            ResourceExhausted: the disk or the device's memory is full.
            Cancelled: `stopped` said so.
        """
        began = self._clock()
        check_wildcards(request.wildcards)
        model = self._models.get(request.base_model)
        sampling = self._sampling(request, model)
        wanted = [self._wanted(index, image, request) for index, image in enumerate(request.images)]
        adapters = [AdapterFile(digest, self._adapter(digest), scale) for digest, scale in request.adapters]
        while not self._turn.acquire(timeout=LOOK_SECONDS):
            if stopped():
                raise Cancelled("The caller went away.", reason="CANCELLED")
        try:
            scheduler = self._backend.prepare(model, adapters, request.scheduler)
            job = _Job(self, request, model, self._models.digest(model), sampling, scheduler, wanted, began)
            yield from job.run(stopped)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Waits for the images being written."""
        self._pool.shutdown(wait=True)

    def _sampling(self, request: Request, model: BaseModel) -> Sampling:
        starter = model.id == STARTER
        guidance = request.guidance_scale
        width, height = request.width or model.resolution, request.height or model.resolution
        for name, side in (("width", width), ("height", height)):
            if side % 8 or not 16 <= side <= self._max_side:
                raise InvalidArgument(
                    f"A multiple of 8 from 16 to {self._max_side} was expected; {side} came.", reason="SIZE", field=name
                )
        return Sampling(
            steps=request.steps or (8 if starter else 25),
            guidance_scale=guidance if guidance is not None else (4.0 if starter else 7.0),
            width=width,
            height=height,
            scheduler=request.scheduler,
            negative_prompt=request.negative_prompt,
            batch_size=request.batch_size,
            guide_from_base=request.guide_from_base and bool(request.adapters),
        )

    def _wanted(self, index: int, image: Image, request: Request) -> Wanted:
        prompt = fill(image.prompt, request.wildcards, image.seed)
        if not image.init_digest:
            return Wanted(index, prompt, image.seed)

        def init() -> np.ndarray:
            data = self._store.get(image.init_digest)
            return self._decoder.decode(data, f"images[{index}].init_digest").pixels

        return Wanted(index, prompt, image.seed, image.strength, init)

    def _adapter(self, digest: str) -> bytes:
        try:
            if self._store.stat(digest).size_bytes > LARGEST_ADAPTER:
                raise InvalidArgument(
                    f"An adapter has at most {LARGEST_ADAPTER} bytes; {digest[:12]} has more.",
                    reason="ADAPTER_TOO_LARGE",
                    field="adapters",
                )
            return self._store.get(digest)
        except NotFound as error:
            raise NotFound(
                f"There is no adapter {digest}; put its artifact first.", reason="ADAPTER_NOT_FOUND"
            ) from error

    def _store_image(self, pixels: np.ndarray, record: Record) -> Artifact:
        return self._store.put(png.encode(pixels, record), "image/png")


class _Job:
    """One request on the device: a thread denoises, writers encode and store, `run` yields what is finished."""

    def __init__(
        self,
        generator: Generator,
        request: Request,
        model: BaseModel,
        digest: str,
        sampling: Sampling,
        scheduler: str,
        wanted: Sequence[Wanted],
        began: float,
    ) -> None:
        self._generator, self._request, self._model, self._digest = generator, request, model, digest
        self._sampling, self._scheduler, self._wanted, self._began = sampling, scheduler, wanted, began
        self._done: queue.SimpleQueue[Future[Finished | None]] = queue.SimpleQueue()
        self._room = threading.BoundedSemaphore(MAX_WAITING)
        self._ended = threading.Event()

    def run(self, stopped: Callable[[], bool]) -> Iterator[Finished]:
        """Yields every image once, or raises what stopped the work."""
        with ThreadPoolExecutor(1, thread_name_prefix="request") as pool:
            pool.submit(self._denoise, stopped).add_done_callback(self._done.put)  # type: ignore[arg-type]
            try:
                left = len(self._wanted)
                while left:
                    finished = self._next(stopped)
                    if finished is not None:
                        left -= 1
                        yield finished
            finally:
                self._ended.set()

    def _next(self, stopped: Callable[[], bool]) -> Finished | None:
        """Waits for the next image; raises what a thread raised."""
        while True:
            with suppress(queue.Empty):
                return self._done.get(timeout=LOOK_SECONDS).result()
            if stopped():
                raise Cancelled("The caller went away.", reason="CANCELLED")

    def _denoise(self, stopped: Callable[[], bool]) -> None:
        def over() -> bool:
            return self._ended.is_set() or stopped()

        self._generator._backend.run(self._model, self._wanted, self._sampling, over, self._deliver)

    def _deliver(self, index: int, result: np.ndarray | KonomiError) -> None:
        self._room.acquire()
        self._generator._pool.submit(self._write, index, result).add_done_callback(self._done.put)

    def _write(self, index: int, result: np.ndarray | KonomiError) -> Finished | None:
        try:
            if isinstance(result, KonomiError):
                return self._finished(index, error=result)
            if self._ended.is_set():
                return None
            return self._finished(index, artifact=self._generator._store_image(result, self._record(index)))
        finally:
            self._room.release()

    def _parents(self, index: int) -> tuple[str, ...]:
        init = self._request.images[index].init_digest
        return ((init,) if init else ()) + tuple(digest for digest, _ in self._request.adapters)

    def _record(self, index: int) -> Record:
        request, sampling, wanted = self._request, self._sampling, self._wanted[index]
        return Record(
            prompt=wanted.prompt,
            negative_prompt=request.negative_prompt,
            seed=wanted.seed,
            width=sampling.width,
            height=sampling.height,
            steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
            scheduler=self._scheduler,
            base_model=self._model.id,
            base_digest=self._digest,
            adapters=request.adapters,
            unit=request.unit,
            night=request.night,
            parents=self._parents(index),
            strength=wanted.strength if wanted.init is not None else None,
            guide_from_base=sampling.guide_from_base,
        )

    def _finished(self, index: int, artifact: Artifact | None = None, error: KonomiError | None = None) -> Finished:
        wanted = self._wanted[index]
        seconds = self._generator._clock() - self._began
        return Finished(index, wanted.prompt, wanted.seed, self._parents(index), seconds, artifact, error)
