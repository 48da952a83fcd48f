"""The use case: prompts, seeds and a model in, stored images out, each as soon as it is finished."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from konomi.errors import GONE, Cancelled, InvalidArgument, KonomiError, NotFound
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.companions import Draft, LikenessAdapter
from konomi_chassis.models.families.quantization import NONE
from konomi_chassis.models.families.table import find
from konomi_chassis.models.memory_needs import (
    BATCH,
    HALF,
    LARGE_BATCH,
    ROOM_BYTES,
    WHOLE,
    WIDTHS,
    NightMemory,
    NightShape,
    night_memory,
)
from konomi_chassis.models.model_settings import DrawingSettings, Syntax
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.job import LOOK_SECONDS, GenerationPlan, Job
from konomi_generator.prompts import check_wildcards, fill
from konomi_generator.requests import Finished, Image, Request
from konomi_generator.sampling import (
    AdapterFile,
    Annealing,
    Backend,
    DeviceMemory,
    ImagePrompt,
    ImageRequest,
    Sampling,
)

Companion = TypeVar("Companion", Draft, LikenessAdapter)
LARGEST_ADAPTER = 2 << 30
LOOK_IDLE_SECONDS = 5.0


class Catalogue(Protocol):
    """The base models at hand: those of the home (konomi_chassis.models.catalogue), or of another program."""

    def usable(self) -> list[BaseModel]:
        """Returns the usable base models by id."""

    def get(self, id: str) -> BaseModel:
        """Returns a base model, checked."""

    def digest(self, model: BaseModel) -> str:
        """Returns the sha256 over the model's weights."""

    def draft(self, model: BaseModel) -> Draft:
        """Returns how a model draws drafts."""

    def likeness(self, model: BaseModel) -> LikenessAdapter:
        """Returns what lets a model take images as prompts."""


class Executor(Protocol):
    """Who makes the images of a request: this process, or actors on other machines (room `executors`)."""

    @property
    def places(self) -> int:
        """How many draw at the same time."""

    def generate(self, request: Request, stopped: Callable[[], bool]) -> Iterator[Finished]:
        """Makes the images of a request and yields each as it is finished; see `Generator.generate`."""

    def release(self) -> int | None:
        """Drops loaded models; returns their bytes, None where a request is under way."""

    def close(self) -> None:
        """Ends what was started for the work."""


class Generator:
    """Makes images for one home; one request at a time has the device, others wait their turn."""

    places = 1
    """How many draw at the same time."""

    def __init__(
        self,
        models: Catalogue,
        store: ArtifactStore,
        backend: Backend,
        decoder: Decoder,
        *,
        writers: int,
        max_side: int,
        idle_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        trained_as: str = NONE,
    ) -> None:
        """Takes the generator's parts.

        Args:
            models: the base models at hand.
            store: where artifacts come from and images go.
            backend: what makes pixels.
            decoder: of pictures to start from.
            writers: threads that encode and store.
            max_side: largest width and height.
            idle_seconds: after so long without a request the model's memory is given back.
            trained_as: in how many bits the trainer keeps a flow transformer, for what a night takes.
            clock: seconds that only grow.
        """
        self._models, self._store, self._backend, self._decoder = models, store, backend, decoder
        self._pool = ThreadPoolExecutor(writers, thread_name_prefix="write")
        self._turn = threading.Lock()
        self._max_side, self._idle_seconds, self._clock = max_side, idle_seconds, clock
        self._used, self._trained_as = clock(), trained_as
        self._closing = threading.Event()

    def models(self) -> list[tuple[BaseModel, str]]:
        """Returns the usable base models and their digests, by id."""
        return [(model, self._models.digest(model)) for model in self._models.usable()]

    def model(self, id: str) -> tuple[BaseModel, str]:
        """Returns a base model and its digest. Raises what `BaseModels.get` raises."""
        model = self._models.get(id)
        return model, self._models.digest(model)

    def companions(self, model: BaseModel) -> tuple[Draft | KonomiError, LikenessAdapter | KonomiError]:
        """Returns how a model draws drafts, and what lets it take images as prompts; or why it does not."""
        return _tried(lambda: self._models.draft(model)), _tried(lambda: self._models.likeness(model))

    def memory(self, model: BaseModel) -> tuple[DeviceMemory, NightMemory] | None:
        """Returns this machine's device and what a night on a base model takes of it; None where nobody can say."""
        device = self._backend.device_memory(model)
        if device is None:
            return None
        family = find(model.layout)
        settings, large = model.settings.training, family is not None and family.defaults.large
        asked, on_card = settings.gradient_checkpointing, device.device != "cpu"
        night = night_memory(
            model,
            NightShape(
                precision_bytes=device.weight_bytes,
                trained_bytes=WIDTHS.get(settings.precision, HALF if on_card else WHOLE),
                images_together=device.images_together,
                rows_together=settings.batch_size or (LARGE_BATCH if large else BATCH),
                checkpointing=asked == "on" or (asked == "auto" and large and on_card and device.size < ROOM_BYTES),
                few_step_bytes=self._few_step_bytes(model),
                drawn_as=device.quantization,
                trained_as=self._trained_as,
                on_card=on_card,
            ),
        )
        return None if night is None else (device, night)

    def _few_step_bytes(self, model: BaseModel) -> int:
        draft = _tried(lambda: self._models.draft(model))
        return draft.path.stat().st_size if isinstance(draft, Draft) and draft.path is not None else 0

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
        _check_draft(request)
        draft = self._models.draft(model) if request.draft else None
        sampling = self._sampling(request, model, draft.drawing if draft is not None else model.settings.drawing)
        images = [self._image_request(index, image, request) for index, image in enumerate(request.images)]
        adapters = [AdapterFile(digest, self._adapter(digest), scale) for digest, scale in request.adapters]
        if draft is not None and draft.path is not None:
            adapters.append(AdapterFile(draft.digest, draft.path.read_bytes(), draft.scale))
        digest = self._models.digest(model)
        with _DeviceTurn(self._turn, stopped) as turn:
            prepared = self._backend.prepare(model, adapters, sampling, len(images))
            plan = GenerationPlan(request, model, digest, sampling, images, prepared, draft)
            job = Job(plan, self._backend, self._store, self._pool, lambda: self._clock() - began, turn.end)
            try:
                yield from job.run(stopped)
            finally:
                self._used = self._clock()

    def release(self) -> int | None:
        """Drops the loaded model and gives its memory back.

        Returns:
            The bytes of its weights, 0 where none were loaded; None where a request is under way, which keeps them.
        """
        if not self._turn.acquire(blocking=False):
            return None
        try:
            return self._backend.release()
        finally:
            self._turn.release()

    def release_if_idle(self) -> None:
        """Gives the model's memory back where nobody has asked for images for long enough."""
        if self._clock() - self._used >= self._idle_seconds:
            self.release()

    def watch_idleness(self) -> None:
        """Starts the thread that gives memory back when idle; it ends with `close`."""
        if math.isfinite(self._idle_seconds):
            threading.Thread(target=self._watch, name="idle", daemon=True).start()

    def _watch(self) -> None:
        while not self._closing.wait(min(LOOK_IDLE_SECONDS, self._idle_seconds)):
            self.release_if_idle()

    def close(self) -> None:
        """Waits for the images being written."""
        self._closing.set()
        self._pool.shutdown(wait=True)

    def _sampling(self, request: Request, model: BaseModel, usual: DrawingSettings) -> Sampling:
        """Returns what the back end is to do: what was asked, and the usual settings for all that was left open."""
        width, height = request.width or model.resolution, request.height or model.resolution
        for name, side in (("width", width), ("height", height)):
            if side % 8 or not 16 <= side <= self._max_side:
                raise InvalidArgument(
                    f"A multiple of 8 from 16 to {self._max_side} was expected; {side} came.", reason="SIZE", field=name
                )
        if request.annealing:
            _check_annealing(request.annealing)
        adapted = any(scale for _, scale in request.adapters)
        guidance, rescale = request.guidance_scale, request.guidance_rescale
        sampling = Sampling(
            steps=request.steps or usual.steps,
            guidance_scale=guidance if guidance is not None else usual.guidance_scale,
            width=width,
            height=height,
            scheduler=request.scheduler or usual.scheduler,
            negative_prompt=request.negative_prompt,
            batch_size=request.batch_size,
            guide_from_base=request.guide_from_base and adapted,
            base_share=request.base_share if adapted else 0.0,
            annealing=request.annealing,
            preview_every=request.preview_every,
            guidance_rescale=rescale if rescale is not None else usual.guidance_rescale,
            clip_skip=request.clip_skip or usual.clip_skip,
            prompt_syntax=cast(Syntax, request.prompt_syntax or usual.prompt_syntax),
            image_prompt=self._image_prompt(request, model),
        )
        return replace(sampling, **_spaced(request, usual), defaults=_left_open(request))

    def _image_prompt(self, request: Request, model: BaseModel) -> ImagePrompt | None:
        """Returns the images that count as a prompt, with what reads them; None where there are none."""
        if request.likeness is None:
            return None
        digests, scale = tuple(request.likeness.digests), request.likeness.scale

        def images() -> list[np.ndarray]:
            names = [f"image_prompt.digests[{number}]" for number in range(len(digests))]
            pairs = zip(digests, names, strict=True)
            return [self._decoder.decode(self._store.get(digest), name).pixels for digest, name in pairs]

        strength = model.settings.image_prompt.scale if scale is None else scale
        return ImagePrompt(self._models.likeness(model), digests, strength, images)

    def _image_request(self, index: int, image: Image, request: Request) -> ImageRequest:
        prompt = fill(image.prompt, request.wildcards, image.seed)
        if not image.init_digest:
            return ImageRequest(index, prompt, image.seed)

        def init() -> np.ndarray:
            data = self._store.get(image.init_digest)
            return self._decoder.decode(data, f"images[{index}].init_digest").pixels

        return ImageRequest(index, prompt, image.seed, image.strength, init)

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
            if error.reason in GONE:
                raise
            raise NotFound(
                f"There is no adapter {digest}; put its artifact first.", reason="ADAPTER_NOT_FOUND"
            ) from error


class _DeviceTurn:
    """A request's turn on the device, which ends once: early where only writing is left, at the latest on leaving."""

    def __init__(self, device: threading.Lock, stopped: Callable[[], bool]) -> None:
        self._device, self._stopped = device, stopped
        self._held = threading.Lock()  # taken by whoever ends the turn first

    def __enter__(self) -> "_DeviceTurn":
        while not self._device.acquire(timeout=LOOK_SECONDS):
            if self._stopped():
                raise Cancelled("The caller went away.", reason="CANCELLED")
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def end(self) -> None:
        """Lets the next request have the device."""
        if self._held.acquire(blocking=False):
            self._device.release()


def _tried(ask: Callable[[], Companion]) -> Companion | KonomiError:
    """Returns what is asked for, or the refusal."""
    try:
        return ask()
    except KonomiError as error:
        return error


def _spaced(request: Request, usual: DrawingSettings) -> dict[str, Any]:
    """Returns how steps lie along the noise: Karras' levels or a spacing, never both; what was asked goes first.

    Raises:
        InvalidArgument: both were asked for.
    """
    spacing, karras = request.timestep_spacing, request.karras_sigmas
    if spacing and karras:
        raise InvalidArgument(
            f"karras_sigmas spaces the steps by itself, so no timestep_spacing was expected; {spacing} came.",
            reason="SCHEDULER",
            field="timestep_spacing",
        )
    if karras is None:
        karras = usual.karras_sigmas and not spacing
    return {"karras_sigmas": karras, "timestep_spacing": "" if karras else spacing or usual.timestep_spacing}


def _left_open(request: Request) -> frozenset[str]:
    """Returns the names of the settings of sampling that the request leaves to the model."""
    given = {
        "scheduler": bool(request.scheduler),
        "timestep_spacing": bool(request.timestep_spacing),
        "karras_sigmas": request.karras_sigmas is not None,
        "guidance_rescale": request.guidance_rescale is not None,
        "prompt_syntax": bool(request.prompt_syntax),
    }
    return frozenset(name for name, asked in given.items() if not asked)


def _check_draft(request: Request) -> None:
    """Refuses what a draft cannot be: guided by the base, which knows no few steps, or itself drawn again."""
    if not request.draft:
        return
    strange = {
        "guide_from_base": request.guide_from_base,
        "base_share": request.base_share > 0,
        "images.draft_digest": any(image.draft_digest for image in request.images),
    }
    for field, asked in strange.items():
        if asked:
            raise InvalidArgument(
                f"A draft runs with its few-step adapter from the first step to the last and is no image drawn again, "
                f"so {field} was expected to be left out.",
                reason="DRAFT",
                field=field,
            )


def _check_annealing(annealing: Annealing) -> None:
    if annealing.clean_below >= annealing.noise_above:
        raise InvalidArgument(
            f"clean_below below noise_above was expected; {annealing.clean_below:g} and "
            f"{annealing.noise_above:g} came.",
            reason="ANNEALING",
            field="condition_annealing.clean_below",
        )
