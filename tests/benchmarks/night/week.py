"""M10: what a week of nights does: seven nights on one taste, with a morning of an owner between them.

Method: the first evening the person grades 30 of the base model's images, and the night of 3 units begins. Every
morning she answers the night's twenty blind pairs and keeps its unit or takes it back as they advise, then grades 30
more: 20 of the newest model's images, by the queue, and 10 of any. The value of a day is the share of blind pairs of
fresh seeds in which she truly prefers what is in use to the base model. Beside it one night with all 210 grades, and a
naive loop: seven nights that keep the best 5 % of the last unit's images, train on, and ask nobody.
"""

import argparse
import dataclasses
import time
from typing import Any

from konomi.night import verdict
from konomi.night.gateway.services import NightServices
from konomi.night.records.fit import Model
from konomi.night.verdict import KEEP, ROLL_BACK, BlindEvaluation
from tests.benchmarks.night import real as night_real
from tests.benchmarks.night.nights import IMAGES, SIZES, of_served, regret
from tests.benchmarks.night.persons import NightPerson, persons, table_of
from tests.benchmarks.night.policies import DEFAULT, NAIVE, Policy
from tests.benchmarks.night.trials import Trial, Trials, by_person, interval, row
from tests.benchmarks.rater import pool as rater_pool

NIGHTS, MORNING, NEWEST = 7, 30, 20
PERSONS = 1
PERSONS_IN_ALL = 20
GOALS = {"win": 0.9, "vendi": 0.7}
"""Of day 7."""
LABELS = NIGHTS * MORNING
ONCE = dataclasses.replace(DEFAULT, name=f"one night, {LABELS} grades")
WAYS = (DEFAULT, ONCE, NAIVE[0])


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs what is missing and returns the figures of all finished weeks."""
    trials = Trials("week")
    count = 1 if arguments.ci else arguments.persons or PERSONS
    asked = {"seed": 0, "units": arguments.units or 3, **SIZES, "labels": MORNING, "nights": NIGHTS}
    if arguments.ci:
        asked |= {"units": 1, "images": 48, "evaluation": 48, "fresh": 48, "nights": 2}
    if not arguments.figures:
        everybody = persons(table_of(rater_pool.load(600 if arguments.ci else IMAGES).records), PERSONS_IN_ALL)
        with night_real.bed() as bed:
            for person in everybody[:count]:
                for way in WAYS:
                    told = {"person": person.number, "kind": person.kind, "policy": way.name, **asked}
                    trials.do(told, lambda p=person, w=way: trial(bed, p, w, asked))  # type: ignore[misc]
    return figures([one for one in trials.all().values() if one["nights"] == NIGHTS])


def trial(bed: night_real.Bed, person: NightPerson, way: Policy, asked: dict[str, Any]) -> dict[str, Any]:
    """Lives a week and tells the truth of every day; of the one night only that of its morning."""
    if way is ONCE:
        once = {**asked, "labels": asked["labels"] * asked["nights"], "curve": "served"}
        night = night_real.trial(bed, person, way, once)
        return {"days": [{**of_served(night), "regret": regret(night), "reason": night["reason"]}]}
    gateway = night_real.begun(bed, person, f"week, {way.name}", asked)
    days = []
    for day in range(asked["nights"]):
        if day and not way.naive:
            _grade(bed, gateway, person, asked, day)
        state = night_real.sleep(bed, gateway.taste, way, asked, day)
        said = {} if way.naive else _judge(bed, gateway, person, state["night"])
        verdict.release_unused(bed.session.client, bed.nights, gateway.taste)
        days.append({**_truth(bed, gateway, person, state, asked), **said, "labels": gateway.state().labels})
    return {"days": days}


def _grade(bed: night_real.Bed, gateway: NightServices, person: NightPerson, asked: dict[str, Any], day: int) -> None:
    """Brings the grades to where they are on a morning, so that a week that was cut off goes on."""
    have, goal = gateway.state().labels, (day + 1) * asked["labels"]
    newest = [model.model for model in gateway.models() if model.current]
    for count, units in ((NEWEST, newest), (asked["labels"], [])):
        wanted = min(count, goal - have)
        if wanted > 0:
            have = night_real.grade(bed, gateway, person, asked["seed"], wanted, units)


def _judge(bed: night_real.Bed, gateway: NightServices, person: NightPerson, night: str) -> dict[str, Any]:
    """Answers a night's blind pairs by true utility, and keeps its unit or takes it back as they advise."""
    evaluation = BlindEvaluation(bed.nights, night)
    pairs = evaluation.pairs()
    for place, pair in enumerate(pairs):
        left, right = person.utility(bed.look([pair.left, pair.right])[0])
        evaluation.answer(place, "tie" if left == right else "left" if left > right else "right")
    tally = evaluation.tally()
    if tally is None:
        return {"decision": "nothing to judge"}
    decision = ROLL_BACK if tally.advice == ROLL_BACK else KEEP
    verdict.decide(bed.session.client, evaluation, decision, time.time())
    return {"decision": decision, "pairs_won": tally.win_rate["value"]}


def _truth(
    bed: night_real.Bed, gateway: NightServices, person: NightPerson, state: dict[str, Any], asked: dict[str, Any]
) -> dict[str, Any]:
    """Returns the truth of what is in use after a night, and of how it ended."""
    draws, before = bed.base("fresh", asked["fresh"])
    base, whole = bed.look(before)
    current: Model | None = next((model for model in gateway.models() if model.current), None)
    found = {"reason": (state["reason"] or {}).get("name", ""), "unit": current.unit if current else 0}
    found["units"] = sum("seconds" in one and bool(one["unit"]) for one in state["units"])
    rates = {
        one["unit"]: night_real.figures(person, bed.look(one["evaluation"])[0], base)["ssr"]
        for one in state["units"]
        if one.get("evaluation")
    }
    served = rates.get(found["unit"], rates[0])
    found["regret"] = (max(rates.values()) - served) / max(*rates.values(), 1e-9)
    if current is None:
        return {**found, "win": 0.5, "gain": 0.0, "vendi": 1.0, "realism": whole}
    made = bed.make(gateway, draws, current)
    table, real = bed.look(made)
    vendi = gateway.diversity(made).vendi / gateway.diversity(before).vendi
    return {**found, **night_real.figures(person, table, base), "vendi": vendi, "realism": real}


def figures(trials: list[Trial]) -> list[dict[str, Any]]:
    """Returns the rows of M10: day by day and way by way, and how many nights did harm."""
    found = []
    for way in WAYS:
        weeks = [one for one in trials if one["policy"] == way.name]
        for day in range(max((len(one["days"]) for one in weeks), default=0)):
            for key, words in (("win", "blind win rate"), ("vendi", "Vendi, share of the base model's"),
                               ("ssr", "SSR or better"), ("ur", "UR"), ("regret", "regret")):  # fmt: skip
                said = interval(by_person(weeks, lambda t, d=day, k=key: t["days"][d].get(k, 0.0)))  # type: ignore[misc]
                goal = GOALS.get(key) if day == NIGHTS - 1 else None
                found.append(row("M10", f"{words} after night {day + 1}, {way.name}", said, goal, "share", len(weeks)))
    own = [day for one in trials if one["policy"] == DEFAULT.name for day in one["days"]]
    if own:
        harmful = sum(day["win"] < 0.5 for day in own)
        words = f"nights of {len(own)} after which what is in use loses to the base model"
        found.append(row("M10", words, (float(harmful), float("nan"), float("nan")), 0.0, "nights", len(own)))
    return found
