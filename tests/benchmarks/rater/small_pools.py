"""Small pools: are suggestions ever worse than labels drawn at random, where a taste has 40, 100 or 1,000 images?

Question: of a pool that runs out, does what is suggested teach the rater less than chance would?
Method: each person's pool is drawn anew, by two seeds; suggestions as SuggestImages gives them, in tens, beside labels
drawn at random from the same pool in the same run; at each count one quick fit of either, measured on images of no pool
(1,000 starter portraits, 200 emoji). Every figure is the mean over persons with the 95 % bootstrap interval of the
paired difference, a person's seeds averaged first. Beds: simulated persons over starter portraits; the valence of emoji
under `timm:tf_efficientnet_lite0`, where a pool of 1,000 cannot be drawn. `make bench-rater ARGS="--only small_pools"`.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from konomi_rater.preference import metrics
from konomi_rater.preference.fitting import quick_fit
from tests.benchmarks.rater import emoji as rater_emoji
from tests.benchmarks.rater import persons as rater_persons
from tests.benchmarks.rater import pool as rater_pool
from tests.benchmarks.rater.acquisition import acquire
from tests.benchmarks.rater.taste import interval

IMAGES, TESTED, EMOJI_TESTED = 2000, 1000, 200
COUNTS: Mapping[int, Sequence[int]] = {40: (10, 20, 30, 36), 100: (20, 30, 50, 70, 80, 90), 1000: (20, 40, 60, 100)}
MEASURES = ("srcc", "ap_ssr", "ap_ur")
FIRST_PERSON, PERSONS, SEEDS = 400, 24, 2
"""Persons nobody tuned anything on before this benchmark."""
DRAWS = 60


@dataclass(frozen=True)
class Ground:
    """One person's pool and the images that judge what was learnt from it.

    Attributes:
        pool: (N, D) embeddings that may be labelled.
        said: (N,) grades given when asked.
        test: (M, D) embeddings of other images.
        truth: (M,) grades given to them.
    """

    pool: np.ndarray
    said: np.ndarray
    test: np.ndarray
    truth: np.ndarray


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields the difference to random of every measure, at every count of every pool."""
    persons, draws = (2, 2) if arguments.small else (PERSONS, DRAWS)
    with threadpool_limits(1):
        for size, counts in COUNTS.items():
            grounds = [[_portraits(person, seed, size) for seed in range(SEEDS)] for person in range(persons)]
            yield from _compared(f"portraits, pool of {size}", grounds, counts)
        for size in (40, 100):
            yield from _compared(f"emoji, pool of {size}", _emoji(draws, size), COUNTS[size])


def _portraits(person: int, seed: int, size: int) -> Ground:
    images = rater_pool.load(IMAGES)
    judge = rater_persons.person(images.records, FIRST_PERSON + person)
    chosen = np.random.default_rng((11, FIRST_PERSON + person, seed, size)).permutation(IMAGES - TESTED)[:size]
    test = slice(IMAGES - TESTED, IMAGES)
    return Ground(images.embeddings[chosen], judge.said[chosen], images.embeddings[test], judge.again[test])


def _emoji(draws: int, size: int) -> list[list[Ground]]:
    embeddings, grades = rater_emoji.graded("efficientnet-lite0")
    orders = [np.random.default_rng((5, draw)).permutation(len(grades)) for draw in range(draws)]
    return [
        [Ground(embeddings[pool], grades[pool], embeddings[test], grades[test])]
        for pool, test in ((o[EMOJI_TESTED : EMOJI_TESTED + size], o[:EMOJI_TESTED]) for o in orders)
    ]


def _compared(bed: str, grounds: Sequence[Sequence[Ground]], counts: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yields the rows of one bed: grounds of each person, averaged first."""
    pairs = np.array(
        [
            np.nanmean([_pair(g, counts, (person, seed)) for seed, g in enumerate(own)], axis=0)
            for person, own in enumerate(grounds)
        ]
    )  # (persons, 2, counts, measures)
    difference = pairs[:, 0] - pairs[:, 1]
    for place, count in enumerate(counts):
        for at, name in enumerate(MEASURES):
            ours, theirs = pairs[:, :, place, at].mean(axis=0)
            low, high = interval(difference[:, place, at])
            verdict = "worse" if high < 0 else "better" if low > 0 else "tied"
            yield {
                "id": "small_pools",
                "what": f"{bed}, {name} at {count} labels: suggested against random",
                "value": float(ours),
                "baseline": float(theirs),
                "unit": name,
                "n": len(pairs),
                "difference": [low, high],
                "verdict": f"{verdict}, {ours - theirs:+.3f} ({low:+.3f} to {high:+.3f})",
            }


def _pair(ground: Ground, counts: Sequence[int], seed: tuple[int, int]) -> np.ndarray:
    """Returns what is learnt from suggestions and from chance: (2, counts, measures)."""
    suggested, _ = acquire(ground.pool, ground.said, counts[-1], np.random.default_rng((2, *seed)))
    drawn = np.random.default_rng((3, *seed)).permutation(len(ground.pool))
    return np.array([[_learnt(ground, order[:count]) for count in counts] for order in (suggested, drawn)])


def _learnt(ground: Ground, labelled: np.ndarray) -> list[float]:
    grades = ground.said[labelled]
    if len(set(grades.tolist())) < 2:
        return [np.nan] * len(MEASURES)
    said = quick_fit(ground.pool[labelled], grades, ground.pool).predict(ground.test)
    return [
        metrics.spearman(ground.truth, said.utility),
        metrics.average_precision(ground.truth >= 4, said.probabilities[:, 3:].sum(axis=1)),
        metrics.average_precision(ground.truth == 5, said.probabilities[:, 4]),
    ]
