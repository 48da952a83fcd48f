"""A night in figures: the JSON of `konomi night status` and of the page."""

import time
from collections.abc import Mapping
from typing import TypedDict

from konomi.night.records.state import StateName
from konomi.night.records.store import NightStore
from konomi.night.verdict import BlindEvaluation, VerdictSummary


class UnitLine(TypedDict):
    """One unit of a summary; None for what is not known yet."""

    unit: int
    model: str | None
    decision: str | None
    promoted: bool | None
    win_rate: float | None
    vendi: float | None
    seconds: float | None


class Summary(TypedDict):
    """What `night status --json` prints; `reason` and `served` as the night recorded them."""

    night: str
    system: str | None
    state: str
    running: bool
    step: str | None
    done: int | None
    total: int | None
    heartbeat_age: float | None
    steps: int
    units: list[UnitLine]
    served: Mapping[str, object] | None
    images: int
    seconds: float
    reason: Mapping[str, object] | None
    verdict: VerdictSummary


def summary_of(nights: NightStore, night: str) -> Summary:
    """Returns what `status --json` prints."""
    state, progress = nights.read(night), nights.progress(night)
    running = nights.runner() is not None and nights.unfinished() == night
    units: list[UnitLine] = [
        {
            "unit": unit["unit"],
            "model": unit.get("model"),
            "decision": unit.get("decision"),
            "promoted": unit.get("promoted"),
            "win_rate": unit.get("wins", {}).get("value"),
            "vendi": unit.get("scores", {}).get("vendi", {}).get("value"),
            "seconds": unit.get("seconds"),
        }
        for unit in state["units"]
    ]
    return {
        "night": night,
        "system": state.get("system"),
        "state": state["state"] if running or state["state"] != StateName.RUNNING else StateName.INTERRUPTED.value,
        "running": running,
        "step": progress.get("step") if running else None,
        "done": progress.get("done") if running else None,
        "total": progress.get("total") if running else None,
        "heartbeat_age": round(time.time() - progress["time"], 1) if running and progress else None,
        "steps": len(state["steps"]),
        "units": units,
        "served": state.get("served"),
        "images": state.get("images", 0),
        "seconds": round(state.get("seconds", 0.0), 1),
        "reason": state.get("reason"),
        "verdict": BlindEvaluation(nights, night).summary(),
    }
