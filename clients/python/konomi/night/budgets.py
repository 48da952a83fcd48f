"""The budgets of a night: what it has spent so far, and the one sentence with which it ends between two steps."""

import itertools
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from konomi.night.alarms import Alarm
from konomi.night.records.store import Nights
from konomi.night.settings import NightSettings
from konomi.night.systems.registry import SYSTEMS, stages

GIB = 2**30
ON_DEVICE = ("generate", "evaluate", "score", "train", "measure", "grow")
"""Kinds of step that work on the accelerator."""


def exhausted(state: dict[str, Any], settings: NightSettings, images: int) -> Alarm | None:
    """Returns why the next step may not begin, None where every budget allows it.

    Args:
        state: the night's record: "seconds", "gpu_seconds", "images" and "disk_bytes" so far.
        settings: the night's settings.
        images: images the next step would make.
    """
    if state["seconds"] >= settings.budget_hours * 3600:
        return Alarm("budget_hours", {"budget": settings.budget_hours})
    if settings.budget_gpu_hours and state["gpu_seconds"] >= settings.budget_gpu_hours * 3600:
        return Alarm("budget_gpu_hours", {"budget": settings.budget_gpu_hours})
    if state["images"] + images > settings.budget_images:
        return Alarm("budget_images", {"budget": settings.budget_images})
    if settings.budget_disk_gib and state["disk_bytes"] >= settings.budget_disk_gib * GIB:
        return Alarm("budget_disk", {"budget": settings.budget_disk_gib})
    return None


def note(state: dict[str, Any], step: str, envelope: dict[str, Any], images: int) -> None:
    """Adds what a finished step took to a night's record.

    Args:
        state: the night's record; changed.
        step: name of the step, "unit-1/train".
        envelope: "seconds", and "stored": bytes the home's artifacts take since.
        images: images it made.
    """
    seconds = envelope["seconds"]
    state["steps"].append({"name": step, "seconds": seconds, "images": images})
    state["seconds"] += seconds
    state["images"] += images
    if step.rpartition("/")[2].split("-")[0] in ON_DEVICE:
        state["gpu_seconds"] += seconds
    if "stored" in envelope:
        state.setdefault("stored_before", envelope["stored"])
        state["disk_bytes"] = envelope["stored"] - state["stored_before"]
    if state["units"]:
        state["units"][-1]["seconds"] += seconds
        state["units"][-1]["images"] += images


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


def measured(nights: Nights) -> dict[str, float]:
    """Returns what the newest measured night took; empty where none has trained a unit yet.

    Returns:
        Seconds: "generate" and "evaluate" per image, "train" per optimiser step, "rest" per unit (selecting, scoring,
        judging, promoting).
    """
    for night in reversed(nights.all()):
        found = _of(nights.read(night), nights.request(night).settings)
        if found:
            return found
    return {}


def _of(state: dict[str, Any], settings: dict[str, Any]) -> dict[str, float]:
    named = {f"unit-{unit['unit']}": _fit_steps(unit.get("system", "")) for unit in state.get("units", [])}
    trained = 0
    seconds: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    for step in state.get("steps", []):
        kind = step["name"].rpartition("/")[2].split("-")[0]
        kind = kind if kind in ("generate", "evaluate", "train") else "rest"
        seconds[kind] += step["seconds"]
        trained += settings[named.get(step["name"].partition("/")[0], "steps")] if kind == "train" else 0
        count[kind] += step["images"] if kind in ("generate", "evaluate") else 1
    if not (count["generate"] and count["evaluate"] and count["train"]):
        return {}
    return {
        "generate": seconds["generate"] / count["generate"],
        "evaluate": seconds["evaluate"] / count["evaluate"],
        "train": seconds["train"] / trained,
        "rest": seconds["rest"] / count["train"],
        **_bytes(state),
    }


def _fit_steps(system: str) -> str:
    """Returns the setting that holds the optimiser steps of a fit; "steps" for a system of another version."""
    return SYSTEMS[system].fit_steps if system in SYSTEMS else "steps"


def _bytes(state: dict[str, Any]) -> dict[str, float]:
    """Returns what an image of a measured night took of the disk, with its share of the adapters."""
    grown, images = state.get("disk_bytes", 0), state.get("images", 0)
    return {"bytes": grown / images} if grown > 0 and images else {}


def mean_bytes(store: Path) -> float | None:
    """Returns the mean size of the files of an artifact store, over a sample; None where it holds none."""
    files = (path for path in store.rglob("*") if path.is_file() and not path.name.startswith("."))
    sizes = [path.stat().st_size for path in itertools.islice(files, SAMPLE)]
    return sum(sizes) / len(sizes) if sizes else None


def forecast(
    settings: NightSettings, rates: dict[str, float], image_bytes: float | None, system: str = "converge"
) -> dict[str, Any]:
    """Returns what a night makes and takes.

    Args:
        settings: settings of the night.
        rates: what `measured` returned.
        image_bytes: mean size of a stored image, None where unknown.
        system: the system or chain of systems.

    Returns:
        "units", "images", "training_steps", "budgets", "ends_by" (budgets it would not keep), and, None where nothing
        was measured, "seconds", "gpu_hours", "cost", "kwh" and "disk_bytes".
    """
    parts = [stage.system.cost(settings, stage.units) for stage in stages(system, settings.units)]
    pool, steps = sum(images for images, _ in parts), sum(steps for _, steps in parts)
    looks = (settings.units + 1) * settings.evaluation_images
    seconds = None
    if rates:
        seconds = pool * rates["generate"] + looks * rates["evaluate"] + steps * rates["train"]
        seconds += settings.units * rates["rest"]
    hours = None if seconds is None else seconds / 3600
    device = None if seconds is None else (seconds - settings.units * rates["rest"]) / 3600
    image_bytes = rates.get("bytes", image_bytes)
    disk = None if image_bytes is None else round((pool + looks) * image_bytes)
    budgets = {
        "hours": settings.budget_hours,
        "images": settings.budget_images,
        "gpu_hours": settings.budget_gpu_hours,
        "disk_gib": settings.budget_disk_gib,
    }
    takes = {"hours": hours, "images": pool + looks, "gpu_hours": device, "disk_gib": (disk or 0) / GIB}
    return {
        "units": settings.units,
        "images": pool + looks,
        "training_steps": steps,
        "seconds": seconds,
        "gpu_hours": device,
        "cost": None if hours is None or not settings.hour_price else hours * settings.hour_price,
        "kwh": None if hours is None or not settings.watts else hours * settings.watts / 1000,
        "disk_bytes": disk,
        "budgets": budgets,
        "ends_by": [name for name, limit in budgets.items() if limit and (takes[name] or 0) > limit],
        "measured": rates or None,
    }
