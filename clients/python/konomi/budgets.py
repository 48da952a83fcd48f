"""The budgets of a night: what it has spent so far, and the one sentence with which it ends between two steps."""

import os
from pathlib import Path
from typing import Any

from konomi.guards import Alarm
from konomi.night_settings import NightSettings

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
