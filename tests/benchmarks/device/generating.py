"""The generator on a device: beside the raw loop, its adapters, and compiled."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.backends.diffusers.batches import plan
from konomi_generator.generator import Generator
from konomi_generator.requests import Image, Request
from konomi_generator.sampling import AdapterFile, GeneratedImage, ImageRequest, Sampling
from konomi_generator.settings import GeneratorSettings
from tests.benchmarks.device import models
from tests.benchmarks.device.models import NAMES
from tests.benchmarks.device.sections import Check, Row
from tests.benchmarks.generator.bench_generator import Raw, konomi_maker, largest_error, timed

TFLOP = {"sd1": (0.80, 2.5), "sdxl": (6.76, 10.5)}
"""Of one pass of the UNet and of one decoding at full size, counted on shapes."""
GOAL = 1.02
GUIDANCE = 5.0


def settings_of(check: Check, **values: object) -> GeneratorSettings:
    """Returns a generator's settings on the device."""
    return GeneratorSettings(home=check.home, device=check.device, **values)


def backend_of(check: Check, **values: object) -> DiffusersBackend:
    """Returns a back end on the device; a rehearsal's does not measure batches for small models on a CPU."""
    backend = DiffusersBackend(settings_of(check, **values))
    if check.rehearse:
        backend._measure = lambda _sampling, _length: (2, 1)  # type: ignore[method-assign]
    return backend


def sampling_of(check: Check, layout: str, steps: int, **values: object) -> Sampling:
    """Returns what images of a layout are made with."""
    return Sampling(steps, GUIDANCE, check.side(layout), check.side(layout), **values)


def images_of(count: int) -> list[ImageRequest]:
    """Returns so many images to make."""
    return [ImageRequest(n, f"a portrait of a person, number {n % 4}", 1000 + n) for n in range(count)]


def make(backend: DiffusersBackend, check: Check, layout: str, sampling: Sampling, count: int = 1) -> np.ndarray:
    """Makes images with a prepared back end: (n, H, W, 3) uint8. Raises what became of an image instead of it."""
    results: dict[int, object] = {}
    model = models.saved(check, layout)
    backend.run(model, images_of(count), sampling, lambda: False, lambda index, image: results.update({index: image}))
    for result in results.values():
        if not isinstance(result, GeneratedImage):
            raise result if isinstance(result, Exception) else TypeError(type(result).__name__)
    return np.stack([results[index].pixels for index in range(count)])  # type: ignore[attr-defined]


def warm(backend: DiffusersBackend, check: Check, layout: str, sampling: Sampling, count: int = 1) -> None:
    """Makes images in two steps, so that a device's first time is nobody's measurement."""
    make(backend, check, layout, replace(sampling, steps=2), count)


def error_of(images: np.ndarray, reference: np.ndarray) -> float:
    """Returns the relative error of pixels."""
    return models.off(torch.from_numpy(images), torch.from_numpy(reference))


def floor_seconds(check: Check, layout: str, steps: int) -> float | None:
    """Returns what an image takes at the measured ceiling; None before it is measured, or in a rehearsal."""
    if check.rehearse or "flops" not in check.ceilings:
        return None
    unet, decoding = TFLOP[layout]
    return (2 * steps * unet + decoding) * 1e12 / check.ceilings["flops"]


def sd1(check: Check) -> Iterator[Row]:
    """SD 1.5 beside the raw loop, and how long the device has nothing to do."""
    steps = check.take(25, 2)
    yield from _beside_raw(check, "sd1", check.take(64, 2), check.take(8, 2), steps, check.take(2, 1))
    yield from _idle(check, "sd1", check.take(8, 1), check.take(5, 1))


def sdxl(check: Check) -> Iterator[Row]:
    """SDXL beside the raw loop at batch 4, and alone at others."""
    steps, count = check.take(25, 2), check.take(8, 2)
    yield from _beside_raw(check, "sdxl", count, check.take(4, 2), steps, 1)
    backend = backend_of(check)
    for batch in (1, 2, 8):
        if batch == 8 and "sdxl batch 8" in check.cut:
            continue
        sampling = sampling_of(check, "sdxl", steps, batch_size=batch)
        backend.prepare(models.saved(check, "sdxl"), [], sampling, count)
        some = max(batch, count // 4)
        warm(backend, check, "sdxl", sampling, batch)
        check.forget_peak()
        took = check.seconds(partial(make, backend, check, "sdxl", sampling, some)) / some
        yield Row(f"SDXL: an image at batch {batch}", took, "s", floor_seconds(check, "sdxl", steps))
        yield Row(f"SDXL: peak memory at batch {batch}", check.peak(), "GB")


def adapters(check: Check) -> Iterator[Row]:
    """An SDXL LoRA put on, changed, off and on again; the second UNet; what fusing in half precision loses."""
    first, second = (models.adapter(check, "sdxl", seed) for seed in (1, 2))
    model, steps = models.saved(check, "sdxl"), check.take(10, 1)
    plain = sampling_of(check, "sdxl", steps)
    backend = backend_of(check)
    backend.prepare(model, [], plain)
    moves: tuple[tuple[str, list[AdapterFile]], ...]
    moves = (("on", [first]), ("changed", [second]), ("off", []), ("on again", [first]))
    for what, chosen in moves:
        took = check.seconds(partial(backend.prepare, model, chosen, plain))
        yield Row(f"SDXL: a LoRA of rank 8 {what}", took, "s")
    yield Row("SDXL: memory held with it", check.reserved(), "GB")
    warm(backend, check, "sdxl", plain)
    alone = check.seconds(lambda: make(backend, check, "sdxl", plain))
    check.forget_peak()
    guided = replace(plain, guide_from_base=True)
    backend.prepare(model, [first], guided)
    warm(backend, check, "sdxl", guided)
    both = check.seconds(lambda: make(backend, check, "sdxl", guided))
    yield Row("SDXL: an image guided from the base, beside one that is not", both, "s", alone)
    yield Row("SDXL: peak memory with both UNets", check.peak(), "GB")
    backend.release()
    made = {}
    for precision in ("fp32", "fp16", "bf16"):
        backend = backend_of(check, precision=precision)
        backend.prepare(model, [first], plain)
        made[precision] = make(backend, check, "sdxl", plain)
        backend.release()
    for precision in ("fp16", "bf16"):
        error = error_of(made[precision], made["fp32"])
        yield Row(f"SDXL: image with a fused LoRA in {precision}, relative error to fp32", error, "share")


def compiled(check: Check) -> Iterator[Row]:
    """Compiled blocks: what the first image costs, what the next gain, and what another adapter or size costs."""
    with _stance(check):
        for layout in models.LAYOUTS:
            model, steps, name = models.saved(check, layout), check.take(25, 1), NAMES[layout]
            sampling = sampling_of(check, layout, steps)
            other = replace(sampling, width=sampling.width * 3 // 4)
            backend = backend_of(check)
            backend.prepare(model, [], sampling)
            make(backend, check, layout, sampling)
            plain = check.seconds(partial(make, backend, check, layout, sampling))
            backend.release()
            backend = backend_of(check, compile_unet=True)
            for what, chosen, kind in (
                ("the first image", [], sampling), ("the second", [], sampling),
                ("the first with an adapter", [models.adapter(check, layout, 3)], sampling),
                ("the first of another size", [], other), ("the second of it", [], other),
            ):  # fmt: skip
                backend.prepare(model, chosen, kind)
                took = check.seconds(partial(make, backend, check, layout, kind))
                yield Row(f"{name}: compiled, {what}", took, "s", plain)
            backend.release()


@contextmanager
def _stance(check: Check) -> Iterator[None]:
    """Compiles in earnest, but not in a rehearsal: the same lines then run what would have been compiled as it is."""
    with torch.compiler.set_stance("force_eager") if check.rehearse else nullcontext():
        yield


def _beside_raw(check: Check, layout: str, count: int, batch: int, steps: int, rounds: int) -> Iterator[Row]:
    name, model = NAMES[layout], models.saved(check, layout)
    settings = settings_of(check)
    store, decoder = ArtifactStore(StoreSettings(home=check.home)), Decoder()
    backend, sampling = backend_of(check, image_batch=batch), sampling_of(check, layout, steps)
    generator = Generator(BaseModels(check.home), store, backend, decoder, writers=settings.writers, max_side=2048)
    backend.prepare(model, [], sampling, count)
    requests = images_of(count)
    batches = plan(requests, backend._batch_sizes(sampling, small=False), 1, lambda _item: 0)
    raw = Raw(backend._denoiser.pipe, batches, sampling, 1, settings.thread_count())
    asked = Request(
        [Image(item.prompt, item.seed) for item in requests], layout,
        steps=steps, guidance_scale=GUIDANCE, width=sampling.width, height=sampling.height,
    )  # fmt: skip
    ours = konomi_maker(generator, store, decoder, asked)
    try:
        check.forget_peak()
        warm = {maker: timed(maker)[1] for maker in (ours, raw)}
        error = largest_error(warm[raw], warm[ours], store, decoder)  # type: ignore[arg-type]
        yield Row(f"{name}: largest relative error of an image to the raw loop's", error, "share", most=0.03)
        spent = {ours: 0.0, raw: 0.0}
        for number in range(rounds):
            for maker in (ours, raw) if number % 2 else (raw, ours):
                spent[maker] += timed(maker)[0]
        each = {maker: seconds / rounds / count for maker, seconds in spent.items()}
        yield Row(f"{name}: an image beside the raw loop, batch {batch}", each[ours], "s", each[raw], most=GOAL)
        yield Row(f"{name}: an image beside the device's ceiling", each[ours], "s", floor_seconds(check, layout, steps))
        yield Row(f"{name}: peak memory", check.peak(), "GB")
    finally:
        generator.close()
        decoder.close()
        backend.release()


def _idle(check: Check, layout: str, batch: int, steps: int) -> Iterator[Row]:
    backend = backend_of(check, image_batch=batch)
    sampling = sampling_of(check, layout, steps)
    backend.prepare(models.saved(check, layout), [], sampling, batch)
    make(backend, check, layout, sampling, batch)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if check.on_gpu else [])]
    with profile(activities=kinds) as profiler:
        wall = check.seconds(lambda: make(backend, check, layout, sampling, batch))
    where, kind = (DeviceType.CUDA, "device") if check.on_gpu else (DeviceType.CPU, "cpu")
    events = [event for event in profiler.key_averages() if event.device_type == where]  # kernels, not who began them
    busy = sum(getattr(event, f"self_{kind}_time_total") for event in events) / 1e6
    yield Row(f"{NAMES[layout]}: time the device does nothing in {steps} steps", max(0.0, 1 - busy / wall), "share")
    backend.release()
