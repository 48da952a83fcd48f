"""M5: what a set grows into from one picture, by `propagate` on the starter models with nobody looking.

Method: per person one taste, 100 labels suggested by the rater, then one night of `propagate` from the labelled UR
picture the person truly likes best, at most one turn a unit. The value is the share of SSR or better among the members
that were taken in, by hidden utilities; beside it the set's size, what the gate turned away as near-copies, how far the
members lie from the picture, and the share that looks like a portrait. With `--owner 5` one turn a night instead, and
each morning the person grades the first five of the images the night asks about; what is below SSR leaves the set.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from konomi import files
from konomi.night.engine import preparation, runner
from konomi.night.engine.progress import View
from konomi.night.gateway import services
from konomi.night.guards import GuardSettings
from konomi.night.systems.propagate import growing_set
from konomi.night.systems.registry import night_settings
from konomi.v1 import rater_pb2
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
    if arguments.owner:
        asked["owner"] = arguments.owner
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
    owner, state = asked.get("owner", 0), dict[str, Any]()
    for day in range(asked["units"] if owner else 1):
        state = _night(bed, gateway, seed, asked, day)
        if owner:
            _confirm(bed, gateway, person, state["units"][-1].get("selection", {}).get("confirm", ())[:owner], day)
        if state["reason"] and state["reason"]["name"] != "units":
            break
    sets = [one["selection"]["set"] for one in state["units"] if one.get("selection", {}).get("set")]
    if not sets:
        return {"members": 1, "rounds": []}
    grown = growing_set.read(gateway, sets[-1])
    facts = services.facts_of(gateway, [member["digest"] for member in grown["members"]])
    grown, removed, doubted = growing_set.confirmed(grown, facts)
    return {
        "labels_after": gateway.state().labels,
        "left": len(removed),
        "doubted": len(doubted),
        **told(bed, person, grown, state),
    }


def _night(
    bed: night_real.Bed, gateway: services.NightServices, seed: str, asked: dict[str, Any], day: int
) -> dict[str, Any]:
    settings = night_settings()(
        units=1 if asked.get("owner") else asked["units"],
        evaluation_images=EVALUATION,
        guidance_scale=night_real.GUIDANCE,
        reserve_gib=0.25,
        seed_images=(seed,),
        seed_class="portrait",
    )
    guards = GuardSettings(units_per_night=UNITS)
    wanted = preparation.new_request("propagate", gateway.taste, asked["seed"] + day, settings, guards, bed.prompts)
    request = bed.nights.begin(wanted.asked, lambda: preparation.complete_request(wanted, bed.session, bed.nights))
    return dict(
        runner.run(bed.nights, request, bed.session, lambda: False, View(lambda *_: None, lambda _: None)).plain()
    )


def _confirm(
    bed: night_real.Bed, gateway: services.NightServices, person: NightPerson, digests: Sequence[str], day: int
) -> None:
    if not digests:
        return
    rater, have = bed.session.client.rater, gateway.state().labels
    said = person.say(bed.look(digests)[0], have, np.random.default_rng((13, person.number, day)))
    labels = [
        rater_pb2.Label(image_digest=digest, grade=int(grade)) for digest, grade in zip(digests, said, strict=True)
    ]
    rater.record_labels(taste=gateway.taste, labels=labels, request_id=files.derived_id(gateway.taste, *digests))
    for _ in rater.fit_rater(
        taste=gateway.taste, seed=0, request_id=files.derived_id(gateway.taste, "confirmed", str(day))
    ):
        continue


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
