"""M5 on the fast bed: from one image to 32 by five gated doublings, beside ungated growth and augmentation alone.

Method: one image the person truly finds UR, the rater of 100 labels, and the gate of `propagate` (konomi_rater.growth):
16 candidates a member, half from members at img2img's strengths, half from the whole set. What img2img and the word V*
make is stood in for by kernel steps (night_world.py). Purity is the share of the set, the seed left out, that is truly
SSR or better; the value is the gated set's.
"""

import argparse
from typing import Any

import numpy as np
import rater_pool
from night_persons import SSR, UR, NightPerson
from night_trials import Trial, Trials, by_person, interval, row
from night_world import LABELLED, World, rater
from threadpoolctl import threadpool_limits

from konomi_rater.growth import Band, Gate, band, farthest_first, grow
from konomi_rater.novelty import reference_of
from konomi_rater.selection import RejectionReason

LABELS, DOUBLINGS, CANDIDATES = 100, 5, 16
STRENGTHS = (0.3, 0.5, 0.7)
AUGMENTED = 0.2
"""Step of an augmentation: a crop or a mirror image of the same picture."""
COPY = 0.95
KINDS = ("gated", "ungated", "augmentation only")
PERSONS, SEEDS = 6, 3


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs what is missing and returns the figures of all finished sets."""
    trials = Trials("growth")
    if not arguments.figures:
        world = World(rater_pool.load(4000))
        with threadpool_limits(1):
            for person in world.everybody(2 if arguments.ci else arguments.persons or PERSONS):
                for seed in range(1 if arguments.ci else arguments.seeds or SEEDS):
                    asked = {"person": person.number, "kind": person.kind, "seed": seed, "doublings": DOUBLINGS}
                    trials.do(asked, lambda p=person, s=seed: sets(world, p, s))  # type: ignore[misc]
    return summary(list(trials.all().values()))


def sets(world: World, person: NightPerson, seed: int) -> dict[str, Any]:
    """Grows a set of each kind from one image."""
    known = rater(world, person, seed, LABELS)
    rng = np.random.default_rng((51, person.number, seed))
    truth = person.grades(world.utility(person, known.seen))
    best = np.flatnonzero(truth == UR)
    start = known.seen[rng.choice(best if len(best) else np.flatnonzero(truth >= SSR))][None]
    reference = reference_of(np.arange(LABELLED), known.seen)
    found: dict[str, Any] = {}
    for kind in KINDS:
        members, passed = start, []
        around = _step(world, np.repeat(start, 33, axis=0), AUGMENTED, rng)
        allowed = band(np.concatenate([start, around]), COPY)
        for _ in range(DOUBLINGS):
            made = _candidates(world, members, kind, rng)
            far = reference.index.distance(made, np.full(len(made), -1)) > reference.cut(95)
            bounds, least = _bounds(known, made), float(_bounds(known, members).min())
            if kind == "gated":
                refused = dict.fromkeys(np.flatnonzero(far).tolist(), RejectionReason.UNTYPICAL)
                growth = grow(made, bounds, refused, Gate(start, members, least, allowed, room=len(members)))
                taken = growth.taken
                passed.append(growth.passed / len(made))
            else:
                taken = [at for at, _ in farthest_first(made, members)][: len(members)]
            members = np.concatenate([members, made[taken]])
        found[kind] = _figures(world, person, members, start, allowed) | {"passed": passed}
    return {"sets": found}


def _bounds(known: Any, rows: np.ndarray) -> np.ndarray:
    utility, std = known.predict(rows)
    return utility - std


def _candidates(world: World, members: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    many = np.repeat(members, CANDIDATES, axis=0)
    if kind == "augmentation only":
        return _step(world, many, AUGMENTED, rng)
    strengths = np.array([STRENGTHS[at % 3] for at in range(len(many))])
    free = np.arange(len(many)) % 2 == 0
    many[free] = members[rng.integers(0, len(members), int(free.sum()))]
    return _step(world, many, np.where(free, max(STRENGTHS), strengths)[:, None], rng)


def _step(world: World, rows: np.ndarray, step: Any, rng: np.random.Generator) -> np.ndarray:
    moved = rows + step * (rng.standard_normal(rows.shape) @ world.root)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def _figures(
    world: World, person: NightPerson, members: np.ndarray, start: np.ndarray, allowed: Band
) -> dict[str, float]:
    grown = members[1:]
    if not len(grown):
        return {"size": 1, "purity": 1.0, "copies": 0.0, "cosine": 1.0, "low": allowed.low}
    truth, cosines = person.grades(world.utility(person, grown)), (grown @ start.T).max(axis=1)
    return {
        "size": len(members),
        "purity": float((truth >= SSR).mean()),
        "copies": float((cosines > COPY).mean()),
        "cosine": float(cosines.mean()),
        "low": allowed.low,
    }


def summary(trials: list[Trial]) -> list[dict[str, Any]]:
    """Returns the rows of M5."""
    found = []
    words = {
        "purity": ("share truly SSR or better", 0.8),
        "copies": ("near-copies of the seed", 0.05),
        "cosine": ("mean cosine to the seed (drift)", None),
        "size": ("members after five doublings", 32.0),
    }
    for kind in KINDS:
        for figure, (what, goal) in words.items():
            values = by_person(trials, lambda t, k=kind, f=figure: float(t["sets"][k][f]))  # type: ignore[misc]
            key = "M5" if (kind, figure) == (KINDS[0], "purity") else "M5 others"
            if values:
                found.append(row(key, f"1 to 32, fast bed, {kind}: {what}", interval(values), goal, "", len(trials)))
    return found
