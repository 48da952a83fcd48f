"""Steps of a LoRA on a device: cached, as diffusers' script takes them, and what memory is saved with."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from konomi_trainer.jobs.trainer import loop_settings
from konomi_trainer.training.checkpoints import Checkpoints
from konomi_trainer.training.loop import Progress, Surroundings, train
from tests.benchmarks.device.models import NAMES
from tests.benchmarks.device.sections import Check, Row
from tests.benchmarks.trainer.bench_trainer import GOALS, Task, base_of, cached, compare

HALF = "bf16"
TFLOP = {"sd1": 1.72, "sdxl": 14.1}
"""Of an image's cached step at full size, counted on shapes."""


def task(check: Check, layout: str, batch: int, precision: str = HALF) -> Task:
    """Returns steps of a layout on the device."""
    return Task(layout, check.divisor, check.side(layout), batch, check.take(8, 3), check.device, precision)


def steps(check: Check) -> Iterator[Row]:
    """Both layouts, batches of 1, 4 and 16, beside the script's step; then the price of other ways for SDXL."""
    for layout in ("sd1", "sdxl"):
        for batch in (1, 4, 16) if not check.rehearse else (1,):
            yield from _beside_script(check, task(check, layout, batch))
            check.tidy()
    few = replace(task(check, "sdxl", check.take(4, 1)), steps=check.take(6, 3))
    reference, peak = cached_steps(check, few)
    yield Row("SDXL: a cached step alone in bf16", reference, "s")
    yield Row("SDXL: its peak memory", peak, "GB")
    ways = (
        ("activations made twice", few, True), ("fp16", replace(few, precision="fp16"), False),
        ("fp32", replace(few, precision="fp32"), False),
    )  # fmt: skip
    for what, other, twice in ways:
        check.tidy()
        seconds, peak = cached_steps(check, other, checkpointing=twice)
        yield Row(f"SDXL: a cached step, {what}, beside bf16", seconds, "s", reference)
        yield Row(f"SDXL: peak memory, {what}", peak, "GB")


def cached_steps(check: Check, work: Task, *, checkpointing: bool = False) -> tuple[float, float]:
    """Returns seconds of a step, the first left out, and the peak memory in GB from the loaded base on."""
    moments: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        base = base_of(work)
        if checkpointing:
            base.checkpoint_activations()
        check.forget_peak()
        learning = cached(base, work, Path(folder) / "cache")

        def note(_progress: Progress) -> None:
            moments.append(check.now())

        train(
            learning.weights,
            learning.loss,
            loop_settings(work.configuration(), learning),
            Checkpoints(Path(folder) / "run"),
            Surroundings(note, lambda: False),
        )
    return (moments[-2] - moments[0]) / (len(moments) - 2), check.peak()


def _beside_script(check: Check, work: Task) -> Iterator[Row]:
    ours, theirs, own, other = compare(work)
    name, each = NAMES[work.layout], sorted(ours)[len(ours) // 2] / work.batch
    what = f"{name}: cached step of an image beside the script's, batch {work.batch}"
    yield Row(what, each, "s", sorted(theirs)[len(theirs) // 2] / work.batch, most=GOALS[work.layout])
    worst = max(abs(a - b) / b for a, b in zip(own, other, strict=True))
    yield Row(f"{name}: largest difference of a step's loss, batch {work.batch}", worst, "share", most=0.01)
    if not check.rehearse and "flops" in check.ceilings:
        ceiling = TFLOP[work.layout] * 1e12 / check.ceilings["flops"]
        yield Row(f"{name}: cached step of an image beside the ceiling, batch {work.batch}", each, "s", ceiling)
