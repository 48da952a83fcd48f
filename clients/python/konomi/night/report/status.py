"""A night in figures: the JSON of `konomi night status` and of the page."""

import time
from typing import Any

from konomi.night.alarms import sentence
from konomi.night.records.state import StateName
from konomi.night.records.store import NightStore
from konomi.night.verdict import BlindEvaluation


def summary_of(nights: NightStore, night: str) -> dict[str, Any]:
    """Returns what `status --json` prints."""
    state, progress = nights.read(night), nights.progress(night)
    running = nights.runner() is not None and nights.unfinished() == night
    units = [
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


def said(reason: dict[str, Any], language: str) -> str:
    """Returns a recorded reason as a sentence in the language; an error's own words stay as they are."""
    return sentence(reason, language)
