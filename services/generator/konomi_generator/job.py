"""One request on the device: a thread denoises, writers encode and store, the caller gets what is finished."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from konomi.errors import Cancelled, KonomiError
from konomi_chassis.models.catalogue import STARTER, BaseModel
from konomi_chassis.models.companions import Draft
from konomi_chassis.models.families.table import find
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator import png
from konomi_generator.keys import image_key
from konomi_generator.png import GenerationRecord, ImagePromptRecord
from konomi_generator.requests import Finished, Request
from konomi_generator.sampling import (
    CHANGES_IMAGE,
    Backend,
    ImagePrompt,
    ImageRequest,
    Prepared,
    Preview,
    Result,
    Sampling,
)

MAX_WAITING = 64
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class GenerationPlan:
    """All that is known of a request before its first step.

    Attributes:
        request: what was asked.
        model, digest: the base model and the digest of its weights.
        sampling, images: what the back end is to do.
        prepared: what will do it.
        draft: how drafts are drawn; None for images drawn in full.
    """

    request: Request
    model: BaseModel
    digest: str
    sampling: Sampling
    images: Sequence[ImageRequest]
    prepared: Prepared
    draft: Draft | None = None

    def parents(self, index: int) -> tuple[str, ...]:
        """Returns the digests an image is made from."""
        init = self.request.images[index].init_digest
        seen = self.sampling.image_prompt.digests if self.sampling.image_prompt is not None else ()
        return ((init,) if init else ()) + seen + tuple(digest for digest, _ in self.request.adapters)

    def key(self, index: int) -> str | None:
        """Returns the name of the work of making an image; None for work outside a night, which is done as asked."""
        if not self.request.night:
            return None
        return image_key(self.record(index, ()))

    def _layer(self) -> int:
        """Returns which layer of the text encoder counts, from its end."""
        family = find(self.model.layout)
        return self.sampling.clip_skip if family is None else family.clip_skip(self.sampling.clip_skip)

    def _flow(self) -> str:
        """Returns the family of a base model that follows a flow; empty for the others."""
        family = find(self.model.layout)
        return family.name if family is not None and family.noise == "flow" else ""

    def record(self, index: int, fallbacks: tuple[str, ...]) -> GenerationRecord:
        """Returns what the image says of itself."""
        request, sampling, image, prepared = self.request, self.sampling, self.images[index], self.prepared
        imported = self.model.id != STARTER  # whose pictures, their records among them, keep their bytes
        return GenerationRecord(
            prompt=image.prompt,
            negative_prompt=request.negative_prompt,
            seed=image.seed,
            width=sampling.width,
            height=sampling.height,
            steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
            scheduler=prepared.scheduler,
            base_model=self.model.id,
            base_digest=self.digest,
            adapters=request.adapters,
            unit=request.unit,
            night=request.night,
            parents=self.parents(index),
            strength=image.strength if image.init is not None else None,
            guide_from_base=sampling.guide_from_base,
            base_share=sampling.base_share,
            annealing=sampling.annealing,
            precision=prepared.precision,
            backend=prepared.backend,
            fallbacks=tuple(name for name in fallbacks if name in CHANGES_IMAGE),
            zero_terminal_snr=prepared.zero_terminal_snr,
            guidance_rescale=sampling.guidance_rescale,
            timestep_spacing=prepared.timestep_spacing if imported or sampling.timestep_spacing else "",
            karras_sigmas=prepared.karras_sigmas,
            clip_skip=self._layer(),
            prompt_syntax=sampling.prompt_syntax,
            imported=imported,
            draft=self.draft is not None,
            few_step=(self.draft.digest, self.draft.scale) if self.draft is not None and self.draft.path else None,
            draft_digest=request.images[index].draft_digest,
            image_prompt=_likeness(sampling.image_prompt),
            family=self._flow(),
            shift=prepared.shift,
        )


def _likeness(prompt: ImagePrompt | None) -> ImagePromptRecord | None:
    """Returns what an image says of those it was to look like."""
    if prompt is None:
        return None
    return ImagePromptRecord(prompt.digests, prompt.scale, prompt.adapter.digest, prompt.adapter.encoder_digest)


class Job:
    """One request on the device; `denoised` is called once the device has nothing more to do, from another thread."""

    def __init__(
        self,
        plan: GenerationPlan,
        backend: Backend,
        store: ArtifactStore,
        writers: ThreadPoolExecutor,
        seconds: Callable[[], float],
        denoised: Callable[[], None],
    ) -> None:
        self._plan, self._backend, self._store, self._writers = plan, backend, store, writers
        self._seconds, self._denoised = seconds, denoised
        self._done: queue.SimpleQueue[Future[Finished | None]] = queue.SimpleQueue()
        self._room = threading.BoundedSemaphore(MAX_WAITING)
        self._ended = threading.Event()

    def run(self, stopped: Callable[[], bool]) -> Iterator[Finished]:
        """Yields every image once, and its previews before it, or raises what stopped the work.

        What the same night asked for before and was stored then, before a kill or on a machine that was lost, is not
        made again.
        """
        missing = []
        asked = self._plan.images
        recalled = self._writers.map(self._recalled, [image.index for image in asked])  # a bucket takes its time
        for image, known in zip(asked, recalled, strict=True):
            if known is None:
                missing.append(image)
            else:
                yield known
        if missing:
            yield from self._make(missing, stopped)

    def _recalled(self, index: int) -> Finished | None:
        key = self._plan.key(index)
        artifact = None if key is None else self._store.recall(key)
        return None if artifact is None else self._finished(index, artifact=artifact, recalled=True)

    def _make(self, images: Sequence[ImageRequest], stopped: Callable[[], bool]) -> Iterator[Finished]:
        with ThreadPoolExecutor(1, thread_name_prefix="request") as pool:
            pool.submit(self._denoise, images, stopped).add_done_callback(self._done.put)  # type: ignore[arg-type]
            try:
                left = len(images)
                while left:
                    finished = self._next(stopped)
                    if finished is not None:
                        left -= finished.preview is None
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

    def _denoise(self, images: Sequence[ImageRequest], stopped: Callable[[], bool]) -> None:
        def over() -> bool:
            return self._ended.is_set() or stopped()

        try:
            self._backend.run(self._plan.model, images, self._plan.sampling, over, self._deliver)
        finally:
            self._denoised()  # the next request draws while this one's last images are written

    def _deliver(self, index: int, result: Result) -> None:
        self._room.acquire()
        self._writers.submit(self._write, index, result).add_done_callback(self._done.put)

    def _write(self, index: int, result: Result) -> Finished | None:
        try:
            if isinstance(result, KonomiError):
                return self._finished(index, error=result)
            if self._ended.is_set():
                return None
            if isinstance(result, Preview):
                return self._finished(index, preview=(result.step, png.plain(result.pixels)))
            record = self._plan.record(index, result.fallbacks)
            artifact = self._store.put(png.encode(result.pixels, record), "image/png")
            key = self._plan.key(index)
            if key is not None and not result.fallbacks:
                self._store.remember(key, artifact.digest)
            return self._finished(index, artifact=artifact, fallbacks=result.fallbacks)
        finally:
            self._room.release()

    def _finished(self, index: int, **outcome: object) -> Finished:
        image = self._plan.images[index]
        parents = self._plan.parents(index)
        return Finished(index, image.prompt, image.seed, parents, self._seconds(), **outcome)  # type: ignore[arg-type]
