"""The budgets of a night: what it has spent so far, and the one sentence with which it ends between two steps."""

import itertools
import math
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from konomi.night.alarms import Alarm
from konomi.night.records.record import Record
from konomi.night.records.state import NightState, StepRecord
from konomi.night.records.store import NightStore
from konomi.night.settings import NightSettings
from konomi.night.systems.registry import SYSTEMS, night_settings, stages

GIB = 2**30
ON_DEVICE = ("draft", "rate", "generate", "evaluate", "score", "train", "measure", "grow", "probe")
"""Kinds of step that work on the accelerator."""
DRAWN = ("draft", "generate", "evaluate")
"""Kinds of step that draw images."""


class Envelope(TypedDict):
    """What a finished step left: the seconds it took, its result as JSON, and bytes the home's artifacts take since.

    `collected`: rejected candidates that were let go before it, where the disk was nearly full.
    """

    seconds: float
    value: dict[str, Any]
    stored: NotRequired[int]
    collected: NotRequired[int]


def exhausted(state: NightState, settings: NightSettings, images: int) -> Alarm | None:
    """Returns why the next step may not begin, None where every budget allows it.

    Args:
        state: what the night has spent so far.
        settings: the night's settings.
        images: images the next step would make.
    """
    if state.seconds >= settings.budget_hours * 3600:
        return Alarm("budget_hours", {"budget": settings.budget_hours})
    if settings.budget_gpu_hours and state.gpu_seconds >= settings.budget_gpu_hours * 3600:
        return Alarm("budget_gpu_hours", {"budget": settings.budget_gpu_hours})
    if state.images + images > settings.budget_images:
        return Alarm("budget_images", {"budget": settings.budget_images})
    if settings.budget_disk_gib and state.disk_bytes >= settings.budget_disk_gib * GIB:
        return Alarm("budget_disk", {"budget": settings.budget_disk_gib})
    return None


def note(state: NightState, step: str, envelope: Envelope, images: int) -> NightState:
    """Returns a night's state with what a finished step took, added to the night and to the unit the step is of.

    Args:
        state: the state before.
        step: name of the step, "unit-1/train".
        envelope: what it left.
        images: images it made.
    """
    seconds = envelope["seconds"]
    kind = step.rpartition("/")[2].split("-")[0]
    state = state.changed(
        steps=(*state.steps, StepRecord(name=step, seconds=seconds, images=images)),
        seconds=state.seconds + seconds,
        images=state.images + images,
        gpu_seconds=state.gpu_seconds + (seconds if kind in ON_DEVICE else 0.0),
    )
    if "stored" in envelope:
        before = envelope["stored"] if state.stored_before is None else state.stored_before
        state = state.changed(stored_before=before, disk_bytes=envelope["stored"] - before)
    if envelope.get("collected"):
        state = state.changed(collected=state.collected + envelope["collected"])
    number = step.partition("/")[0].removeprefix("unit-")
    for record in state.units:
        if str(record.unit) == number:
            state = state.with_unit(record.changed(seconds=record.seconds + seconds, images=record.images + images))
    return state


def stored(folder: Path) -> int:
    """Returns the bytes all files below a folder take; 0 where there is none."""
    total, waiting = 0, [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue  # a folder or a temporary file that went meanwhile
    return total


SAMPLE = 512
"""Stored files whose mean size stands for that of an image."""


def measured(nights: NightStore, base_model: str = "") -> dict[str, float]:
    """Returns what the newest measured night took; empty where none has trained a unit yet.

    Args:
        nights: the nights of a home.
        base_model: only nights on it count; "" means any.

    Returns:
        Seconds: "generate" and "evaluate" per image, "draft" where it drew drafts, "train" per optimiser step, "rest"
        per unit (selecting, scoring, judging, promoting). "base": images of the base model a unit needed for its
        share, where it needed some.
    """
    for night in reversed(nights.all()):
        settings = night_settings().completed(nights.request(night).settings)
        rates = _rates(nights.state(night), settings) if base_model in ("", settings.get("base_model")) else {}
        if rates:
            return rates
    return {}


def _rates(state: NightState, settings: Mapping[str, Any]) -> dict[str, float]:
    trained = 0
    seconds: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    for step in state.steps:
        kind = step.name.rpartition("/")[2].split("-")[0]
        kind = kind if kind in (*DRAWN, "train") else "rest"
        seconds[kind] += step.seconds
        trained += settings[fit_setting(state, step.name)] if kind == "train" else 0
        count[kind] += step.images if kind in DRAWN else 1
    base = sum(step.images for step in state.steps if "/generate-base" in step.name)
    if not (count["generate"] and count["evaluate"] and count["train"]):
        return {}
    return {
        "generate": seconds["generate"] / count["generate"],
        "evaluate": seconds["evaluate"] / count["evaluate"],
        "train": seconds["train"] / trained,
        "rest": seconds["rest"] / count["train"],
        **({"draft": seconds["draft"] / count["draft"]} if count["draft"] else {}),
        **({"base": base / count["train"]} if base else {}),
        **_bytes(state),
    }


def rates_so_far(state: NightState, settings: NightSettings) -> dict[str, float]:
    """Returns what a night's own images and training steps took, of those kinds it has done; see `measured`."""
    seconds: dict[str, float] = defaultdict(float)
    amount: dict[str, float] = defaultdict(float)
    for step in state.steps:
        kind = step.name.rpartition("/")[2].split("-")[0]
        if kind in (*DRAWN, "train"):
            seconds[kind] += step.seconds
            amount[kind] += fit_steps(state, step.name, settings) if kind == "train" else step.images
    return {kind: seconds[kind] / count for kind, count in amount.items() if count}


def fit_steps(state: NightState, step: str, settings: NightSettings) -> int:
    """Returns the optimiser steps of a fit, by the system whose unit it is of.

    Args:
        state: record of the night.
        step: name of the step that fitted, for example "unit-1/train".
        settings: settings of the night.
    """
    return int(getattr(settings, fit_setting(state, step), settings.steps))


def fit_setting(state: NightState, step: str) -> str:
    """Returns the setting that holds the optimiser steps of a fit; "steps" for a system of another version."""
    unit = step.partition("/")[0]
    system = next((record.system for record in state.units if f"unit-{record.unit}" == unit), "")
    return SYSTEMS[system].fit_steps if system in SYSTEMS else "steps"


def _bytes(state: NightState) -> dict[str, float]:
    """Returns what an image of a measured night took of the disk, with its share of the adapters."""
    return {"bytes": state.disk_bytes / state.images} if state.disk_bytes > 0 and state.images else {}


def mean_bytes(store: Path) -> float | None:
    """Returns the mean size of the files of an artifact store, over a sample; None where it holds none."""
    notes = (".gone", ".made")  # of what was collected, and of what need not be made again
    files = (p for p in store.rglob("*") if p.is_file() and not p.name.startswith(".") and p.suffix not in notes)
    sizes = [path.stat().st_size for path in itertools.islice(files, SAMPLE)]
    return sum(sizes) / len(sizes) if sizes else None


class Forecast(Record):
    """What a night makes and takes; None where nothing was measured.

    Attributes:
        units: units it makes.
        images: images it makes, those of the evaluations included.
        training_steps: optimiser steps of its fits.
        seconds: working time.
        gpu_hours: hours of it on the accelerator.
        cost: price of the machine for so long; None also where an hour has no price.
        kwh: energy; None also where nobody said what the machine draws.
        disk_bytes: what its images take of the disk.
        budgets: its budgets by name; 0 for none.
        ends_by: budgets it would not keep.
        measured: what it rests on, as `measured` returned it.
    """

    units: int
    images: int
    training_steps: int
    seconds: float | None
    gpu_hours: float | None
    cost: float | None
    kwh: float | None
    disk_bytes: int | None
    budgets: dict[str, int | float]
    ends_by: tuple[str, ...]
    measured: dict[str, float] | None


def _work(settings: NightSettings, system: str) -> tuple[int, int, int]:
    """Returns the images that are drawn in full, the drafts and the training steps of a night, without evaluations."""
    parts = [(stage.system, *stage.system.cost(settings, stage.units)) for stage in stages(system, settings.units)]
    drafts = sum(images for way, images, _ in parts if way.drafted) if settings.draft == "on" else 0
    pool = sum(images for _, images, _ in parts) - drafts + redrawn(drafts, settings)
    return pool, drafts, sum(steps for _, _, steps in parts)


def forecast(
    settings: NightSettings, rates: dict[str, float], image_bytes: float | None, system: str = "converge"
) -> Forecast:
    """Returns what a night makes and takes.

    Args:
        settings: settings of the night.
        rates: what `measured` returned.
        image_bytes: mean size of a stored image, None where unknown.
        system: the system or chain of systems.
    """
    pool, drafts, steps = _work(settings, system)
    pool += round(settings.units * rates.get("base", 0.0))
    looks = (settings.units + 1) * settings.evaluation_images
    looks += sum(stage.units * stage.system.probes(settings) for stage in stages(system, settings.units))
    device = None
    if rates:
        drawn = pool * rates["generate"] + drafts * rates.get("draft", rates["generate"])
        device = drawn + looks * rates["evaluate"] + steps * rates["train"]
    pool += drafts
    seconds = None if device is None else device + settings.units * rates["rest"]
    hours = None if seconds is None else seconds / 3600
    image_bytes = rates.get("bytes", image_bytes)
    disk = None if image_bytes is None else round((pool + looks) * image_bytes)
    takes = {"hours": hours or 0.0, "images": pool + looks}
    takes |= {"gpu_hours": (device or 0.0) / 3600, "disk_gib": (disk or 0) / GIB}
    budgets = limits(settings)
    return Forecast(
        units=settings.units,
        images=pool + looks,
        training_steps=steps,
        seconds=seconds,
        gpu_hours=None if device is None else device / 3600,
        cost=None if hours is None or not settings.hour_price else hours * settings.hour_price,
        kwh=None if hours is None or not settings.watts else hours * settings.watts / 1000,
        disk_bytes=disk,
        budgets=budgets,
        ends_by=tuple(name for name, limit in budgets.items() if limit and takes[name] > limit),
        measured=rates or None,
    )


def redrawn(drafts: int, settings: NightSettings) -> int:
    """Returns how many of so many drafts are drawn again at the least: those the rating keeps, and those by lot."""
    kept = math.ceil(drafts * settings.redrawn_share)
    return min(drafts, kept + math.ceil(kept * settings.base_share / (1 - settings.base_share)))


def limits(settings: NightSettings) -> dict[str, int | float]:
    """Returns the budgets of a night by name; 0 means none."""
    return {
        "hours": settings.budget_hours,
        "images": settings.budget_images,
        "gpu_hours": settings.budget_gpu_hours,
        "disk_gib": settings.budget_disk_gib,
    }
