"""The diffusers back end: holds one model, puts adapters on it, runs batches in threads, hands out pixels."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch

from konomi.errors import FailedPrecondition, KonomiError, ResourceExhausted
from konomi_chassis.base_models import BaseModel
from konomi_generator.adapters import Adapters
from konomi_generator.batches import Batch, plan
from konomi_generator.denoising import Denoiser
from konomi_generator.pipeline import load_pipeline, make_scheduler
from konomi_generator.request import AdapterFile, Sampling, Wanted
from konomi_generator.settings import GeneratorSettings

SMALL_PARAMETERS = 50_000_000
SMALL_SIDE = 256
ACCELERATOR_PIXELS = 8 * 512 * 512
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

Deliver = Callable[[int, np.ndarray | KonomiError], None]
"""Takes an image's position and its pixels, (H, W, 3) uint8, or why there are none."""


class DiffusersBackend:
    """Runs one request at a time; the caller sees to that.

    Small models on the CPU run one batch per thread, each single-threaded, in batch sizes that were measured to give
    equal bits; large ones run image by image on all threads. Either way no image depends on its neighbours.
    """

    def __init__(self, settings: GeneratorSettings) -> None:
        self._settings = settings
        self._device = _device(settings.device)
        self._key: tuple[str, Path, int] | None = None
        self._loaded: tuple[Denoiser, Adapters] | None = None
        self._sizes: dict[tuple[int, int], tuple[int, ...]] = {}

    def prepare(self, model: BaseModel, adapters: Sequence[AdapterFile], scheduler: str) -> str:
        """Loads the model unless it is there, and makes the adapters those wanted.

        Returns:
            The diffusers name of the scheduler that will be used.

        Raises:
            FailedPrecondition: the model or an adapter is broken, or does not fit.
            InvalidArgument: no such scheduler.
        """
        self._load(model)
        assert self._loaded is not None
        denoiser, fused = self._loaded
        if fused.apply(adapters):
            denoiser.forget_texts()
        return type(make_scheduler(denoiser.pipe, scheduler)).__name__

    @property
    def _denoiser(self) -> Denoiser:
        assert self._loaded is not None, "prepare comes before run"
        return self._loaded[0]

    def run(
        self,
        model: BaseModel,
        wanted: Sequence[Wanted],
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
        work: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        ended = threading.Event()

        def over() -> bool:
            return ended.is_set() or stopped()

        def worker() -> None:
            torch.set_num_threads(threads)
            with torch.inference_mode():
                while not work.empty():
                    with suppress(queue.Empty):
                        self._run_batch(work.get_nowait(), sampling, over, deliver)

        sizes = self._batch_sizes(sampling, small)
        batches = plan(wanted, sizes, workers, lambda item: self._denoiser.kind(item, sampling))
        for batch in batches:
            work.put(batch)
        # Fresh threads each time: the number of threads a matrix product uses belongs to the thread that asks.
        with ThreadPoolExecutor(min(workers, len(batches)), thread_name_prefix="denoise") as pool:
            running = [pool.submit(worker) for _ in range(min(workers, len(batches)))]
            wait(running, return_when=FIRST_EXCEPTION)
            ended.set()
        for future in running:
            future.result()

    def _run_batch(self, batch: Batch, sampling: Sampling, stopped: Callable[[], bool], deliver: Deliver) -> None:
        batch = _without_broken(batch, deliver)
        if not batch.wanted:
            return
        try:
            images = self._denoiser.run(batch, sampling, stopped)
        except torch.OutOfMemoryError as error:
            self._split(batch, sampling, stopped, deliver, error)
            return
        for item, image in zip(batch.wanted, images, strict=True):
            if np.isfinite(image).all():
                deliver(item.index, (image * 255).round().astype(np.uint8))
            else:
                deliver(item.index, _broken())

    def _split(
        self,
        batch: Batch,
        sampling: Sampling,
        stopped: Callable[[], bool],
        deliver: Deliver,
        error: torch.OutOfMemoryError,
    ) -> None:
        """Runs a batch that did not fit into memory in halves."""
        if len(batch.wanted) == 1:
            raise ResourceExhausted(
                f"One image of {sampling.width}x{sampling.height} does not fit into the device's memory; "
                "ask for a smaller one.",
                reason="DEVICE_MEMORY",
            ) from error
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(batch.wanted) // 2
        for part in (batch.wanted[:middle], batch.wanted[middle:]):
            self._run_batch(Batch(part, len(part)), sampling, stopped, deliver)

    def _load(self, model: BaseModel) -> None:
        newest = max((path.stat().st_mtime_ns for path in [model.path, *model.path.rglob("*")]), default=0)
        key = (model.id, model.path, newest)
        if key == self._key:
            return
        self._key, self._loaded = None, None
        precision = self._settings.precision
        if precision == "auto":
            precision = "fp32" if self._device.type == "cpu" else "fp16"
        pipe = load_pipeline(model, self._settings.single_file_configs, self._device, DTYPES[precision])
        adapters = Adapters(pipe)
        self._key, self._loaded = key, (Denoiser(pipe, adapters.base_unet), adapters)
        self._sizes.clear()

    def _batch_sizes(self, sampling: Sampling, small: bool) -> tuple[int, ...]:
        """Returns the batch sizes to choose from, largest first; all give the same bits on the CPU."""
        limit = sampling.batch_size or self._settings.image_batch
        if self._device.type != "cpu":
            most = limit or max(1, min(64, ACCELERATOR_PIXELS // (sampling.width * sampling.height)))
            return tuple(range(most, 0, -1))
        if not small:
            return (1,)
        shape = (sampling.height, sampling.width)
        if shape not in self._sizes:
            self._sizes[shape] = self._measure(sampling)
        sizes = self._sizes[shape]
        return tuple(size for size in sizes if not limit or size <= limit) or sizes[-1:]

    def _measure(self, sampling: Sampling) -> tuple[int, ...]:
        def measure() -> tuple[int, ...]:
            torch.set_num_threads(1)
            with torch.inference_mode():
                return self._denoiser.stable_sizes(sampling)

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(measure).result()


def _without_broken(batch: Batch, deliver: Deliver) -> Batch:
    """Leaves out, and reports, the images whose picture to start from cannot be read."""
    good = []
    for item in batch.wanted:
        try:
            if item.init is not None:
                item = Wanted(item.index, item.prompt, item.seed, item.strength, partial(np.asarray, item.init()))
            good.append(item)
        except KonomiError as error:
            deliver(item.index, error)
    return Batch(good, batch.rows)


def _is_small(model: BaseModel, sampling: Sampling) -> bool:
    return model.parameters.get("unet", SMALL_PARAMETERS) < SMALL_PARAMETERS and (
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
