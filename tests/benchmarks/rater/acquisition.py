"""P10: how many labels the acquisition mix needs for the AP(UR) that random labels reach at 100.

Method: 24 simulated persons; 15 typical images first, then batches of ten (8 that settle doubt, 2 random) until 100 of
2,000 images are labelled; beside it 100 drawn at random. At every ten labels a version is fitted and measured
on 2,000 other images. The value is where the mean curve of the mix first reaches the random mean at 100.
"""

from typing import Any

import numpy as np

from konomi_rater.preference.fitting import quick_fit
from konomi_rater.selection import acquisition
from konomi_rater.selection.acquisition import Pool, SuggestionReason
from tests.benchmarks.rater import persons as rater_persons
from tests.benchmarks.rater.baselines import Task, answer_of, fitted, measure
from tests.benchmarks.rater.pool import ImagePool

GOAL, LAST, BATCH = 60, 100, 10


def rows(pool: ImagePool, labelled: int, persons: int, small: bool) -> list[dict[str, Any]]:
    """Returns P10 and the figures around it."""
    last = 40 if small else LAST
    counts = list(range(2 * BATCH, last + 1, BATCH))
    mix: list[list[dict[str, float]]] = []
    random: list[list[dict[str, float]]] = []
    for number in range(persons):
        person = rater_persons.person(pool.records, number)
        chosen, drawn = acquire(pool.embeddings[:labelled], person.said, last, np.random.default_rng((2, number)))
        mix.append(_curve(pool, labelled, person, chosen, drawn, counts))
        order = np.random.default_rng((0, number)).permutation(labelled)[:last]
        random.append(_curve(pool, labelled, person, order, np.ones(last, bool), counts))
        print(f"\r{number + 1} of {persons} persons acquired", end="", flush=True)
    print()
    return _summary(counts, mix, random)


def acquire(
    embeddings: np.ndarray, said: np.ndarray, last: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Labels as SuggestImages would: returns the images in order and which were drawn at random, two of (last,)."""
    chosen: list[int] = []
    drawn: list[bool] = []
    while len(chosen) < last:
        free = np.setdiff1d(np.arange(len(embeddings)), chosen)
        grades = said[chosen]
        ready = len(chosen) >= 5 and len(set(grades.tolist())) > 1
        head = quick_fit(embeddings[chosen], grades, embeddings) if ready else None
        pool = Pool(embeddings[free], np.zeros(len(free)), np.ones(len(free), bool), embeddings[chosen])
        count = min(BATCH, last - len(chosen))
        for row, reason in acquisition.suggest(pool, head, len(chosen), count, 0, rng):
            chosen.append(int(free[row]))
            drawn.append(reason is SuggestionReason.RANDOM)
    return np.array(chosen), np.array(drawn)


def _curve(
    pool: ImagePool,
    labelled: int,
    person: rater_persons.Person,
    order: np.ndarray,
    drawn: np.ndarray,
    counts: list[int],
) -> list[dict[str, float]]:
    found = []
    nothing = np.zeros(0)
    for count in counts:
        part = order[:count]
        task = Task(
            pool.embeddings[part],
            person.said[part],
            nothing,
            pool.embeddings[labelled:],
            nothing,
            pool.embeddings[:labelled],
            None,
            drawn[:count],
        )
        figures = measure(answer_of(fitted(task, None), task), person.again[labelled:])
        found.append({**figures, "ur_found": float((person.said[part] == 5).sum())})
    return found


def _summary(
    counts: list[int], mix: list[list[dict[str, float]]], random: list[list[dict[str, float]]]
) -> list[dict[str, Any]]:
    said = []
    for name in ("ap_ur", "ap_ssr", "srcc", "ece", "ur_found"):
        ours, theirs = (np.nanmean([[at[name] for at in one] for one in part], axis=0) for part in (mix, random))
        for place, count in enumerate(counts):
            said.append(
                _row(
                    "acquisition", f"{name} at {count} labels: the mix against random", ours[place], theirs[place], name
                )
            )
        if name == "ap_ur":
            reached = _reaches(counts, ours, theirs[-1])
            words = f"labels at which the mix reaches random's AP(UR) at {counts[-1]}"
            said.insert(0, _row("P10", words, reached, float(counts[-1]), "labels"))
    return [{**row, "n": len(mix)} for row in said]


def _reaches(counts: list[int], curve: np.ndarray, wanted: float) -> float | None:
    """Returns where a curve first reaches a value, linear between its points; None where it never does."""
    for place, value in enumerate(curve):
        if value >= wanted:
            if place == 0:
                return float(counts[0])
            before = curve[place - 1]
            return float(counts[place - 1] + BATCH * (wanted - before) / (value - before))
    return None


def _row(name: str, what: str, value: float | None, baseline: float, unit: str) -> dict[str, Any]:
    return {"id": name, "what": what, "value": value, "baseline": float(baseline), "unit": unit}
