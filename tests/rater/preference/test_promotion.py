"""The verdict before activation: worse only where the panel is sure of it."""

import numpy as np
import pytest

from konomi_rater.preference.promotion import LEAST_PANEL, PromotionDecision, compare


def panel(n: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    worth = rng.standard_normal(n)
    grades = 1 + np.searchsorted([-0.5, 0.5, 1.2, 1.7], worth)
    return grades, worth + noise * rng.standard_normal(n)


def test_a_version_that_lost_its_way_is_worse_and_the_other_way_round_better():
    grades, sharp = panel(120, 0.3)
    dull = panel(120, 5.0)[1]
    verdict, figures = compare(grades, sharp, dull, np.random.default_rng(0))
    assert verdict is PromotionDecision.WORSE
    assert figures["gain"].high < 0 and figures["earlier_srcc"].value > figures["srcc"].value
    assert figures["gain"].n == 120
    assert compare(grades, dull, sharp, np.random.default_rng(0))[0] is PromotionDecision.BETTER


def test_a_small_loss_is_not_worse():
    grades, one = panel(60, 0.5)
    other = one + 0.2 * np.random.default_rng(1).standard_normal(60)
    verdict, figures = compare(grades, one, other, np.random.default_rng(0))
    assert verdict is PromotionDecision.NOT_WORSE
    assert figures["gain"].low <= 0 <= figures["gain"].high


def test_too_few_or_indistinct_grades_tell_nothing():
    grades, said = panel(LEAST_PANEL - 1, 0.1)
    assert compare(grades, said, -said, np.random.default_rng(0)) == (PromotionDecision.TOO_FEW, {})
    assert (
        compare(np.full(50, 3), np.arange(50.0), -np.arange(50.0), np.random.default_rng(0))[0]
        is PromotionDecision.TOO_FEW
    )


@pytest.mark.slow
def test_equally_good_versions_are_hardly_ever_called_worse():
    called = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        worth = rng.standard_normal(40)
        grades = 1 + np.searchsorted([-0.5, 0.5, 1.2, 1.7], worth)
        one, other = worth + rng.standard_normal((2, 40))
        called += compare(grades, one, other, rng)[0] is PromotionDecision.WORSE
    assert called <= 3
