"""Answers recorded from a real night, for views that need a trainer and a night that these tests do not run."""

import json
from typing import Any

NIGHT = "6975f30d-6f5d-5bb1-acc8-e50bf58650b5"


def figure(value: float) -> dict[str, float]:
    """Returns a share with an interval."""
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 256}


def models() -> dict[str, Any]:
    """Returns three units, one learnt from the other."""
    found: list[dict[str, Any]] = []
    for number in (3, 2, 1):
        parents = [f"m{number - 1}"] if number > 1 else []
        model = {"name": f"models/m{number}", "displayName": f"unit-{number}", "taste": "tastes/default"}
        model |= {"method": "TRAINING_METHOD_LORA", "baseModel": "starter", "parents": parents}
        model |= {"createTime": "2026-11-22T19:49:11Z", "metrics": {"win_rate": 0.57}, "current": number == 3}
        found.append(model)
    return {"models": found}


def checkpoints() -> dict[str, Any]:
    """Returns a fit that was kept at the second of its four checkpoints."""
    rows = ((40, 0.69, 0.81), (80, 0.91, 0.78), (120, 0.87, 0.72), (160, 0.82, 0.7))
    tried = [{"step": step, "wins": figure(wins), "vendi": vendi} for step, wins, vendi in rows]
    return {"kept": 80, "steps": 160, "floor": 0.65, "tried": tried}


def status(digests: list[str]) -> dict[str, Any]:
    """Returns a finished night over the given pictures."""
    units = [
        {
            "unit": number,
            "model": f"m{number}",
            "decision": "promote" if number else "start",
            "wins": figure(0.57) if number else None,
            "wins_base": figure(0.83) if number else None,
            "scores": {"p_ssr": figure(0.2 + 0.1 * number), "vendi": figure(11.0)},
            "sample": digests[12 * number : 12 * number + 12],
            "selected": 32 if number else None,
            "rejected": [],
        }
        for number in range(4)
    ]
    line = {"night": NIGHT, "system": "converge", "state": "finished", "units": 3, "images": 1984, "began": 1.79e9}
    detail = line | {
        "running": False,
        "taste": "tastes/default",
        "served": {"unit": 3, "model": "m3"},
        "in_use": {"unit": 3, "model": "m3"},
        "stopping": False,
        "steps": 40,
        "newest": [],
        "drafts": False,
        "seconds": 152.7,
        "sentences": ["unit-3 was promoted."],
        "figures": units,
        "share": 1.0,
        "eta_seconds": None,
    }
    return {"nights": [line, line | {"night": "another"}], "night": detail}


def under_way(digests: list[str], done: int) -> dict[str, Any]:
    """Returns the same night while it runs and makes its second unit, so many images of 96 into the step."""
    told = status(digests)
    reason = {"reason": "unlike anything known", "count": 7, "examples": digests[:4]}
    units = [unit | {"rejected": [reason] if unit["unit"] == 1 else []} for unit in told["night"]["figures"][:3]]
    now = {"state": "running", "running": True, "doing": "unit-2 · generating images", "done": done, "total": 96}
    made = {"newest": digests[done : done + 12], "share": 0.5, "eta_seconds": 754.0, "figures": units, "steps": 17}
    return told | {"night": told["night"] | now | made}


def pairs(digests: list[str], *, done: bool = False) -> dict[str, Any]:
    """Returns blind pairs, one of them answered, or all of them with what they say."""
    sides = zip(digests[0::2], digests[1::2], strict=False)
    told = [{"left": left, "right": right, "answer": "left" if done else None} for left, right in list(sides)[:4]]
    told[0]["answer"] = "left"
    tally = {"wins": 0, "losses": 4, "ties": 0, "advice": "roll_back"}
    tally["win_rate"] = {"value": 0.0, "low": 0.0, "high": 0.49, "n": 4}
    models = {"unit": {"unit": 3, "model": "m3"}, "against": {"unit": 0, "model": "base"}}
    return models | {"pairs": told, "tally": tally if done else None, "decision": "open", "decisions": []}


def plan() -> dict[str, Any]:
    """Returns what a night would take, more than one of its budgets."""
    budgets = {"hours": 12.0, "images": 50_000, "gpu_hours": 1.0, "disk_gib": 2.0}
    found = {"system": "converge", "units": 3, "images": 1984, "training_steps": 480, "seconds": 9000.0, "kwh": 0.5}
    return found | {"gpu_hours": 2.4, "cost": 1.2, "disk_bytes": 5e7, "budgets": budgets, "ends_by": ["gpu_hours"]}


def bases() -> dict[str, Any]:
    """Returns two base models: one that fits, and one that does so slowly."""
    draws = {"starter": "illustrated portraits only", "sdxl": "whatever a prompt says"}
    lines = [
        {"id": name, "here": True, "fit": fit, "hours": hours, "draws": draws[name]}
        for name, fit, hours in (("starter", "WHOLE", 0.5), ("sdxl", "REDUCED", None))
    ]
    return {"bases": lines, "chosen": "starter", "golden_minimum": 8, "units": 2, "images": 96}


def trial(digests: list[str], *, warning: bool = False) -> dict[str, Any]:
    """Returns what a base model drew; with a warning, that it cannot draw the taste."""
    words = "The base model sdxl cannot draw this taste." if warning else "like what you graded: 95 %"
    told = {"needed": True, "digests": digests[:16], "sentence": words, "warning": warning}
    return told | {"figures": ["like what you graded: 0 %", "near a picture you liked: 0 %"]}


def story(digest: str) -> dict[str, Any]:
    """Returns what is known of an image: graded, grown from another, and trained into a unit."""
    label = {"grade": "UR", "labeller": "owner", "create_time": "2026-11-22T19:49:11Z", "undone": False}
    trained = {"display_name": "unit-1", "images": 41, "role": "selected"}
    return {"labels": [label], "parents": [{"digest": digest, "prompt": "a picture"}], "training_sets": [trained]}


def answers(digests: list[str]) -> dict[str, dict[str, Any]]:
    """Returns every recorded answer by the address that gives it."""
    return {
        "**/konomi.v1.TrainerService/ListModels": models(),
        "**/konomi.page/NightStatus": status(digests),
        "**/konomi.page/NightPairs": pairs(digests),
        "**/konomi.page/NightVerdict": pairs(digests, done=True),
        "**/konomi.page/NightDecide": pairs(digests, done=True) | {"decision": "roll_back"},
        "**/konomi.page/NightPlan": plan(),
        "**/konomi.page/NightBases": bases(),
        "**/konomi.page/NightTrial": trial(digests),
        "**/konomi.page/TastePrompts": {"prompts": ["a temple"], "origin": "kept"},
        "**/konomi.page/Explain": story(digests[0]),
    }


def play(page: Any, digests: list[str]) -> None:
    """Lets a browser hear these answers in place of a trainer's and a night's."""
    for address, body in answers(digests).items():
        page.route(address, spoken(json.dumps(body)))


def spoken(text: str) -> Any:
    """Returns what answers a route with a JSON text."""
    return lambda route: route.fulfill(body=text, content_type="application/json")
