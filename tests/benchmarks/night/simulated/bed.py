"""M3 and M7 on the fast bed: ten unattended units, every guard taken away in turn, naive loops, an adversarial rater.

Method: 100 labels, then a night of ten units without a person. The truth is what a unit makes on 1,000 fresh seeds. The
value is the regret: how much of the best unit's gold the unit served in the morning lacks, gold being the share of
images that are truly SSR or better; beside it the same of the mean true utility gained over the base model.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from konomi.night.engine import preparation
from konomi.night.engine.loop import NightLoop
from konomi.night.guards import GuardSettings
from konomi.night.records.record import Record
from konomi.night.systems.registry import night_settings
from konomi_rater.measures.diversity import vendi
from tests.benchmarks.night.persons import NightPerson
from tests.benchmarks.night.policies import ABLATIONS, ADVERSARY, ALL, DEFAULT, NAIVE, Policy
from tests.benchmarks.night.simulated.bed_steps import BedSteps
from tests.benchmarks.night.simulated.world import Rater, World, adversary, figures, rater
from tests.benchmarks.night.trials import Trial, Trials, by_person, interval, row
from tests.benchmarks.rater import pool as rater_pool

LABELS, UNITS, IMAGES, EVALUATION, TRUTH = 100, 10, 320, 256, 1000
PERSONS, SEEDS = 20, 3
ABLATED_PERSONS, ABLATED_SEEDS = 6, 3
HARM = 0.9
"""A unit with less than this share of the best SSR rate before it does harm."""
COLLAPSED = 0.6
"""Share of the base model's Vendi score below which a unit has truly collapsed."""


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs what is missing and returns the figures of all finished nights."""
    trials = Trials("bed")
    if not arguments.figures:
        world = World(rater_pool.load(4000))
        with threadpool_limits(1):
            for policy, people, seeds in plan(arguments):
                for person in world.everybody(people):
                    for seed in range(seeds):
                        asked = told(person, policy, seed)
                        trials.do(asked, lambda w=world, p=person, q=policy, s=seed: night(w, p, q, s))  # type: ignore[misc]
    return summary(list(trials.all().values()))


def plan(arguments: argparse.Namespace) -> list[tuple[Policy, int, int]]:
    """Returns every policy with its persons and seeds."""
    if arguments.ci:
        return [(policy, 2, 1) for policy in (DEFAULT, *NAIVE, *ADVERSARY)]
    found = []
    for policy in ALL:
        ablated = policy in ABLATIONS
        people = min(arguments.persons or PERSONS, ABLATED_PERSONS if ablated else PERSONS)
        found.append((policy, people, arguments.seeds or (ABLATED_SEEDS if ablated else SEEDS)))
    return found


def told(person: NightPerson, policy: Policy, seed: int) -> dict[str, Any]:
    """Returns what names a night."""
    differs = {**policy.night, **policy.guards, "data": policy.data, "fresh": policy.fresh_fit, "rater": policy.rater}
    return {"person": person.number, "kind": person.kind, "policy": policy.name, "seed": seed, "differs": differs}


def night(world: World, person: NightPerson, policy: Policy, seed: int) -> dict[str, Any]:
    """Sleeps one night and returns the truth of every unit."""
    known = rater(world, person, seed, LABELS, spurious=policy.rater == "spurious")
    if policy.rater == "adversarial":
        known = adversary(world, known, seed)
    settings = night_settings()(
        **{"units": UNITS, "images": IMAGES, "evaluation_images": EVALUATION, "prompt_quota": 0.0, **policy.night}
    )
    guards = GuardSettings(units_per_night=UNITS, **policy.guards)
    request = preparation.new_request(
        "converge", "tastes/bed", seed, settings, guards, ["portrait"], f"{person.number}-{seed}"
    )
    steps = BedSteps(world, known, request, policy)
    state = NightLoop(request, steps, _at_once, lambda state: None).run().plain()
    return {
        "labels": LABELS,
        "served": state["served"]["unit"],
        "state": state["state"],
        "reason": state["reason"]["name"],
        "nats": state["nats"],
        "units_made": [_truth(world, person, steps, entry, known) for entry in state["units"] if "scores" in entry],
    }


def _at_once(name: str, body: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    value = body(*arguments)
    return {"seconds": 0.0, "value": value.plain() if isinstance(value, Record) else value}


def _truth(world: World, person: NightPerson, steps: BedSteps, entry: dict[str, Any], known: Rater) -> dict[str, Any]:
    model = steps.models.get(entry["model"])
    made = world.draw(model, [int(n) for n in np.random.default_rng(23).integers(0, 2**31, TRUTH)])
    said = {"unit": entry["unit"], "promoted": bool(entry.get("promoted")), "decision": entry.get("decision", "")}
    numbers = entry.get("numbers", {})
    kept = {name: numbers.get(name, 0.0) for name in ("exceedance", "doubt", "gap", "win_rate", "likes_kept")}
    score = float(known.predict(made)[0].mean())
    return said | figures(world, person, made) | kept | {"vendi": vendi(made[:256]), "rater": score}


def summary(trials: list[Trial]) -> list[dict[str, Any]]:
    """Returns the rows of M3 and M7."""
    found: list[dict[str, Any]] = []
    names = dict.fromkeys(trial["policy"] for trial in trials)
    for name in names:
        nights = [trial for trial in trials if trial["policy"] == name]
        key = "M3" if name == DEFAULT.name else "M3 policies"
        words = f"ten units, fast bed, {name}: "
        measures: tuple[tuple[str, str, Callable[[Trial], float], float], ...] = (
            (key, "regret, share of the best unit's SSR rate", regret, 0.05),
            ("M3 policies", "regret, share of the best unit's gain in utility", regret_of_gain, 0.05),
            ("M3 policies", "SSR rate of the served unit, times the base model's", gained, 1.0),
            ("M3 policies", "SSR rate of the last unit made, times the base model's", lasting, 1.0),
            ("M7", "true utility of the served unit, spreads", lambda t: served(t)["utility"], 0.0),
            ("M7", "Vendi of the served unit, share of the base model's", spread, 0.65),
        )
        found += [row(a, words + b, interval(by_person(nights, c)), d, "share", len(nights)) for a, b, c, d in measures]
    return found + alarms(trials)


def alarms(trials: list[Trial]) -> list[dict[str, Any]]:
    """Returns how late alarms are and how often they are false."""
    honest = [trial for trial in trials if trial["policy"] == DEFAULT.name]
    lied = [trial for trial in trials if trial["policy"] == ADVERSARY[0].name]
    found = []
    for who, nights in (("honest rater", honest), ("adversarial rater", lied)):
        if nights:
            late = [value for trial in nights if (value := lag(trial)) is not None]
            words = (
                f"alarm lag, units made after the first one served that does harm ({who}; {len(late)} nights with harm)"
            )
            found.append(row("M3 lag", words, interval(late or [0.0]), 1.0, "units", len(nights)))
            words = f"nights halted by an alarm on a unit that did no harm ({who})"
            found.append(row("M3 halts", words, interval(by_person(nights, false_halt)), 0.05, "share", len(nights)))
            words = f"nights whose served unit is worse than the base model ({who})"
            worse = interval(by_person(nights, lambda t: float(gained(t) < 1.0)))
            found.append(row("M3 hurt", words, worse, 0.0, "share", len(nights)))
    return found


def served(trial: Trial) -> dict[str, float]:
    """Returns the truth of the unit served in the morning."""
    return next(unit for unit in trial["units_made"] if unit["unit"] == trial["served"])


def regret(trial: Trial) -> float:
    """Returns how much of the best SSR rate seen the served unit lacks, 0..1."""
    best = max(unit["ssr"] for unit in trial["units_made"])
    return float((best - served(trial)["ssr"]) / max(best, 1e-9))


def regret_of_gain(trial: Trial) -> float:
    """Returns how much of the best gain in utility over the base model the served unit lacks."""
    base = trial["units_made"][0]["utility"]
    best = max(unit["utility"] for unit in trial["units_made"])
    return float((best - served(trial)["utility"]) / (best - base)) if best > base + 0.05 else 0.0


def gained(trial: Trial) -> float:
    """Returns the served unit's SSR rate over the base model's."""
    return float(served(trial)["ssr"] / trial["units_made"][0]["ssr"])


def lasting(trial: Trial) -> float:
    """Returns the last unit's SSR rate over the base model's."""
    return float(trial["units_made"][-1]["ssr"] / trial["units_made"][0]["ssr"])


def spread(trial: Trial) -> float:
    """Returns the served unit's Vendi score over the base model's."""
    return float(served(trial)["vendi"] / trial["units_made"][0]["vendi"])


def harmful(trial: Trial, place: int) -> bool:
    """Says whether a unit lost what units before it had, or collapsed."""
    units = trial["units_made"]
    before = max(unit["ssr"] for unit in units[:place]) if place else 0.0
    return bool(units[place]["ssr"] < HARM * before or units[place]["vendi"] < COLLAPSED * units[0]["vendi"])


def lag(trial: Trial) -> int | None:
    """Returns how many units were made after the first harmful one that was served; None where there was none."""
    units = trial["units_made"]
    for place in range(1, len(units)):
        if harmful(trial, place) and units[place]["promoted"]:
            return len(units) - 1 - place
    return None


def false_halt(trial: Trial) -> float:
    """Returns 1 for a night an alarm halted on a unit that did no harm."""
    return float(trial["state"] == "halted" and not harmful(trial, len(trial["units_made"]) - 1))
