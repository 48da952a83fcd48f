"""KID, CMMD and prdc: their papers' equations written out, and sets whose answer is known."""

import numpy as np
import pytest

from konomi_rater.measures import two_sample
from konomi_rater.measures.two_sample import cubic, gaussian, mmd, mmd_interval, prdc


def cloud(count: int, seed: int, centre: float = 0.0, dimensions: int = 8) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dimensions))
    rows[:, 0] += centre
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def written_out(first, second, kernel) -> float:
    """The unbiased estimate term by term."""
    n, m = len(first), len(second)
    inside = sum(kernel(first[i], first[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    others = sum(kernel(second[i], second[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    between = sum(kernel(x, y) for x in first for y in second) / (n * m)
    return 1000 * (inside + others - 2 * between)


def test_kid_is_the_papers_equation_on_rows_of_length_root_d():
    first, second = cloud(7, 1), cloud(9, 2, centre=1.0)
    scaled, d = np.sqrt(8), 8
    expected = written_out(scaled * first, scaled * second, lambda x, y: (x @ y / d + 1) ** 3)
    assert mmd(first, second, cubic) == pytest.approx(expected)


def test_cmmd_is_the_papers_equation_with_sigma_10():
    first, second = cloud(7, 1), cloud(9, 2, centre=1.0)
    expected = written_out(first, second, lambda x, y: np.exp(-((x - y) ** 2).sum() / (2 * 10**2)))
    assert mmd(first, second, gaussian) == pytest.approx(expected)


@pytest.mark.parametrize("kernel", [cubic, gaussian])
def test_a_distance_is_nothing_between_draws_of_one_cloud_and_grows_with_the_shift(kernel):
    rng = np.random.default_rng(0)
    same, low, high = mmd_interval(cloud(300, 1), cloud(300, 2), kernel, rng)
    assert low < 0 < high
    near, far = mmd(cloud(300, 1), cloud(300, 2, 0.5), kernel), mmd(cloud(300, 1), cloud(300, 2, 2.0), kernel)
    assert abs(same) < near < far


@pytest.mark.slow
def test_the_interval_covers_what_a_far_larger_draw_says():
    truth = mmd(cloud(4000, 11), cloud(4000, 12, 0.7), cubic)
    inside = 0
    for seed in range(20):
        found = mmd_interval(cloud(120, 2 * seed), cloud(120, 2 * seed + 1, 0.7), cubic, np.random.default_rng(seed))
        inside += found[1] <= truth <= found[2]
    assert inside >= 16


def test_sets_too_small_for_a_distance_say_nothing():
    assert mmd(cloud(1, 1), cloud(5, 2), cubic) == 0.0
    assert mmd_interval(cloud(3, 1), cloud(5, 2), cubic, np.random.default_rng(0))[0] == mmd(
        cloud(3, 1), cloud(5, 2), cubic
    )
    assert prdc(cloud(5, 1), cloud(50, 2)) == two_sample.Prdc(0, 0, 0, 0)


def modes(*centres: int, count: int = 40) -> np.ndarray:
    """Tight groups of rows around axes."""
    rows = np.concatenate([0.02 * cloud(count, 7 + centre, dimensions=8) + np.eye(8)[centre] for centre in centres])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_lost_mode_costs_recall_and_coverage_an_invented_one_precision():
    whole = modes(0, 1)
    assert prdc(whole, whole) == two_sample.Prdc(1.0, 1.0, pytest.approx(1.2), 1.0)  # k others and itself, over k
    lost = prdc(modes(0), whole)
    assert (lost.precision, lost.recall, lost.coverage) == (1.0, 0.5, 0.5)
    invented = prdc(modes(0, 1, 2), whole)
    assert (invented.precision, invented.recall, invented.coverage) == (pytest.approx(2 / 3), 1.0, 1.0)
