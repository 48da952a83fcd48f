"""Accuracy of the taste model: n-shot curves on simulated persons and on human ratings, calibration, P10.

Question: at 10 to 500 labels, is konomi's fit the best or tied with every usual means, and is P(SSR or better) honest?
Method: 24 simulated persons over 2,000 starter images in a fixed random order (they are made by guidance); 1,000 of
them may be labelled, at random, the others are the test; every figure is against what the person says of a fresh image.
Human ratings: emoji.py. P10 and acquisition have a pool of 4,000. The interval is the 95 % bootstrap over persons
(draws, for the emoji) of the mean, or of the mean paired difference.
Minutes on one core: 2 for 2,000 images, 4 for 4,000, once; 4 for the curves; 8 for P10.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from konomi_rater.preference.population.file import Population
from tests.benchmarks.rater import acquisition as rater_acquisition
from tests.benchmarks.rater import emoji as rater_emoji
from tests.benchmarks.rater import persons as rater_persons
from tests.benchmarks.rater import pool as rater_pool
from tests.benchmarks.rater.baselines import METHODS, OWN, Task, measure

COUNTS = (10, 20, 50, 100, 200, 500)
PERSONS, IMAGES, LABELLED = 24, 4000, 2000
CURVES = 2000
"""Images of the curves; half of them may be labelled."""
MEASURES = ("srcc", "ap_ur", "ap_ssr", "precision", "qwk", "ece", "brier")
LOWER_IS_BETTER = ("ece", "brier")
Figures = dict[tuple[int, str], list[dict[str, float]]]


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures what was asked for and returns a row a figure; every single figure goes to build/bench/rater/."""
    persons, counts = (3, (20, 50)) if arguments.small else (PERSONS, COUNTS)
    found: list[dict[str, Any]] = []
    draws = 3 if arguments.small else arguments.draws
    with threadpool_limits(1):
        if {"curves", "calibration"} & set(arguments.ids):
            figures = simulated(persons, counts, CURVES, arguments.seed)
            _keep("simulated", figures)
            if "curves" in arguments.ids:
                found += curves("curves", "simulated persons", figures)
            if "calibration" in arguments.ids:
                found += calibration(figures)
        if "human" in arguments.ids:
            for embedder, part in rater_emoji.figures(counts, draws, arguments.seed).items():
                _keep(f"emoji-{embedder}", part)
                found += curves("human", f"emoji valence, {embedder}", part)
        if "one_person" in arguments.ids:
            part = rater_emoji.figures_of_one(counts, draws, arguments.seed)
            _keep("emoji-of-one", part)
            found += curves("one_person", "one person's emoji", part)
        if {"P10", "acquisition"} & set(arguments.ids):
            pool = rater_pool.load(IMAGES)
            found += rater_acquisition.rows(pool, LABELLED, persons, arguments.small)
    return found


def simulated(persons: int, counts: Iterable[int], images: int, seed: int) -> Figures:
    """Returns the measures of every method for every person at every count, and of konomi on shuffled labels."""
    pool = rater_pool.load(images)
    open_, test = np.split(np.random.default_rng(15).permutation(images), [images // 2])
    scores, head = crowd(pool, open_)
    found: Figures = {}
    for number in range(persons):
        person = rater_persons.person(pool.records, number)
        order = np.random.default_rng((seed, number)).permutation(open_)
        for count in counts:
            chosen = order[:count]
            task = Task(
                pool.embeddings[chosen],
                person.said[chosen],
                scores[chosen],
                pool.embeddings[test],
                scores[test],
                pool.embeddings[open_],
                head,
                np.ones(count, bool),
            )
            for name, method in METHODS.items():
                found.setdefault((count, name), []).append(measure(method(task), person.again[test]))
            mixed = np.random.default_rng((1, seed, number)).permutation(task.grades)
            shuffled = Task(**{**vars(task), "grades": mixed})
            answer = METHODS["konomi"](shuffled)
            found.setdefault((count, "konomi, shuffled labels"), []).append(measure(answer, person.again[test]))
        print(f"\r{number + 1} of {persons} persons", end="", flush=True)
    print()
    return found


def crowd(pool: rater_pool.ImagePool, known: np.ndarray) -> tuple[np.ndarray, Population]:
    """Learns what people in general like from their mean over `known` images: scores (N,) of all, and the head."""
    mean = rater_persons.crowd_mean(pool.records)[known]
    centre = pool.embeddings[known].mean(axis=0, dtype=np.float64)
    rows_ = pool.embeddings[known] - centre
    weights = np.linalg.solve(rows_.T @ rows_ + 0.1 * np.eye(rows_.shape[1]), rows_.T @ (mean - mean.mean()))
    scores = (pool.embeddings - centre) @ weights
    return scores / scores[known].std(), Population(weights[:, None])


def curves(name: str, where: str, figures: Figures) -> list[dict[str, Any]]:
    """Returns konomi against the best rival that knows no more, a row a count and measure, with the difference."""
    said = []
    for count in sorted({count for count, _ in figures}):
        here = {method: values for (at, method), values in figures.items() if at == count and "shuffled" not in method}
        for own in (own for own in OWN if own in here):
            rivals = [method for method in here if method not in OWN and (own == OWN[1] or "population" not in method)]
            for measured in MEASURES:
                means = {method: _mean([one[measured] for one in here[method]]) for method in [own, *rivals]}
                said.append(_duel(name, f"{where}, {count} labels, {measured}", measured, means, figures, count))
    return said


def _duel(
    name: str, what: str, measured: str, means: Mapping[str, float], figures: Figures, count: int
) -> dict[str, Any]:
    """Compares the first method with the best of the others; "worse" only where the interval excludes a tie."""
    sign = -1.0 if measured in LOWER_IS_BETTER else 1.0
    own, *rivals = (method for method in means if np.isfinite(means[method]))
    rival = max(rivals, key=lambda method: sign * means[method])
    low, high = difference(figures, count, measured, own, rival)
    return {
        "id": name,
        "what": f"{what}: {own} against {rival}",
        "value": means[own],
        "baseline": means[rival],
        "unit": measured,
        "n": len(figures[(count, own)]),
        "difference": [low, high],
        "verdict": "worse" if max(sign * low, sign * high) < 0 else "best or tied",
    }


def calibration(figures: Figures) -> list[dict[str, Any]]:
    """Returns the calibration error of P(SSR or better) against the goal of .06 at 100 labels, and elsewhere."""
    said = []
    for (count, method), values in sorted(figures.items()):
        if method in OWN:
            errors = [one["ece"] for one in values]
            low, high = interval(errors)
            what = f"ECE of P(SSR or better), {count} labels drawn at random, {method}"
            said.append(
                {
                    "id": "calibration",
                    "what": what,
                    "value": _mean(errors),
                    "baseline": 0.06,
                    "unit": "ece",
                    "n": len(errors),
                    "interval": [low, high],
                }
            )
    return said


def difference(figures: Figures, count: int, measured: str, one: str, other: str) -> tuple[float, float]:
    """Returns the 95 % interval of the mean paired difference of two methods."""
    pairs = zip(figures[(count, one)], figures[(count, other)], strict=True)
    return interval([left[measured] - right[measured] for left, right in pairs])


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Returns the 95 % percentile-bootstrap interval of a mean; nan values are left out."""
    kept = np.array([value for value in values if np.isfinite(value)])
    if not len(kept):
        return float("nan"), float("nan")
    draws = kept[np.random.default_rng(0).integers(0, len(kept), (2000, len(kept)))].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _mean(values: Iterable[float]) -> float:
    kept = [value for value in values if np.isfinite(value)]
    return float(np.mean(kept)) if kept else float("nan")


def _keep(name: str, figures: Mapping[tuple[int, str], list[dict[str, float]]]) -> None:
    rows_pool = [{"labels": count, "method": method, "figures": values} for (count, method), values in figures.items()]
    rater_pool.FOLDER.mkdir(parents=True, exist_ok=True)
    (rater_pool.FOLDER / f"{name}.json").write_text(json.dumps(rows_pool), "utf-8")
