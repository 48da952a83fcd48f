"""M2: what real nights of the starter do for 100 labels, beside the best of as many images and beside naive loops.

Method: per person and seed one taste, 100 labels suggested by the rater, then one night by the product's own workflow
on its own services. The value is the share of blind pairs (equal prompt and seed, images no guard ever saw) in which
the person truly prefers the served unit to the base model.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from tests.benchmarks.night import real as night_real
from tests.benchmarks.night.persons import NightPerson, persons, table_of
from tests.benchmarks.night.policies import DEFAULT, EVEN, NAIVE, WAYS, Policy
from tests.benchmarks.night.trials import Trial, Trials, at_equal_vendi, by_person, interval, ratio, row
from tests.benchmarks.rater import pool as rater_pool

IMAGES = 4000
SIZES: Mapping[str, int] = {"labels": 100, "images": 320, "evaluation": 128, "fresh": 128}
SMALL: Mapping[str, int] = {"labels": 40, "images": 48, "evaluation": 48, "fresh": 48}
PERSONS = 6
NAIVE_PERSONS = 2
PERSONS_IN_ALL = 20


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs what is missing and returns the figures of all finished nights."""
    trials = Trials("real")
    if not arguments.figures:
        with night_real.bed() as bed:
            for person, policy, asked in plan(arguments):
                trials.do(
                    told(person, policy, asked),
                    lambda p=person, q=policy, a=asked: night_real.trial(bed, p, q, a),  # type: ignore[misc]
                )
    return figures(list(trials.all().values()))


def compared(arguments: argparse.Namespace) -> list[tuple[NightPerson, Policy, dict[str, Any]]]:
    """Returns the nights that compare ways of learning, person by person, so that what is finished can be compared."""
    known = {way.name: way for way in WAYS}
    names = list(known) if arguments.ways == "all" else [name.strip() for name in arguments.ways.split(",")]
    if unknown := set(names) - set(known):
        raise SystemExit(f"expected ways among {', '.join(known)}, found {', '.join(sorted(unknown))}")
    last = arguments.persons or PERSONS_IN_ALL
    everybody = persons(table_of(rater_pool.load(IMAGES).records), PERSONS_IN_ALL)[arguments.skip : last]
    found = []
    for seed in range(arguments.seeds or 1):
        asked = {"seed": seed, "units": arguments.units or 3, **SIZES}
        for person in everybody:
            for name in names:
                curve = "whole" if known[name] is DEFAULT else "served"
                found.append((person, known[name], {**asked, "curve": curve}))
    return found


def plan(arguments: argparse.Namespace) -> list[tuple[NightPerson, Policy, dict[str, Any]]]:
    """Returns the nights to sleep, the most telling first."""
    if arguments.ways:
        return compared(arguments)
    sizes, count = (SMALL, 1) if arguments.ci else (SIZES, arguments.persons or PERSONS)
    units = arguments.units or (2 if arguments.ci else 5)
    table = table_of(rater_pool.load(600 if arguments.ci else IMAGES).records)
    everybody = persons(table, count)
    found = []
    for seed in range(arguments.seeds or 1):
        asked = {"seed": seed, "units": units, **sizes}
        found += [(person, DEFAULT, asked) for person in everybody]
        found += [(person, policy, asked) for person in everybody[:NAIVE_PERSONS] for policy in NAIVE]
    return found


def told(person: NightPerson, policy: Policy, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what names a night."""
    differs = {"night": dict(policy.night), "guards": dict(policy.guards)}
    return {"person": person.number, "kind": person.kind, "policy": policy.name, **asked, "differs": differs}


def figures(trials: list[Trial]) -> list[dict[str, Any]]:
    """Returns the rows of M2 and the real nights' regret."""
    large = [trial for trial in trials if trial["labels"] == SIZES["labels"]]
    found = ways_compared([trial for trial in large if trial.get("curve")])
    large = [trial for trial in large if not trial.get("curve")]
    for policy in (DEFAULT, EVEN, *NAIVE):
        nights = [trial for trial in large if trial["policy"] == policy.name]
        if nights:
            first = not any(one["id"] == "M2" for one in found) and not policy.naive
            found += _of_policy(policy, nights, "M2" if first else "M2 others")
    return found


def ways_compared(trials: list[Trial]) -> list[dict[str, Any]]:
    """Returns the rows of every way of learning, and of its difference to today's at equal Vendi, person by person."""
    found = []
    plain = {(trial["person"], trial["seed"]): trial for trial in trials if trial["policy"] == DEFAULT.name}
    for name in dict.fromkeys(trial["policy"] for trial in trials):
        nights = [trial for trial in trials if trial["policy"] == name]
        for key, words in (("win", "blind win rate"), ("vendi", "Vendi, share of the base model's"),
                           ("ssr", "SSR or better"), ("ur", "UR"), ("realism", "intact")):  # fmt: skip
            said = interval(by_person(nights, lambda t, k=key: of_served(t)[k]))  # type: ignore[misc]
            found.append(row("M2 ways", f"{words} of the served unit, {name}", said, None, "share", len(nights)))
        lost = by_person(nights, lambda t: of_served(t)["realism"] - t["units_made"][0]["realism"])
        words = f"intact of the served unit less the base model's, {name}"
        found.append(row("M2 ways", words, interval(lost), -0.02, "share", len(nights)))
        pairs = [(t, plain[t["person"], t["seed"]]) for t in nights if (t["person"], t["seed"]) in plain]
        if name == DEFAULT.name or not pairs:
            continue
        for key, words in (("win", "blind win rate"), ("gain", "gain, spreads")):
            plus = {t["person"]: of_served(t)[key] - of_served(d)[key] for t, d in pairs}
            found.append(row("M2 ways", f"{words}, {name} less default", interval(plus), 0.0, "share", len(pairs)))
            equal = {t["person"]: d for t, e in pairs if (d := _at_equal_vendi(t, e, key)) is not None}
            words = f"{words} at equal Vendi, {name} less default"
            found.append(row("M2 ways", words, interval(equal), 0.0, "share", len(equal)))
    return found


def of_served(trial: Trial) -> dict[str, float]:
    """Returns the truth of the served unit as it is served; of the base model where that is served still."""
    if trial["scales"]:
        return dict(trial["scales"][0])
    return {**trial["units_made"][0], "win": 0.5, "gain": 0.0, "vendi": 1.0}


def _at_equal_vendi(trial: Trial, plain: Trial, key: str) -> float | None:
    """Returns how much a figure exceeds that of today's way at the same Vendi; None where either serves no unit."""
    if not trial["scales"] or not plain["scales"]:
        return None
    nothing = (1.0, 0.5 if key == "win" else 0.0)
    curve = [nothing, *((one["vendi"], one[key]) for one in plain["scales"])]
    return at_equal_vendi(curve, trial["scales"][0]["vendi"], trial["scales"][0][key])


def _of_policy(policy: Policy, nights: list[Trial], key: str) -> list[dict[str, Any]]:
    who = "" if policy is DEFAULT else f", {policy.name}"
    n = len(nights)
    found = [
        row(
            key,
            f"blind win rate of the served unit against the base model{who} (real nights)",
            interval(by_person(nights, lambda t: served(t)["win"])),
            0.5,
            "share",
            n,
        )
    ]
    for name, words in (("ur", "UR yield"), ("ssr", "yield of SSR or better")):
        above = by_person(nights, lambda t, k=name: served(t)[k])  # type: ignore[misc]
        below = by_person(nights, lambda t, k=name: served(t)[f"{k}_base"])  # type: ignore[misc]
        said = row(
            "M2 yield", f"{words} of the served unit, times the base model's{who}", ratio(above, below), 1.0, "x", n
        )
        found.append(said)
    for place in (1, 3, 5):
        reached = [trial for trial in nights if len(trial["units_made"]) > place]
        if reached:
            words = f"blind win rate of unit {place} against the base model{who} (real nights)"
            said = interval(by_person(reached, lambda t, k=place: t["units_made"][k]["blind"]["win"]))  # type: ignore[misc]
            found.append(row("M2 units", words, said, 0.5, "share", len(reached)))
    words = f"regret of the served unit, share of the best unit's SSR rate{who} (real nights)"
    found.append(row("M3 real", words, interval(by_person(nights, regret)), 0.05, "share", n))
    found.append(
        row(
            "M7 real",
            f"Vendi of the served unit, share of the base model's{who}",
            interval(by_person(nights, spread)),
            0.65,
            "share",
            n,
        )
    )
    return found


def served(trial: Trial) -> dict[str, float]:
    """Returns the truth of the served unit's blind pairs; of the base model where it is served still."""
    for unit in trial["units_made"]:
        if unit["unit"] == trial["served"] and unit["unit"]:
            return dict(unit["blind"])
    base = trial["units_made"][0]
    return {**base, "win": 0.5}


def regret(trial: Trial) -> float:
    """Returns how much of the best unit's SSR rate the served one lacks; the rates are of the same evaluation draws."""
    rates = {unit["unit"]: unit["ssr"] for unit in trial["units_made"]}
    best = max(rates.values())
    return (best - rates[trial["served"]]) / max(best, 1e-9)


def spread(trial: Trial) -> float:
    """Returns the served unit's Vendi score as a share of the base model's."""
    scores = {unit["unit"]: unit["vendi"] for unit in trial["units_made"]}
    return float(scores[trial["served"]] / scores[0])
