"""What other people like: learnt from ratings on any scale, kept without them, weighed by held-out labels."""

from pathlib import Path

import numpy as np
import pytest

from konomi.errors import FailedPrecondition
from konomi_rater.preference.fitting import fit
from konomi_rater.preference.metrics import Estimate, spearman
from konomi_rater.preference.population.crowd import LEAST_RATINGS, Ratings, fit_crowd, mean_ratings
from konomi_rater.preference.population.file import (
    Population,
    PopulationRecord,
    PopulationSource,
    from_bytes,
    joined,
    read_populations,
    to_bytes,
)
from konomi_rater.preference.training import Training


def world(seed: int, images: int = 900, dimensions: int = 32):
    """Unit rows, a taste that is shared, and one that is another's."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((images, dimensions)) * np.arange(1, dimensions + 1) ** -0.5
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rng, rows, *rng.standard_normal((2, dimensions))


def person(rng, rows, shared):
    """Hidden utility of one of those who share a taste, and the grades they give."""
    wanted = rows @ (0.7 * shared + 0.7 * rng.standard_normal(rows.shape[1]))
    wanted = (wanted - wanted.mean()) / wanted.std()
    said = wanted + 0.3 * rng.standard_normal(len(rows))
    return wanted, 1 + np.searchsorted(np.quantile(wanted, [0.3, 0.6, 0.82, 0.94]), said)


def crowd(rng, rows, shared, count: int = 30, each: int = 40) -> Population:
    people = []
    for _ in range(count):
        _, grades = person(rng, rows, shared)
        seen = rng.choice(len(rows), each, replace=False)
        people.append(Ratings(seen, grades[seen].astype(float)))
    said = mean_ratings(people)
    return Population(fit_crowd(rows[said.images], said, rows).weights, "crowd")


def test_a_crowd_is_learnt_whatever_scale_each_rates_on():
    rng, rows, shared, _ = world(0)
    scales = [(1.0, 0.0), (0.1, 5.0), (40.0, -7.0)]
    people, plain = [], []
    for number in range(12):
        seen = rng.choice(len(rows), 60, replace=False)
        values = (rows @ shared)[seen]
        factor, level = scales[number % 3]
        people.append(Ratings(seen, values * factor + level))
        plain.append(Ratings(seen, values))
    said, alike = mean_ratings(people), mean_ratings(plain)
    assert np.allclose(said.mean, alike.mean) and said.raters == 12
    learnt = fit_crowd(rows[said.images], said, rows)
    assert spearman(rows @ learnt.weights[:, 0], rows @ shared) > 0.9
    assert learnt.srcc is not None and learnt.srcc.n == len(said.images) and learnt.srcc.low > 0.5


def test_who_said_too_little_or_one_thing_is_not_heard_and_the_last_word_counts():
    few = Ratings(np.arange(LEAST_RATINGS - 1), np.arange(LEAST_RATINGS - 1.0))
    one = Ratings(np.arange(9), np.full(9, 3.0))
    twice = Ratings(np.array([0, 1, 2, 3, 4, 0]), np.array([9.0, 1.0, 2.0, 3.0, 4.0, 0.0]))
    said = mean_ratings([few, one, twice])
    assert said.raters == 1 and said.images.tolist() == [0, 1, 2, 3, 4]
    assert np.argsort(said.mean).tolist() == [0, 1, 2, 3, 4]
    assert mean_ratings([]).raters == 0


def test_more_images_than_numbers_and_fewer_agree():
    """Both ways to the same ridge: by the images, and by the numbers of a vector."""
    rng, rows, shared, _ = world(3)
    for count in (25, 600):
        seen = rng.choice(len(rows), count, replace=False)
        said = mean_ratings([Ratings(seen, (rows @ shared)[seen])] * 3)
        learnt = fit_crowd(rows[said.images], said, rows)
        assert spearman(rows @ learnt.weights[:, 0], rows @ shared) > 0.7


@pytest.mark.slow
def test_a_right_prior_helps_and_a_wrong_one_is_mostly_dropped():
    gains: dict[str, list[float]] = {"right": [], "wrong": []}
    used: dict[str, list[bool]] = {"right": [], "wrong": []}
    for seed in range(12):
        rng, rows, shared, other = world(seed)
        priors = {"right": crowd(rng, rows, shared), "wrong": crowd(rng, rows, other)}
        wanted, grades = person(rng, rows, shared)

        def fitted(*populations: Population, rows=rows, grades=grades):
            names = [str(row) for row in range(20)]
            training = Training(rows[:20], grades[:20], names, np.ones(20, bool), rows, populations=populations)
            return list(fit(training, 0))[-1]

        plain = spearman(wanted[100:], fitted().head.predict(rows[100:]).utility)
        for kind, prior in priors.items():
            found = fitted(prior)
            gains[kind].append(spearman(wanted[100:], found.head.predict(rows[100:]).utility) - plain)
            used[kind].append(found.benefits[0].used)
    assert np.mean(gains["right"]) > 0.03 and np.mean(used["right"]) > 0.4
    assert np.mean(gains["wrong"]) > -0.02 and np.mean(used["wrong"]) < 0.3


def test_a_fit_with_a_dropped_prior_is_the_fit_without_any():
    rng, rows, _, _ = world(1)
    _, grades = person(rng, rows, rng.standard_normal(32))
    names = [str(row) for row in range(40)]
    training = Training(rows[:40], grades[:40], names, np.ones(40, bool), rows)
    plain = list(fit(training, 0))[-1]
    prior = Population(rng.standard_normal((32, 1)), "noise", "ab")
    found = list(fit(Training(**{**vars(training), "populations": (prior,)}), 0))[-1]
    (benefit,) = found.benefits
    assert (benefit.name, benefit.digest, benefit.used) == ("noise", "ab", False)
    assert np.array_equal(found.head.predict(rows).utility, plain.head.predict(rows).utility)
    assert benefit.gain.low <= benefit.gain.value <= benefit.gain.high and not plain.benefits


def test_a_file_says_how_it_was_made_and_those_of_other_embedders_are_passed_over(tmp_path: Path):
    assert read_populations(tmp_path / "none", "starter", 4) == ()
    weights, srcc = np.arange(8.0).reshape(4, 2), Estimate(0.5, 0.4, 0.6, 30)
    record = PopulationRecord(3, 60, 30, 7.0, (PopulationSource("taste", 1, "yes"),), ("uid",), srcc)
    data = to_bytes(Population(weights, record=record), "starter")
    (tmp_path / "a.safetensors").write_bytes(data)
    (tmp_path / "b.safetensors").write_bytes(to_bytes(Population(np.ones((7, 1))), "another"))
    (found,) = read_populations(tmp_path, "starter", 4)
    assert np.array_equal(found.weights, weights) and found.record == record
    assert (found.name, found.embedder, found.digest) == ("a", "starter", from_bytes(data, "x").digest)
    both = joined([found, found])
    assert both is not None and both.weights.shape == (4, 4) and joined([]) is None
    with pytest.raises(FailedPrecondition, match="4"):
        read_populations(tmp_path, "another", 4)
    (tmp_path / "c.safetensors").write_bytes(b"PK not a tensor")
    with pytest.raises(FailedPrecondition, match=r"c\.safetensors") as caught:
        read_populations(tmp_path, "starter", 4)
    assert caught.value.reason == "POPULATION_UNREADABLE"
