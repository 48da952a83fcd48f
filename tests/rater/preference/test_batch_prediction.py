"""A library scored in one pass says what the head says, whatever the order in which its images came."""

import numpy as np
import pytest

from konomi_rater.preference.batch_prediction import BLOCK, TOLERANCE, linear, rescore
from konomi_rater.preference.features import learn_features
from konomi_rater.preference.head import Prediction, draw, fit_head, with_members

KINDS = ("gp", "nystroem")


def library(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows (N, 24) and what their owner thinks of them (N,)."""
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(count, 24)) * np.geomspace(1, 0.2, 24)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), rows[:, :3].sum(axis=1)


@pytest.fixture(scope="module", params=KINDS)
def head(request):
    count = 2400 if request.param == "nystroem" else 400
    rows, utility = library(count)
    count = count * 9 // 10 if request.param == "nystroem" else 120
    grades = 1 + np.searchsorted(np.quantile(utility, [0.3, 0.6, 0.82, 0.94]), utility[:count])
    fitted = fit_head(request.param, learn_features(rows), rows[:count], grades)
    return with_members(fitted, fitted.features(rows[:count]), draw(count, np.random.default_rng(1)))


def same(one: Prediction, other: Prediction) -> bool:
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in ("utility", "std", "probabilities"))


def test_it_says_what_the_head_says(head):
    rows, _ = library(BLOCK + 500)
    exact, fast = head.predict(rows), rescore(head, rows, [None] * len(rows), 2)
    assert np.abs(fast.utility - exact.utility).max() < TOLERANCE
    assert np.abs(fast.std - exact.std).max() < TOLERANCE
    assert np.abs(fast.probabilities - exact.probabilities).max() < TOLERANCE
    assert np.corrcoef(fast.utility, exact.utility)[0, 1] > 0.999999


def test_a_library_that_grew_is_scored_to_the_last_bit_like_one_that_was_there_at_once(head):
    rows, _ = library(2 * BLOCK + 700)
    made = [None] * len(rows)
    at_once = rescore(head, rows, made, 2)
    grown = None
    for count in (100, BLOCK, BLOCK + 1, 2 * BLOCK + 300, len(rows)):
        grown = rescore(head, rows[:count], made[:count], 1, grown)
        assert len(grown.utility) == count
    assert same(grown, at_once)


def test_what_is_known_is_not_computed_again(head):
    rows, _ = library(2 * BLOCK)
    known = rescore(head, rows, [None] * len(rows), 1)
    marked = Prediction(known.utility + 7.0, known.std, known.probabilities)
    more = rescore(head, np.concatenate([rows, rows[:5]]), [None] * (len(rows) + 5), 1, marked)
    assert np.array_equal(more.utility[: len(rows)], marked.utility)
    assert np.array_equal(more.utility[len(rows) :], known.utility[:5])


def test_a_linear_pass_over_a_matrix():
    rows, _ = library(9 * BLOCK + 3)
    weights = np.random.default_rng(1).normal(size=24)
    for threads in (1, 3):
        assert np.allclose(linear(rows, weights, 0.5, threads), rows @ weights + 0.5, atol=1e-5)
    assert linear(rows[:0], weights, 0.5, 2).shape == (0,)
