"""M4: likes a person did not know, found in 200 labels: konomi's queue beside greedy, random, novelty, uncertainty.

Method: the six persons with a hidden region of at most 0.5 % of the base model's images; 3,000 real images to show, in
batches of 20 after the same typical start of 20. An island, as registered in the design: a cell of 64 predicted below
the median of all cells when it was first shown, of whose at most ten images shown then at least three were graded SSR
or better. UR yield is the share of UR among the 20 of 1,000 other images the rater fitted at the end likes best. The
value is islands a person; its ratio is to greedy's, where greedy found none to one island among all persons.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from konomi_rater.measures.cells import Cells, divide
from konomi_rater.measures.novelty import NeighbourIndex, reference_of
from konomi_rater.preference.fitting import quick_fit
from konomi_rater.preference.head import Head
from konomi_rater.selection.acquisition import Pool, SuggestionReason, suggest
from tests.benchmarks.night.persons import SSR, UR, NightPerson, persons, table_of
from tests.benchmarks.night.trials import Trial, Trials, by_person, interval, ratio, row
from tests.benchmarks.rater import pool as rater_pool

IMAGES, SHOWN, LABELS, START, BATCH, CELLS = 4000, 3000, 200, 20, 20, 64
LEAST, MOST = 3, 10
"""Images graded SSR or better, of at most so many shown, that make a cell an island."""
BEST = 20
SEEDS = 3
EXPLOIT, DOUBT = 0.5, 0.35
"""Shares of the design's slate; the rest is novel, from the cells least visited."""


@dataclass
class Search:
    """One person's labelling so far.

    Attributes:
        embeddings: (N, D) images that may be shown.
        table: (N, C) their attributes.
        plausible: (N,) bool, inside the typicality gate.
        cells: division of the space.
        rng: source of randomness.
        order: rows shown, in order.
        grades: what was said of them.
        low: cell to whether it was predicted below the median when first shown with a rater.
        after: cell to the grades from then on.
        surprises: rows liked although their cell was predicted below the median, newest last.
    """

    embeddings: np.ndarray
    table: np.ndarray
    plausible: np.ndarray
    cells: Cells
    rng: np.random.Generator
    order: list[int] = field(default_factory=list)
    grades: list[int] = field(default_factory=list)
    low: dict[int, bool] = field(default_factory=dict)
    after: dict[int, list[int]] = field(default_factory=dict)
    surprises: list[int] = field(default_factory=list)

    def novelty(self, rows: np.ndarray) -> np.ndarray:
        """Returns the mean distance of rows to the five nearest graded images."""
        index: NeighbourIndex = reference_of(np.arange(len(self.order)), self.embeddings[self.order]).index
        return index.distance(self.embeddings[rows], np.full(len(rows), -1), 5)


SHIPPED = "konomi's queue, 15 % novel"
"""What SuggestImages does when it is asked for so many novel images: the figure of M4."""
FOLLOW = 3
"""Neighbours of each surprise that are shown."""

Strategy = Callable[[Search, np.ndarray, Head, int], list[int]]
"""(search, rows still free, head, how many) → rows to show."""


def greedy(search: Search, free: np.ndarray, head: Head, count: int) -> list[int]:
    """Shows what the rater likes best."""
    return _top(free, head.predict(search.embeddings[free]).utility, count)


def random(search: Search, free: np.ndarray, head: Head, count: int) -> list[int]:
    """Shows anything."""
    return [int(row) for row in search.rng.permutation(free)[:count]]


def uncertain(search: Search, free: np.ndarray, head: Head, count: int) -> list[int]:
    """Shows what the rater doubts most."""
    return _top(free, head.predict(search.embeddings[free]).std, count)


def novel(search: Search, free: np.ndarray, head: Head, count: int) -> list[int]:
    """Shows the farthest from everything graded, one by one."""
    return _suggested(search, free, head, count, count)


def mix(search: Search, free: np.ndarray, head: Head, count: int) -> list[int]:
    """Shows what SuggestImages does, with 15 % novel among it."""
    return _suggested(search, free, head, count, round(0.15 * count))


def slate(search: Search, free: np.ndarray, head: Head, count: int) -> list[int]:
    """Shows the design's slate: half liked best, 35 % doubted most, 15 % far from everything in cells least visited."""
    said = head.predict(search.embeddings[free])
    best = _top(free, said.utility - said.std, round(EXPLOIT * count))
    rest = np.setdiff1d(free, best)
    doubted = _top(rest, head.predict(search.embeddings[rest]).std, round(DOUBT * count))
    rest = np.setdiff1d(rest, doubted)
    rest = rest[search.plausible[rest]]
    visits = np.bincount(search.cells.of(search.embeddings[search.order]), minlength=CELLS)
    chosen = best + doubted
    own, far = search.cells.of(search.embeddings[rest]), search.novelty(rest)
    while len(chosen) < count:
        at = int(np.lexsort((-far, visits[own]))[0])
        chosen.append(int(rest[at]))
        visits[own[at]] += 1
        far[at] = -1.0
        own[at] = int(np.argmax(visits))
    return chosen


def following(search: Search, free: np.ndarray, head: Head, count: int) -> list[int]:
    """Shows the slate, but its novel places go to the nearest of what was liked against expectation, newest first."""
    spare = count - round(EXPLOIT * count) - round(DOUBT * count)
    lured: list[int] = []
    for liked in reversed(search.surprises):
        rest = np.setdiff1d(free, lured)
        near = _top(rest, search.embeddings[rest] @ search.embeddings[liked], FOLLOW)
        lured += near[: spare - len(lured)]
    return lured + slate(search, np.setdiff1d(free, lured), head, count - len(lured))


STRATEGIES: Mapping[str, Strategy] = {
    "slate": slate,
    "slate that follows surprises": following,
    SHIPPED: mix,
    "greedy": greedy,
    "random": random,
    "novelty only": novel,
    "uncertainty only": uncertain,
}


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs what is missing and returns the figures of all finished searches."""
    trials = Trials("islands")
    if not arguments.figures:
        pool = rater_pool.load(IMAGES)
        table = table_of(pool.records)
        people = [person for person in persons(table) if person.hidden][: 2 if arguments.ci else 6]
        with threadpool_limits(1):
            for seed in range(1 if arguments.ci else arguments.seeds or SEEDS):
                for person in people:
                    for name in STRATEGIES:
                        asked = {"person": person.number, "seed": seed, "strategy": name, "labels": LABELS}
                        trials.do(asked, lambda p=person, n=name, s=seed: search(pool, table, p, n, s))  # type: ignore[misc]
    return summary(list(trials.all().values()))


def search(pool: rater_pool.ImagePool, table: np.ndarray, person: NightPerson, name: str, seed: int) -> dict[str, Any]:
    """Lets a person grade 200 images as a strategy shows them; returns the islands and what the rater is worth."""
    shown = pool.embeddings[:SHOWN]
    reference = reference_of(np.arange(SHOWN), shown)
    plausible = reference.index.distance(shown, np.arange(SHOWN)) <= reference.cut(95)
    now = Search(
        shown, table[:SHOWN], plausible, divide(shown, CELLS, 0), np.random.default_rng((31, person.number, seed))
    )
    start = Pool(shown, np.zeros(SHOWN), plausible)
    _show(now, person, [row for row, _ in suggest(start, None, 0, START, 0, now.rng)], None)
    while len(now.order) < LABELS:
        head = quick_fit(shown[now.order], np.array(now.grades), shown)
        free = np.setdiff1d(np.arange(SHOWN), now.order)
        _show(now, person, STRATEGIES[name](now, free, head, min(BATCH, LABELS - len(now.order))), head)
    head = quick_fit(shown[now.order], np.array(now.grades), shown)
    said = head.predict(pool.embeddings[SHOWN:])
    truth = person.grades(person.utility(table[SHOWN:]))
    best = np.argsort(-said.probabilities[:, 4] - 1e-6 * said.utility)[:BEST]
    inside = person.inside(now.table[now.order]) > 0
    return {
        "islands": sum(islands(now).values()),
        "hidden_shown": int(inside.sum()),
        "first": int(np.argmax(inside)) + 1 if inside.any() else LABELS,
        "ur_yield": float((truth[best] == UR).mean()),
        "ssr_yield": float((truth[best] >= SSR).mean()),
        "ur_found": sum(grade == UR for grade in now.grades),
    }


def islands(now: Search) -> dict[int, bool]:
    """Returns which cells predicted below the median turned out to be liked."""
    return {
        cell: low and sum(grade >= SSR for grade in now.after[cell][:MOST]) >= LEAST for cell, low in now.low.items()
    }


def _show(now: Search, person: NightPerson, chosen: list[int], head: Head | None) -> None:
    """Lets the person grade images, after noting what the rater expected of their cells."""
    if head is not None:
        own = now.cells.of(now.embeddings)
        said = head.predict(now.embeddings).utility
        level = np.array([said[own == cell].mean() for cell in range(CELLS)])
        for cell in {int(own[row]) for row in chosen} - set(now.low):
            now.low[cell] = bool(level[cell] < np.median(level))
    for at in chosen:
        grade = int(person.say(now.table[at : at + 1], len(now.order), now.rng)[0])
        now.order.append(at)
        now.grades.append(grade)
        if head is not None:
            cell = int(now.cells.of(now.embeddings[at : at + 1])[0])
            now.after.setdefault(cell, []).append(grade)
            if grade >= SSR and now.low[cell]:
                now.surprises.append(at)


def _suggested(search: Search, free: np.ndarray, head: Head, count: int, far: int) -> list[int]:
    pool = Pool(search.embeddings[free], search.novelty(free), search.plausible[free], search.embeddings[search.order])
    picks = suggest(pool, head, len(search.order), count, far, search.rng)
    assert all(isinstance(reason, SuggestionReason) for _, reason in picks)
    return [int(free[place]) for place, _ in picks]


def _top(free: np.ndarray, worth: np.ndarray, count: int) -> list[int]:
    return [int(row) for row in free[np.argsort(-worth, kind="stable")[:count]]]


def summary(trials: list[Trial]) -> list[dict[str, Any]]:
    """Returns the rows of M4; that of the shipped queue is the figure."""
    found = []
    words = {
        "islands": "islands found in 200 labels",
        "ur_yield": "share of UR in the final rater's top 20 of 1,000",
        "hidden_shown": "images of the hidden region shown in 200 labels",
        "first": "labels to the first image of the hidden region",
        "ur_found": "UR graded in 200 labels",
    }
    for figure, what in words.items():
        of = {
            name: by_person([t for t in trials if t["strategy"] == name], lambda t, f=figure: float(t[f]))  # type: ignore[misc]
            for name in STRATEGIES
        }
        for name, values in of.items():
            if not values:
                continue
            base = interval(of["greedy"])[0] if of["greedy"] else None
            key = "M4" if (figure, name) == ("islands", SHIPPED) else "M4 others"
            n = sum(t["strategy"] == name for t in trials)
            said = row(key, f"{what}: {name}, against greedy", interval(values), base, "", n)
            if of["greedy"]:
                floor = 1 / len(of["greedy"])
                said["ratio"], low, high = ratio(values, of["greedy"], floor)
                said["ratio_interval"] = [low, high]
            found.append(said)
    return found
