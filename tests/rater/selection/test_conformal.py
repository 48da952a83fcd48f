"""Conformal selection: p-values that are no smaller than they should be, and a false-discovery rate that is kept."""

import numpy as np
import pytest

from konomi_rater.selection.conformal import benjamini_hochberg, least_share, p_values


def test_p_values_count_the_bad_labels_at_least_as_high():
    scores, good = np.array([0.1, 0.5, 0.9, 0.7]), np.array([False, False, True, False])
    assert p_values(scores, good, np.array([0.0, 0.5, 0.6, 0.95])).tolist() == [0.8, 0.6, 0.4, 0.2]


def test_benjamini_and_hochberg_by_hand():
    p = np.array([0.01, 0.04, 0.03, 0.5, 0.9])
    assert benjamini_hochberg(p, 0.1).tolist() == [True, True, True, False, False]
    assert not benjamini_hochberg(p, 0.01).any()
    assert benjamini_hochberg(np.zeros(0), 0.1).tolist() == []


@pytest.mark.parametrize(("labels", "share"), [(20, 0.476), (100, 0.099), (200, 0.0498), (500, 0.02), (1000, 0.01)])
def test_the_least_share_is_the_designs(labels, share):
    assert least_share(labels, 0.1) == pytest.approx(share, abs=0.0005)


def test_a_hundred_labels_admit_nothing_of_a_rare_tier():
    rng = np.random.default_rng(0)
    worth = rng.standard_normal(2100)
    scores, good = worth + 0.1 * rng.standard_normal(2100), worth > np.quantile(worth, 0.96)
    p = p_values(scores[:100], good[:100], scores[100:])
    assert not benjamini_hochberg(p, 0.1).any()


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_the_rate_is_kept_on_average_and_something_is_found(rate):
    rng = np.random.default_rng(1)
    shares, found = [], 0
    for _ in range(400):
        worth = rng.standard_normal(900)
        scores, good = worth + 0.7 * rng.standard_normal(900), worth > 0.8
        chosen = benjamini_hochberg(p_values(scores[:500], good[:500], scores[500:]), rate)
        shares.append((~good[500:][chosen]).mean() if chosen.any() else 0.0)
        found += int(good[500:][chosen].sum())
    assert np.mean(shares) <= rate + 0.02
    assert found > 400
