"""The ridge that puts near-copies in order: scikit-learn's own to the digit, and better within bursts than a guess."""

import numpy as np
from sklearn.linear_model import RidgeCV

from konomi_rater.measures.near_copy_order import LEAST, MOST, PENALTIES, learn_near_copy_order


def taught(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit rows, the grades of a taste that is linear in them, and what that taste goes by."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (count, 40)) * np.linspace(2, 0.1, 40)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    wanted = rng.normal(0, 1, 40)
    said = rows @ wanted + rng.normal(0, 0.1, count)
    return rows.astype(np.float32), 1 + np.searchsorted(np.quantile(said, (0.3, 0.6, 0.82, 0.94)), said), wanted


def test_it_is_the_ridge_whose_leave_one_out_error_is_least():
    rows, grades, _ = taught(80)
    order = learn_near_copy_order(rows, grades)
    assert order is not None
    reference = RidgeCV(PENALTIES).fit(rows.astype(float), grades)
    new, *_ = taught(30, seed=1)
    assert np.allclose(order(new), reference.predict(new.astype(float)), atol=1e-6)


def test_it_tells_the_better_of_two_that_differ_a_little():
    rows, grades, wanted = taught(200)
    order = learn_near_copy_order(rows, grades)
    assert order is not None
    first = taught(300, seed=2)[0]
    second = first + np.random.default_rng(3).normal(0, 0.02, first.shape)
    right = np.sign(order(first) - order(second)) == np.sign((first - second) @ wanted)
    assert right.mean() > 0.85


def test_where_too_little_is_graded_there_is_none():
    rows, grades, _ = taught(40)
    assert learn_near_copy_order(rows[: LEAST - 1], grades[: LEAST - 1]) is None
    assert learn_near_copy_order(rows, np.full(40, 5)) is None, "favourites alone say nothing of an order"
    ungraded = np.where(np.arange(40) < LEAST, grades, 0)
    some = learn_near_copy_order(rows, ungraded)
    alone = learn_near_copy_order(rows[:LEAST], grades[:LEAST])
    assert some is not None and alone is not None and np.array_equal(some.weights, alone.weights)


def test_of_very_many_it_learns_from_some_spread_over_all():
    rows, grades, _ = taught(3 * MOST)
    order = learn_near_copy_order(rows, grades)
    assert order is not None and abs(order.grade - grades.mean()) < 0.1
