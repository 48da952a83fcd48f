"""M5: what a set grows into from one picture, by `propagate` on the starter models with nobody looking.

Method: per person one taste, 100 labels suggested by the rater, then one night of `propagate` from the labelled UR
picture the person truly likes best, at most one turn a unit. The value is the share of SSR or better among the members
that were taken in, by hidden utilities; beside it the set's size, what the gate turned away as near-copies, how far the
members lie from the picture, and the share that looks like a portrait.
"""

import argparse
from typing import Any

import numpy as np

from konomi.night.engine import preparation, runner
from konomi.night.engine.progress import View
from konomi.night.gateway import services
from konomi.night.guards import GuardSettings
from konomi.night.systems.propagate import growing_set
from konomi.night.systems.registry import night_settings
from tests.benchmarks.night import real as night_real
from tests.benchmarks.night.nights import IMAGES
from tests.benchmarks.night.persons import SSR, UR, NightPerson, persons, table_of
from tests.benchmarks.night.trials import Trial, Trials, by_person, interval, row
from tests.benchmarks.rater import pool as rater_pool

PERSONS, UNITS, LABELS, EVALUATION = 3, 10, 100, 64
GOAL = 0.8


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs what is missing and returns the figures of all finished growths."""
    trials = Trials("growth-real")
    count = 1 if arguments.ci else arguments.persons or PERSONS
    asked = {
        "seed": 0,
        "units": 2 if arguments.ci else arguments.units or UNITS,
        "labels": 40 if arguments.ci else LABELS,
    }
    if not arguments.figures:
        everybody = persons(table_of(rater_pool.load(600 if arguments.ci else IMAGES).records), count)
        with night_real.bed() as bed:
            for person in everybody:
                trials.do({"person": person.number, **asked}, lambda p=person: trial(bed, p, asked))  # type: ignore[misc]
    return figures([one for one in trials.all().values() if one["labels"] == LABELS])


def trial(bed: night_real.Bed, person: NightPerson, asked: dict[str, Any]) -> dict[str, Any]:
    """Grades, lets a set grow from the best UR picture, and tells the truth of what was taken in."""
    gateway = night_real.begun(bed, person, "growth", asked)
    liked, _ = services.graded_ur(gateway, 64)
    if not liked:
        return {"end": "no UR among the labels", "rounds": [], "members": 1}
    seed = liked[int(np.argmax(person.utility(bed.look(liked)[0])))]
    settings = night_settings()(
        units=asked["units"],
        evaluation_images=EVALUATION,
        guidance_scale=night_real.GUIDANCE,
        reserve_gib=0.25,
        seed_images=(seed,),
        seed_class="portrait",
    )
    guards = GuardSettings(units_per_night=UNITS)
    wanted = preparation.new_request("propagate", gateway.taste, asked["seed"], settings, guards, bed.prompts)
    request = bed.nights.begin(wanted.asked, lambda: preparation.complete_request(wanted, bed.session, bed.nights))
    state = runner.run(bed.nights, request, bed.session, lambda: False, View(lambda *_: None, lambda _: None)).plain()
    sets = [one["selection"]["set"] for one in state["units"] if one.get("selection", {}).get("set")]
    return told(bed, person, growing_set.read(gateway, sets[-1]), state) if sets else {"members": 1, "rounds": []}


def told(bed: night_real.Bed, person: NightPerson, grown: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Returns the truth of a set and how its night ended."""
    new = [one for one in grown["members"] if one["digest"] not in grown["originals"]]
    turns = [one["selection"] for one in state["units"] if "near_copy_share" in one.get("selection", {})]
    found = {
        "end": (state["reason"] or {}).get("name", ""),
        "members": len(grown["members"]),
        "rounds": [{"size": turn["size"], "near_copies": turn["near_copy_share"]} for turn in turns],
    }
    if not new:
        return found
    table, portraits = bed.look([one["digest"] for one in new])
    grades = person.grades(person.utility(table))
    cosines = [one["cosine"] for one in new]
    return found | {
        "ssr": float((grades >= SSR).mean()),
        "ur": float((grades == UR).mean()),
        "portraits": portraits,
        "cosine": float(np.mean(cosines)),
        "copies": float(np.mean(np.array(cosines) > night_settings()().near_copy_cosine)),
        "deepest": max(one["depth"] for one in new),
    }


def figures(trials: list[Trial]) -> list[dict[str, Any]]:
    """Returns the rows of M5."""
    grown = [one for one in trials if one["members"] > 1]
    said = (
        ("M5", "members taken in that are truly SSR or better", "ssr", GOAL),
        ("M5 set", "members taken in that are truly UR", "ur", None),
        ("M5 set", "members above .95 to the picture", "copies", 0.05),
        ("M5 set", "members that look like a portrait", "portraits", None),
        ("M5 set", "mean cosine of members to the picture", "cosine", None),
    )
    found = [
        row(
            name,
            f"from one picture (real): {what}",
            interval(by_person(grown, lambda t, k=key: t[k])),
            goal,
            "share",
            len(grown),
        )  # type: ignore[misc]
        for name, what, key, goal in said
    ]
    size = interval(by_person(trials, lambda t: t["members"]))
    return [*found, row("M5 size", "from one picture (real): members of the set", size, 32.0, "images", len(trials))]
