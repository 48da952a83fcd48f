"""The diffusers back end: holds one model, puts adapters on it, runs batches in threads, hands out pixels."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError
from konomi_chassis.memory_shortage import bytes_asked, give_back, host_memory, is_shortage, shortage
from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.diffusers_folder import model_files
from konomi_chassis.models.families.quantization import NONE, check_installed
from konomi_chassis.models.families.quantized_blocks import quantize
from konomi_chassis.models.families.table import family, of_pipeline
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.batches import SIZES, DenoisingBatch, plan
from konomi_generator.backends.diffusers.compilation import Compilation, forget, release
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.backends.diffusers.memory_fallback import (
    HOST,
    NAMES,
    FallbackLevel,
    MemoryFit,
    Places,
    exhausted,
)
from konomi_generator.backends.diffusers.pipeline import load_pipeline, load_preview_decoder, make_schedule
from konomi_generator.backends.image_prompts import ImagePrompts, shape_of
from konomi_generator.sampling import (
    FULL_PRECISION,
    AdapterFile,
    Deliver,
    DeviceMemory,
    GeneratedImage,
    ImagePrompt,
    ImageRequest,
    Prepared,
    Preview,
    Sampling,
)
from konomi_generator.settings import GeneratorSettings

SMALL_PARAMETERS = 50_000_000
SMALL_SIDE = 256
ACCELERATOR_PIXELS = 8 * 512 * 512
Key = tuple[str, Path, int]
"""Id and path of a model, and when its files last changed."""
LOADING_ADVICE = "close programs that hold memory, or choose a smaller base model"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class _Run:
    """What every batch of a request is run with.

    Attributes:
        sampling: settings of the images.
        fit: what fitted so far.
        stopped, deliver: the caller's.
        left: batches that did not fit beside others.
        asked: bytes last asked for in vain, one number.
    """

    sampling: Sampling
    fit: MemoryFit
    stopped: Callable[[], bool]
    deliver: Deliver
    left: list[DenoisingBatch] = field(default_factory=list)
    asked: list[int] = field(default_factory=lambda: [0])


class DiffusersBackend:
    """Runs one request at a time; the caller sees to that.

    Small models on the CPU run one batch per thread, each single-threaded, in batch sizes that were measured to give
    equal bits; large ones run image by image on all threads. Either way no image depends on its neighbours.
    """

    def __init__(self, settings: GeneratorSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._device = _device(settings.device)
        self._key: Key | None = None
        self._loaded: tuple[Denoiser, Adapters] | None = None
        self._image_prompts: ImagePrompts | None = None
        self._sizes: dict[tuple[object, ...], tuple[int, ...]] = {}
        self._fits: dict[tuple[int, ...], MemoryFit] = {}
        self._least = FallbackLevel.NOTHING
        self._compilation = Compilation(asked=False, device=self._device)
        self._half = "fp16"

    def prepare(
        self, model: BaseModel, adapters: Sequence[AdapterFile], sampling: Sampling, images: int = 1
    ) -> Prepared:
        """Loads the model unless it is there, and makes the adapters those asked for.

        Raises:
            FailedPrecondition: the model or an adapter is broken, or does not fit; previews without a decoder.
            InvalidArgument: no such scheduler, sides the network has no whole tokens for, guidance by the base of a
                model that has no unconditional half, or an image of a prompt that cannot be read.
            NotFound: an image of a prompt is not there.
            ResourceExhausted: the model or an adapter does not fit into memory (DEVICE_MEMORY).
        """
        self._load(model)
        assert self._loaded is not None
        denoiser, fused = self._loaded
        _check_sides(denoiser, sampling)
        _check_guidance(denoiser, sampling)
        both = sampling.guide_from_base or sampling.base_share > 0
        self._look(model, sampling.image_prompt)
        doing = f"while putting {len(adapters)} adapters on {model.id}"
        if self._with_room(lambda: fused.apply(adapters, both=both), doing):
            denoiser.texts.forget()
        if sampling.preview_every:
            home, load = self._settings.home / "models", load_preview_decoder
            denoiser.preview_vae = self._with_room(
                lambda: load(denoiser.pipe, model, home, self._device), "while loading the decoder of previews"
            )
        batches = -(-images // self._most_rows(sampling))
        self._compilation.apply(self._unets(), _shape(sampling), batches * sampling.steps)
        schedule = make_schedule(denoiser.pipe, sampling)
        return Prepared(
            type(schedule.scheduler).__name__,
            self._format_name(model),
            zero_terminal_snr=schedule.zero_terminal_snr,
            timestep_spacing=schedule.spacing,
            karras_sigmas=schedule.karras,
            shift=schedule.shift,
        )

    def _look(self, model: BaseModel, prompt: ImagePrompt | None) -> None:
        """Puts the model's IP-Adapter on and has it look at a prompt's images; takes it off where there are none."""
        prompts = self._image_prompts
        assert prompts is not None
        doing = f"while {model.id} looked at images"
        self._denoiser.image_prompt = self._with_room(lambda: prompts.apply(prompt), doing)

    def _unets(self) -> list[Any]:
        assert self._loaded is not None
        denoiser, adapters = self._loaded
        return [unet for unet in (denoiser.network, adapters.made_base_unet()) if unet is not None]

    @property
    def _denoiser(self) -> Denoiser:
        assert self._loaded is not None, "prepare comes before run"
        return self._loaded[0]

    def run(
        self,
        model: BaseModel,
        images: Sequence[ImageRequest],
        sampling: Sampling,
        stopped: Callable[[], bool],
        deliver: Deliver,
    ) -> None:
        """Makes images with the prepared model and delivers each as it is finished, from several threads.

        Raises:
            Cancelled: `stopped` said so; at most one denoising step later.
            ResourceExhausted: one image alone does not fit into the device's memory.
        """
        small = self._device.type == "cpu" and _is_small(model, sampling)
        workers = self._settings.thread_count() if small else 1
        threads = 1 if small else self._settings.thread_count()
        ended = threading.Event()
        fit = self._fits.setdefault(_shape(sampling), MemoryFit(level=self._least))
        run = _Run(sampling, fit, lambda: ended.is_set() or stopped(), deliver)
        work: queue.SimpleQueue[DenoisingBatch] = queue.SimpleQueue()
        full = self._compilation.active and not small
        for length, group in self._by_length(images, sampling).items():
            sizes = self._batch_sizes(sampling, small, length)
            for batch in plan(group, sizes, workers, lambda item: self._denoiser.kind(item, sampling), fill=full):
                work.put(batch)

        def worker() -> None:
            while not work.empty():
                with suppress(queue.Empty):
                    self._run_batch(work.get_nowait(), run)

        _in_threads(worker, min(workers, work.qsize()), threads, ended.set)
        # What did not fit beside the others runs alone: only then may parts of the model move.
        ended.clear()
        _in_threads(lambda: self._economise(run), 1, threads, ended.set)

    def _run_batch(self, batch: DenoisingBatch, run: _Run) -> None:
        """Runs a batch; one that does not fit into memory in smaller ones, and the smallest are left for later."""
        batch = _without_broken(batch, run.deliver)
        if not batch.images:
            return
        if run.fit.level > FallbackLevel.NOTHING:
            run.left.append(batch)
            return
        if batch.rows <= (run.fit.rows or batch.rows):
            if self._is_made(batch, run, FallbackLevel.NOTHING):
                return
            run.fit.rows = batch.rows // 2
        smaller = next((size for size in batch.sizes if size <= run.fit.rows), 0)
        if not smaller:
            run.fit.rows, run.fit.level = batch.sizes[-1], FallbackLevel.WAITING
            run.left.append(batch)
            return
        for start in range(0, len(batch.images), smaller):
            self._run_batch(DenoisingBatch(batch.images[start : start + smaller], smaller, batch.sizes), run)

    def _economise(self, run: _Run) -> None:
        """Runs what was left with less and less kept on the device."""
        tiles = self._settings.tiled_decoding
        ladder = [level for level in FallbackLevel if level and (tiles or level < FallbackLevel.TILES)]
        for batch in run.left:
            begin = max(run.fit.level, FallbackLevel.WAITING)
            fitting = next((level for level in ladder if level >= begin and self._is_made(batch, run, level)), None)
            if fitting is None:
                run.fit.rows, run.fit.level = 0, self._least
                raise exhausted(run.sampling, run.asked[0], tiles_allowed=tiles)
            run.fit.level = fitting

    def _is_made(self, batch: DenoisingBatch, run: _Run, level: FallbackLevel) -> bool:
        """Runs a batch and delivers its images; false, and nothing delivered, where memory ran out."""
        watch = _watch(batch, run) if level is FallbackLevel.NOTHING else None
        redone: set[int] = set()
        began = self._clock()
        try:
            arrays = self._denoiser.run(batch, run.sampling, run.stopped, watch, level, redone)
        except (RuntimeError, MemoryError) as error:
            failure = self._compilation.failure(error)
            if failure is not None:
                raise failure from error
            if not is_shortage(error):
                raise
            run.asked[0] = bytes_asked(error)
        else:
            if level is FallbackLevel.NOTHING:
                self._compilation.note(_shape(run.sampling), run.sampling.steps, self._clock() - began)
            for row, (item, image) in enumerate(zip(batch.images, arrays, strict=True)):
                names = NAMES[level] + ((FULL_PRECISION,) if row in redone else ())
                run.deliver(item.index, _generated(image, names))
            return True
        give_back()
        return False

    def _with_room(self, work: Callable[[], Any], doing: str) -> Any:
        """Returns what some work with the model returns, done once more with all parts moved away if memory runs out.

        Raises:
            ResourceExhausted: it does not fit even then.
        """
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
        self._denoiser.places.clear()
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            raise shortage(error, doing, LOADING_ADVICE, reason="DEVICE_MEMORY") from error

    def _load(self, model: BaseModel) -> None:
        files = model_files(model.path) if model.path.is_dir() else [model.path]
        newest = max((path.stat().st_mtime_ns for path in files), default=0)
        key = (model.id, model.path, newest)
        if key == self._key:
            return
        check_installed(self._quantization(model), "[generator] quantization")
        self.release()
        self._half = family(model.layout).defaults.half
        try:
            pipe = load_pipeline(model, self._settings.single_file_configs, HOST, DTYPES[self._precision()])
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_shortage(error):
                raise
            raise shortage(error, f"while loading {model.id}", LOADING_ADVICE, reason="DEVICE_MEMORY") from error
        network = of_pipeline(pipe).network
        quantize(getattr(pipe, network), self._quantization(model), self._device)
        compilation = Compilation(self._settings.compile_unet, self._device)
        adapters = Adapters(pipe, compilation.prepare)
        places = Places(pipe, self._device, {network: adapters.made_base_unet}, network)
        self._key, self._loaded = key, (Denoiser(pipe, adapters.base_unet, places), adapters)
        self._compilation = compilation
        self._image_prompts = ImagePrompts(pipe, self._device, adapters.forget_base_unet)
        self._settle(places)

    def _settle(self, places: Places) -> None:
        """Brings the model to the device; one that does not fit waits in the computer's memory, part by part."""
        try:
            places.settle()
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            self._least = FallbackLevel.WAITING
        if self._least:
            places.clear()

    def device_memory(self, model: BaseModel) -> DeviceMemory:
        """Returns where models run and how much of one there is at once."""
        plain = Sampling(1, 1.0, model.resolution, model.resolution)
        size = host_memory()[1]
        if self._device.type == "cuda":
            size = int(torch.cuda.get_device_properties(self._device).total_memory)
        width = DTYPES[self._precision()].itemsize
        rows = self._most_rows(plain)
        return DeviceMemory(self._device.type, size, width, rows, self._settings.quantization)

    def release(self) -> int:
        """Drops the model and gives its memory back; returns the bytes its weights had, 0 where none was loaded."""
        if self._loaded is None:
            return 0
        freed = self._denoiser.places.size()
        if self._compilation.active:
            for unet in self._unets():
                release(unet)
            forget()
        self._key, self._loaded, self._least = None, None, FallbackLevel.NOTHING
        self._image_prompts = None
        self._fits.clear()
        give_back()
        return freed

    def _precision(self) -> str:
        precision = self._settings.precision
        return precision if precision != "auto" else "fp32" if self._device.type == "cpu" else self._half

    def _format_name(self, model: BaseModel) -> str:
        """Returns what records call the numbers a model is drawn with."""
        bits = self._quantization(model)
        packed = "" if bits == NONE else f"+{bits}"
        return self._precision() + packed + ("+compiled" if self._compilation.active else "")

    def _quantization(self, model: BaseModel) -> str:
        """Returns in how many bits a model's network lies; a UNet's as it is."""
        return self._settings.quantization if family(model.layout).noise == "flow" else NONE

    def _by_length(self, images: Sequence[ImageRequest], sampling: Sampling) -> dict[int, list[ImageRequest]]:
        """Returns the images by the chunks of their conditions, on which it depends which batch sizes agree."""
        groups: dict[int, list[ImageRequest]] = {}
        for item in images:
            groups.setdefault(self._denoiser.length(item, sampling), []).append(item)
        return groups

    def _batch_sizes(self, sampling: Sampling, small: bool, length: int = 1) -> tuple[int, ...]:
        """Returns the batch sizes to choose from, largest first; all give the same bits on the CPU."""
        limit = sampling.batch_size or self._settings.image_batch
        if self._device.type != "cpu":
            return tuple(range(self._most_rows(sampling), 0, -1))
        if not small:
            return (1,)
        shape = (self._key, sampling.height, sampling.width, length, *shape_of(self._denoiser.image_prompt))
        if shape not in self._sizes:
            self._sizes[shape] = self._measure(sampling, length)
        sizes = self._sizes[shape]
        return tuple(size for size in sizes if not limit or size <= limit) or sizes[-1:]

    def _most_rows(self, sampling: Sampling) -> int:
        """Returns how many images an accelerator denoises together; on the CPU image by image is counted."""
        limit = sampling.batch_size or self._settings.image_batch
        fitting = ACCELERATOR_PIXELS // (sampling.width * sampling.height) if self._device.type != "cpu" else 1
        return limit or max(1, min(64, fitting))

    def _measure(self, sampling: Sampling, length: int) -> tuple[int, ...]:
        measurements: list[tuple[int, ...]] = []

        def work() -> None:
            measurements.append(self._denoiser.stable_sizes(sampling, length=length))

        try:
            _in_threads(work, 1, 1, lambda: None)
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            return SIZES[-1:]  # too little memory to measure: the smallest, which is among those that agree
        return measurements[0]


def _check_sides(denoiser: Denoiser, sampling: Sampling) -> None:
    """Refuses sides that are not whole tokens of a transformer; a UNet pads what it has not."""
    family = denoiser.family
    unit = family.unit(denoiser.pipe) if family.network != "unet" else 1
    for name, side in (("width", sampling.width), ("height", sampling.height)):
        if side % unit:
            raise InvalidArgument(
                f"A multiple of {unit} was expected, as this base model ({family.name}) draws; {side} came.",
                reason="SIZE",
                field=name,
            )


def _check_guidance(denoiser: Denoiser, sampling: Sampling) -> None:
    """Refuses what an unconditional half would be for where the network has none."""
    if sampling.guide_from_base and not denoiser.family.is_guided(denoiser.pipe):
        raise InvalidArgument(
            f"This base model ({denoiser.family.name}) was distilled and has no unconditional half that the base could "
            "answer in place of the adapters, so guide_from_base was expected to be left out.",
            reason="GUIDANCE",
            field="guide_from_base",
        )


def _in_threads(work: Callable[[], None], workers: int, threads: int, failed: Callable[[], None]) -> None:
    """Runs work in so many threads, each with so many of torch's own; calls `failed` as soon as one raises.

    Fresh threads each time: the number of threads a matrix product uses belongs to the thread that asks.
    """

    def run() -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            work()

    with ThreadPoolExecutor(workers, thread_name_prefix="denoise") as pool:
        running = [pool.submit(run) for _ in range(workers)]
        wait(running, return_when=FIRST_EXCEPTION)
        failed()
    for future in running:
        future.result()


def _without_broken(batch: DenoisingBatch, deliver: Deliver) -> DenoisingBatch:
    """Leaves out, and reports, the images whose picture to start from cannot be read."""
    good = []
    for item in batch.images:
        try:
            if item.init is not None:
                item = replace(item, init=partial(np.asarray, item.init()))
            good.append(item)
        except KonomiError as error:
            deliver(item.index, error)
    return replace(batch, images=good)


def _watch(batch: DenoisingBatch, run: _Run) -> Callable[[int, np.ndarray], None] | None:
    """Returns what hands out the previews of a batch; None where nobody asked for any."""
    if not run.sampling.preview_every:
        return None

    def watch(step: int, arrays: np.ndarray) -> None:
        for item, image in zip(batch.images, arrays[: len(batch.images)], strict=True):
            run.deliver(item.index, Preview(step, _pixels(np.nan_to_num(image))))

    return watch


def _generated(image: np.ndarray, fallbacks: tuple[str, ...]) -> GeneratedImage | KonomiError:
    if not np.isfinite(image).all():
        return _broken()
    return GeneratedImage(_pixels(image), fallbacks)


def _shape(sampling: Sampling) -> tuple[int, ...]:
    """Returns what memory and time of a batch depend on besides its rows."""
    return sampling.height, sampling.width, sampling.guide_from_base


def _pixels(image: np.ndarray) -> np.ndarray:
    return (image * 255).round().astype(np.uint8)


def _is_small(model: BaseModel, sampling: Sampling) -> bool:
    network = family(model.layout).network
    return model.parameters.get(network, SMALL_PARAMETERS) < SMALL_PARAMETERS and (
        sampling.width * sampling.height <= SMALL_SIDE * SMALL_SIDE
    )


def _broken() -> FailedPrecondition:
    return FailedPrecondition(
        "The model made numbers that are no image: set the generator's precision to fp32, or take off the adapter.",
        reason="NOT_AN_IMAGE",
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise FailedPrecondition(
            f'The generator\'s device is "{name}" but no such GPU can be used; set it to "auto" or "cpu".',
            reason="DEVICE",
        )
    return torch.device(name)
