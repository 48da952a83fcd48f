"""Smaller cards, played by a share of this one's memory: what finishes, by which way, and what is given back."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection

import numpy as np
import torch

from konomi.errors import KonomiError
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.sampling import GeneratedImage, Sampling
from tests.benchmarks.device import models
from tests.benchmarks.device.generating import backend_of, images_of, sampling_of
from tests.benchmarks.device.learning import cached_steps, task
from tests.benchmarks.device.sections import Check, Row

CARDS = (8, 12, 24)
"""GB of the cards played."""
NIGHT_CARD = 24
PATIENCE = 120.0
"""Seconds the other process has for its answer."""


def scarcity(check: Check) -> Iterator[Row]:
    """An SDXL image, one with an adapter and a LoRA step on every card; then a normal one with the first's pixels."""
    sampling = sampling_of(check, "sdxl", check.take(4, 1))
    backend = backend_of(check)
    expected, _ = _image(check, backend, sampling, with_adapter=False)
    backend.release()
    for card in CARDS if not check.rehearse else CARDS[:1]:
        with _card(check, card):
            for what, with_adapter in (("an SDXL image", False), ("with an adapter", True)):
                backend = backend_of(check)
                yield Row(f"{card} GB: {what}", note=_outcome(check, backend, sampling, with_adapter))
                backend.release()
            yield Row(f"{card} GB: an SDXL LoRA step", note=_step_outcome(check))
            check.tidy()
        backend = backend_of(check)
        again, _ = _image(check, backend, sampling, with_adapter=False)
        same = float((again == expected).mean())
        yield Row(f"{card} GB: pixels of the next normal image that are the first's", same, "share", least=1.0)
        backend.release()
        yield Row(f"{card} GB: memory held afterwards", check.reserved(), "GB")


def two_processes(check: Check) -> Iterator[Row]:
    """A generator that is warm, then a training run beside it, each with the memory of a 24 GB card's share."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_generate_when_asked, args=(replace(check), theirs), daemon=True)
    child.start()
    try:
        yield Row("generator: first image", note=_answer(ours, "image"))
        with _card(check, NIGHT_CARD):
            yield Row("trainer: an SDXL LoRA step beside it", note=_step_outcome(check))
        check.tidy()
        yield Row("trainer: memory held afterwards", check.reserved(), "GB")
        yield Row("generator: an image after it", note=_answer(ours, "image"))
        yield Row("generator: its model given back", note=_answer(ours, "release"))
    finally:
        ours.send("end")
        child.join(PATIENCE)
        if child.is_alive():
            child.kill()


def _answer(connection: Connection, wish: str) -> str:
    connection.send(wish)
    if not connection.poll(PATIENCE):
        raise TimeoutError(f"the other process did not answer within {PATIENCE:.0f} s")
    return str(connection.recv())


def _generate_when_asked(check: Check, connection: Connection) -> None:
    """Makes an image, or gives the model back, whenever the other process wishes it; says what became of it."""
    backend, sampling = backend_of(check), sampling_of(check, "sdxl", check.take(4, 1))
    with _card(check, NIGHT_CARD):
        while (wish := connection.recv()) != "end":
            if wish == "image":
                connection.send(f"{_outcome(check, backend, sampling, False)}; {check.reserved():.2f} GB held")
            else:
                connection.send(f"{backend.release() / 1e9:.2f} GB freed, {check.reserved():.2f} GB held")


@contextmanager
def _card(check: Check, gigabytes: int) -> Iterator[None]:
    """Lets this process take no more of the device than a card of that size has; on a CPU nothing changes."""
    number = torch.device(check.device).index or 0
    whole = torch.cuda.get_device_properties(number).total_memory if check.on_gpu else 1
    if check.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / whole), number)
    try:
        yield
    finally:
        if check.on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0, number)


def _image(
    check: Check, backend: DiffusersBackend, sampling: Sampling, *, with_adapter: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns an image's pixels and what was given up for it; raises what became of it instead."""
    model, results = models.saved(check, "sdxl"), []
    backend.prepare(model, [models.adapter(check, "sdxl", 1)] if with_adapter else [], sampling)
    backend.run(model, images_of(1), sampling, lambda: False, lambda _index, image: results.append(image))
    (image,) = results
    if not isinstance(image, GeneratedImage):
        raise image
    return image.pixels, image.fallbacks


def _outcome(check: Check, backend: DiffusersBackend, sampling: Sampling, with_adapter: bool) -> str:
    try:
        fallbacks = _image(check, backend, sampling, with_adapter=with_adapter)[1]
    except KonomiError as error:
        return f"{error.reason}: {error.message[:200]}"
    return "made" + (f", by {', '.join(fallbacks)}" if fallbacks else "")


def _step_outcome(check: Check) -> str:
    try:
        seconds, peak = cached_steps(check, replace(task(check, "sdxl", check.take(4, 1)), steps=3))
    except KonomiError as error:
        return f"{error.reason}: {error.message[:200]}"
    return f"{seconds:.3g} s, {peak:.1f} GB at most"
