"""Figures and their intervals, against values known by hand."""

import math
import random

import pytest

from konomi.night import metrics


def test_wilson_of_nothing_and_of_half():
    assert metrics.share(0, 0) == {"value": 0.0, "low": 0.0, "high": 1.0, "n": 0.0}
    half = metrics.share(50, 100)
    assert half["low"] == pytest.approx(0.4038, abs=1e-4)
    assert half["high"] == pytest.approx(0.5962, abs=1e-4)


def test_a_paired_gain_is_the_mean_of_what_each_pair_differs_by():
    gain = metrics.paired_gain([0.5, 0.9, 0.1], [0.4, 0.8, 0.0])
    assert gain["value"] == pytest.approx(0.1) and gain["low"] == pytest.approx(0.1) and gain["n"] == 3
    with pytest.raises(ValueError):
        metrics.paired_gain([1.0], [])


def test_paired_wins_count_ties_half():
    assert metrics.paired_wins([1, 2, 3, 4], [0, 2, 4, 3])["value"] == pytest.approx(0.625)
    with pytest.raises(ValueError, match="shorter"):
        metrics.paired_wins([1, 2], [1])


def test_ranks_share_ties():
    assert metrics.ranks([10, 20, 10, 30]) == [1.5, 3.0, 1.5, 4.0]


def test_spearman_of_order_and_of_noise():
    rng = random.Random(0)
    values = [rng.random() for _ in range(200)]
    assert metrics.spearman(values, [math.exp(value) for value in values])["value"] == pytest.approx(1.0)
    noise = metrics.spearman(values, [rng.random() for _ in values])
    assert noise["low"] < 0 < noise["high"]


def test_auc_and_average_precision_of_a_perfect_and_a_blind_rater():
    truth = [index % 4 == 0 for index in range(40)]
    perfect = [1.0 if good else 0.0 for good in truth]
    assert metrics.auc(perfect, truth)["value"] == 1.0
    assert metrics.average_precision(perfect, truth)["value"] == 1.0
    assert metrics.auc([0.0] * 40, truth)["value"] == pytest.approx(0.5)
    assert metrics.average_precision([-score for score in perfect], truth)["value"] < 0.3


def test_the_interval_from_groups_holds_the_whole():
    figure = metrics.from_groups(20.0, [9.0, 10.0, 11.0, 10.0], 256)
    assert figure["low"] < 20.0 < figure["high"]
    assert figure["high"] - figure["low"] == pytest.approx(2 * 3.182 * 0.8165 / 10 / 2 * 20, rel=1e-3)
