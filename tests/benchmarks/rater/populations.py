"""What a population adds while labels are few, and what a wrong one costs, on simulated persons.

Question: at 20 labels, does a population learnt from other people's ratings raise a rater's rank agreement by .03, and
does one of people of another taste cost at most .01? Both as differences from a fit without any, of the same labels
in the same run.
Method: the simulated persons (persons.py: half of an additive taste is shared by all) over 1,600 starter images, 800
of which may be labelled, at random; the other 800 are the test, against what the person says of them another time. The
population is learnt as `konomi population fit` learns it: 30 other people grade 60 of the 800 each. The wrong one is
learnt alike from 30 people who share another taste. "forced" is the same prior without the owner's say. The interval
is the 95 % bootstrap over persons of the mean difference. Minutes on one core: 4 for the images, once; 3 for the fits.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from konomi_rater.preference.features import learn_features, with_population
from konomi_rater.preference.fitting import Fitted, fit
from konomi_rater.preference.head import fit_head, kind_for
from konomi_rater.preference.metrics import spearman
from konomi_rater.preference.population.crowd import Ratings, fit_crowd, mean_ratings
from konomi_rater.preference.population.file import Population
from konomi_rater.preference.training import Training
from konomi_starter.persons.utility import QUANTILES
from tests.benchmarks.rater import persons as rater_persons
from tests.benchmarks.rater import pool as rater_pool
from tests.benchmarks.rater.taste import interval

IMAGES, LABELLED, PERSONS, SEEDS = 1600, 800, 24, 2
COUNTS = (10, 20, 50, 100)
OTHERS, EACH = 30, 60
"""People of a population, and images each of them grades."""
GOALS = {"right": 0.03, "wrong": -0.01}


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields a row a count and population: the mean difference, its interval, how often it was used."""
    persons, counts = (4, (20,)) if arguments.small else (PERSONS, COUNTS)
    pool = rater_pool.load(IMAGES)
    with threadpool_limits(1):
        crowds = {"right": crowd(pool, 12345, arguments.seed), "wrong": crowd(pool, 54321, arguments.seed)}
        for count in counts:
            found = [_one(pool, crowds, number, count, seed) for number in range(persons) for seed in range(SEEDS)]
            for kind in crowds:
                yield _row(kind, count, found, persons)


def crowd(pool: rater_pool.ImagePool, common: int, seed: int) -> Population:
    """Learns a population from the grades of OTHERS people who share half of a taste, named by its seed."""
    rng = np.random.default_rng((9, seed))
    shared = np.random.default_rng(common).standard_normal(len(rater_persons.COLUMNS))
    table = np.array([[record[name] == value for name, value in rater_persons.COLUMNS] for record in pool.records])
    people = []
    for _ in range(OTHERS):
        own = rng.standard_normal(len(shared))
        utility = table @ (np.sqrt(rater_persons.SHARED) * shared + np.sqrt(1 - rater_persons.SHARED) * own)
        utility = (utility - utility.mean()) / utility.std()
        cuts = np.quantile(utility, QUANTILES)
        grades = 1 + np.searchsorted(cuts, utility + 0.35 * rng.standard_normal(len(utility)))
        seen = rng.choice(LABELLED, EACH, replace=False)
        people.append(Ratings(seen, grades[seen].astype(float)))
    said = mean_ratings(people)
    return Population(fit_crowd(pool.embeddings[said.images], said, pool.embeddings[:LABELLED]).weights)


def _one(
    pool: rater_pool.ImagePool, crowds: dict[str, Population], number: int, count: int, seed: int
) -> dict[str, dict[str, float]]:
    """Returns, for one person and draw of labels, the figures of each population and of none."""
    person = rater_persons.person(pool.records, number)
    chosen = np.random.default_rng((seed, number)).permutation(LABELLED)[:count]
    background = pool.embeddings[:LABELLED]

    def fitted(*populations: Population) -> Fitted:
        groups = [str(row) for row in chosen]
        drawn = np.ones(count, bool)
        training = Training(
            pool.embeddings[chosen], person.said[chosen], groups, drawn, background, populations=populations
        )
        *_, last = fit(training, seed)
        assert isinstance(last, Fitted)
        return last

    def agreement(predict: Callable[[np.ndarray], np.ndarray]) -> float:
        return spearman(person.again[LABELLED:], predict(pool.embeddings[LABELLED:]))

    none = agreement(lambda rows: fitted().head.predict(rows).utility)
    kind, plain = kind_for(count), learn_features(background)
    bare = fit_head(kind, plain, pool.embeddings[chosen], person.said[chosen])
    alone = agreement(lambda rows: bare.predict(rows).utility)
    figures = {"none": {"srcc": none}}
    for name, population in crowds.items():
        last = fitted(population)
        features = with_population(plain, background, population)
        forced = fit_head(kind, features, pool.embeddings[chosen], person.said[chosen])
        figures[name] = {
            "srcc": agreement(lambda rows, head=last.head: head.predict(rows).utility),  # type: ignore[misc]
            "forced": agreement(lambda rows, head=forced: head.predict(rows).utility) - alone,  # type: ignore[misc]
            "used": float(last.benefits[0].used),
        }
    return figures


def _row(kind: str, count: int, found: list[dict[str, dict[str, float]]], persons: int) -> dict[str, Any]:
    gains = np.array([one[kind]["srcc"] - one["none"]["srcc"] for one in found]).reshape(persons, -1).mean(axis=1)
    forced = np.array([one[kind]["forced"] for one in found]).reshape(persons, -1).mean(axis=1)
    low, high = interval(gains)
    goal = GOALS[kind] if count == 20 else None
    return {
        "id": "population",
        "what": f"{kind} population, {count} labels: SRCC with it in the home against none",
        "value": float(np.mean([one[kind]["srcc"] for one in found])),
        "baseline": float(np.mean([one["none"]["srcc"] for one in found])),
        "unit": "srcc",
        "n": persons,
        "gain": float(gains.mean()),
        "difference": [low, high],
        "forced": float(forced.mean()),
        "forced_difference": list(interval(forced)),
        "used": float(np.mean([one[kind]["used"] for one in found])),
        "goal": goal,
        "verdict": "" if goal is None else "met" if gains.mean() >= goal else "missed",
    }
