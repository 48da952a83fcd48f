"""M1: how many labels make a rater that works: precision of its best 1 % of 2,000 unseen images, by number of labels.

Method: 20 simulated persons over real starter images; labels drawn at random or asked for by konomi's queue; beside it
the usual means on the random labels. The value is the smallest number of labels, of 10, 20, 50, 100 and 200, at which
the mean share of SSR or better among the best 20 reaches .6.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from konomi_rater.preference import metrics
from tests.benchmarks.night.persons import SSR, UR, NightPerson, persons, table_of
from tests.benchmarks.night.trials import Trial, Trials, by_person, interval, row
from tests.benchmarks.rater import pool as rater_pool
from tests.benchmarks.rater.acquisition import acquire
from tests.benchmarks.rater.baselines import METHODS, Task

COUNTS = (10, 20, 50, 100, 200)
IMAGES, OPEN, BEST, GOAL = 4000, 2000, 20, 0.6
BESIDE = ("kNN-10", "logistic", "ridge")
METHOD_NAMES = ("konomi, its own queue", "konomi, random labels", *BESIDE)


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs what is missing and returns the figures of all finished persons."""
    trials = Trials("labels")
    if not arguments.figures:
        pool = rater_pool.load(IMAGES)
        table = table_of(pool.records)
        with threadpool_limits(1):
            for seed in range(arguments.seeds or 1):
                for person in persons(table, 3 if arguments.ci else arguments.persons or 20):
                    asked = {"person": person.number, "kind": person.kind, "seed": seed, "counts": list(COUNTS)}
                    trials.do(asked, lambda p=person, s=seed: curves(pool, table, p, s))  # type: ignore[misc]
    return summary(list(trials.all().values()))


def curves(pool: rater_pool.ImagePool, table: np.ndarray, person: NightPerson, seed: int) -> dict[str, Any]:
    """Returns the figures of every method at every number of labels."""
    rng = np.random.default_rng((41, person.number, seed))
    said = np.concatenate([person.say(table[at : at + 1], int(rng.integers(200)), rng) for at in range(OPEN)])
    order = rng.permutation(OPEN)[: COUNTS[-1]]
    asked, drawn = acquire(pool.embeddings[:OPEN], said, COUNTS[-1], rng)
    truth = person.grades(person.utility(table[OPEN:]))
    found: dict[str, Any] = {}
    for count in COUNTS:
        every = np.ones(count, bool)
        found[f"konomi, its own queue/{count}"] = _figures("konomi", pool, said, asked[:count], drawn[:count], truth)
        found[f"konomi, random labels/{count}"] = _figures("konomi", pool, said, order[:count], every, truth)
        for name in BESIDE:
            found[f"{name}/{count}"] = _figures(name, pool, said, order[:count], every, truth)
    return {"figures": found}


def _figures(
    method: str,
    pool: rater_pool.ImagePool,
    said: np.ndarray,
    chosen: np.ndarray,
    drawn: np.ndarray,
    truth: np.ndarray,
) -> Mapping[str, float]:
    nothing = np.zeros(0)
    grades = said[chosen]
    if len(set(grades.tolist())) < 2:
        return {"precision": float((truth >= SSR).mean()), "auc_ur": 0.5, "brier": 0.25, "ece": 0.25}
    others = pool.embeddings[OPEN:]
    task = Task(pool.embeddings[chosen], grades, nothing, others, nothing, pool.embeddings[:OPEN], None, drawn)
    answer = METHODS[method](task)
    best = np.argsort(-(answer.ssr + 1e-9 * answer.order), kind="stable")[:BEST]
    return {
        "precision": float((truth[best] >= SSR).mean()),
        "auc_ur": float(roc_auc_score(truth == UR, answer.ur + 1e-9 * answer.order)),
        "brier": float(metrics.brier(truth >= SSR, answer.ssr)),
        "ece": float(metrics.calibration_error(truth >= SSR, answer.ssr)),
    }


def summary(trials: list[Trial]) -> list[dict[str, Any]]:
    """Returns the rows of M1."""
    found: list[dict[str, Any]] = []
    if not trials:
        return found
    for name in METHOD_NAMES:
        reached = None
        for count in COUNTS:
            for figure in ("precision", "auc_ur", "brier", "ece"):
                values = by_person(trials, lambda t, k=f"{name}/{count}", f=figure: t["figures"][k][f])  # type: ignore[misc]
                said = interval(values)
                if figure == "precision" and said[0] >= GOAL and reached is None:
                    reached = count
                found.append(row("M1 curves", f"{figure} at {count} labels: {name}", said, None, "", len(trials)))
        value = float(reached) if reached else float("nan")
        key = "M1" if name == METHOD_NAMES[0] else "M1 others"
        words = f"labels at which the best 1 % are {GOAL:.0%} SSR or better: {name}"
        found.append(row(key, words, (value, value, value), 200.0, "labels", len(trials)))
    return found
