"""What a report says beyond the units themselves, as plain data: yesterday, measures, rater alarms, cost, lineage."""

from typing import Any

from konomi.night.budgets import GIB
from konomi.night.records.store import ENDED, Nights
from konomi.night.settings import NightSettings
from konomi.night.verdict import BlindEvaluation
from konomi.taste.rater_summary import logged_alarms

MEASURES = (
    "kid",
    "cmmd",
    "precision",
    "recall",
    "density",
    "coverage",
    "likes_covered",
    "near_copies",
    "largest_cell_share",
    "cell_entropy",
)
"""Measures of a unit beside its scores, in the order a report shows them."""

KEPT = (
    *("unit", "model", "system", "parent", "decision", "reason", "warnings", "wins", "wins_base", "numbers"),
    *("scores", "selection", "seconds", "images", "loss"),
)
"""What is told of each unit."""


def facts_of(nights: Nights, night: str) -> dict[str, Any]:
    """Returns the report of a night as plain JSON.

    Returns:
        "night", "taste", "system", "state", "reason", "served", "units", "verdict", "yesterday" (None in the first
        night), "alarms", "cost" and "lineage".
    """
    state, request = nights.read(night), nights.request(night)
    return {
        "night": night,
        "taste": request.taste,
        "system": request.system,
        "seed": request.seed,
        "state": state["state"],
        "reason": state.get("reason"),
        "served": state.get("served"),
        "units": [{name: unit[name] for name in KEPT if name in unit} for unit in state["units"]],
        "verdict": BlindEvaluation(nights, night).summary(),
        "yesterday": yesterday(nights, night),
        "alarms": alarms_of(state),
        "cost": cost_of(nights, night),
        "lineage": lineage_of(nights, night),
    }


def yesterday(nights: Nights, night: str) -> dict[str, Any] | None:
    """Returns what the night of the same taste before this one left, beside what this one leaves; None in the first."""
    taste, before = nights.request(night).taste, None
    for one in nights.all():
        if one == night:
            break
        if nights.request(one).taste == taste and nights.read(one)["state"] in ENDED and nights.read(one)["units"]:
            before = one
    if before is None:
        return None
    return {"night": before, "before": _left(nights, before), "now": _left(nights, night)}


def _left(nights: Nights, night: str) -> dict[str, Any]:
    """Returns what a night left behind: the served unit with its figures, the rater, what it spent, the verdict."""
    state = nights.read(night)
    served = (state.get("served") or {}).get("unit", 0)
    unit: dict[str, Any] = next((one for one in state["units"] if one["unit"] == served), {})
    scores, told = unit.get("scores") or {}, BlindEvaluation(nights, night).summary()
    return {
        "system": state.get("system", ""),
        "served": served,
        "rater_version": str(state.get("rater_version", "")).rpartition("/")[2],
        **{name: scores.get(name) for name in ("p_ssr", "p_ur", "vendi", "novelty")},
        "units": sum("parent" in one for one in state["units"]),
        "images": state.get("images", 0),
        "nats": state.get("nats", 0.0),
        "seconds": state.get("seconds", 0.0),
        "win_rate": (told["tally"] or {}).get("win_rate"),
        "decision": told["decision"],
    }


def alarms_of(state: dict[str, Any]) -> list[str]:
    """Returns what the rater said of itself during a night, in English, each sentence once."""
    return list(dict.fromkeys(alarm for log in _rater_logs(state) for alarm in log.get("alarms", [])))


def spoken_alarms(state: dict[str, Any]) -> list[str]:
    """Returns the same in the language in use."""
    return list(dict.fromkeys(alarm for log in _rater_logs(state) for alarm in logged_alarms(log)))


def _rater_logs(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [state.get("rater") or {}, *((unit.get("selection") or {}).get("rater") or {} for unit in state["units"])]


def cost_of(nights: Nights, night: str) -> dict[str, float | None]:
    """Returns what a night took: "seconds", "gpu_hours", "images", "disk_gib", and "kwh" and "price" where known."""
    state, known = nights.read(night), nights.request(night).settings
    settings = NightSettings(**{name: known[name] for name in ("hour_price", "watts") if name in known})
    hours = state.get("seconds", 0.0) / 3600
    return {
        "seconds": state.get("seconds", 0.0),
        "gpu_hours": state["gpu_seconds"] / 3600 if "gpu_seconds" in state else None,
        "images": state.get("images", 0),
        "disk_gib": state["disk_bytes"] / GIB if "disk_bytes" in state else None,
        "kwh": hours * settings.watts / 1000 if settings.watts else None,
        "price": hours * settings.hour_price if settings.hour_price else None,
    }


def measures_of(unit: dict[str, Any]) -> dict[str, Any]:
    """Returns the measures of a unit that are on record, by name, in the order of the report; none in an old log."""
    known = (unit.get("scores") or {}).get("measures") or {}
    return {name: known[name] for name in MEASURES if known.get(name) is not None}


def lineage_of(nights: Nights, night: str) -> list[dict[str, Any]]:
    """Returns every unit of the taste up to a night: "unit", "parent", "decision", "night", and whether it is served.

    A unit that met several nights is told by the one that made it; unit 0 is the base model.
    """
    taste, found = nights.request(night).taste, {0: {"unit": 0, "parent": None, "decision": "start", "night": ""}}
    for one in nights.all():
        if nights.request(one).taste == taste:
            for unit in nights.read(one)["units"]:
                if "parent" in unit:
                    found[unit["unit"]] = {
                        "unit": unit["unit"],
                        "parent": unit["parent"],
                        "decision": unit.get("decision") or "unfinished",
                        "night": one,
                    }
        if one == night:
            break
    served = _served_now(nights, night)
    return [one | {"served": one["unit"] == served} for one in found.values()]


def _served_now(nights: Nights, night: str) -> int:
    """Returns the unit in use after a night and its verdict."""
    told = BlindEvaluation(nights, night)
    return (told.against if told.summary()["decision"] == "roll_back" else told.unit).unit
