"""Certificates: the design's table, exact bounds, nested samples, a fixed sequence, errors as rare as said."""

import numpy as np
import pytest
from scipy.stats import binom, hypergeom

from konomi_rater.selection.certificate import AuditLimits, allowed_rejections, draw, judge, shown_for, upper_bound

TABLE = [
    (0.10, 0, 29),
    (0.10, 1, 46),
    (0.10, 2, 61),
    (0.20, 0, 14),
    (0.20, 1, 22),
    (0.20, 2, 30),
    (0.05, 0, 59),
]
"""FDP at most, rejections, images shown at delta = 5 %: the design's table."""


@pytest.mark.parametrize(("alpha", "rejections", "shown"), TABLE)
def test_the_table_of_the_design(alpha, rejections, shown):
    limits = AuditLimits(alpha, 0.05, rejections)
    assert shown_for(limits, 10_000) == shown
    assert allowed_rejections(shown, limits) == rejections
    assert binom.cdf(rejections, shown - 1, alpha) > 0.05 >= binom.cdf(rejections, shown, alpha)


def test_thirty_shown_and_two_rejections_are_the_default():
    (sample,) = draw([400], AuditLimits(), np.random.default_rng(0))
    assert (len(sample.rows), sample.allowed) == (30, 2)
    assert len(set(sample.rows)) == 30 and max(sample.rows) < 400


def test_the_bound_is_the_share_at_which_the_answers_are_just_possible():
    for shown, rejections in ((30, 2), (14, 0), (61, 5)):
        bound = upper_bound(shown, rejections, 0.05)
        assert binom.cdf(rejections, shown, bound) == pytest.approx(0.05)
    assert upper_bound(30, 2, 0.05) <= 0.2 < upper_bound(30, 3, 0.05)
    assert upper_bound(7, 7, 0.05) == 1.0


@pytest.mark.parametrize("size", [31, 40, 77, 150, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.35])
def test_the_binomial_promise_holds_for_a_sample_without_replacement(size, alpha):
    limits = AuditLimits(alpha, 0.05, 2)
    (sample,) = draw([size], limits, np.random.default_rng(0))
    bad = int(alpha * size + 1e-9) + 1  # the fewest rejections that break the promise are the hardest to notice
    certified = hypergeom.cdf(sample.allowed, size, bad, len(sample.rows)) if not sample.whole else 0.0
    assert certified <= 0.05


def test_a_small_set_is_counted_not_bounded():
    (sample,) = draw([15], AuditLimits(), np.random.default_rng(0))
    assert sorted(sample.rows) == list(range(15))
    three = {row: row < 3 for row in range(15)}
    assert judge([sample], three, 0.05).certified == 1
    assert judge([sample], three, 0.05).stages[0].upper_bound == pytest.approx(0.2)
    assert judge([sample], {row: row < 4 for row in range(15)}, 0.05).certified == 0


def test_unanswered_images_count_as_rejections():
    (sample,) = draw([200], AuditLimits(), np.random.default_rng(1))
    answers = dict.fromkeys(sample.rows[:27], False)
    outcome = judge([sample], answers, 0.05)
    assert (outcome.certified, outcome.ended) == (0, False)
    answers[sample.rows[27]] = False
    outcome = judge([sample], answers, 0.05)
    assert (outcome.certified, outcome.ended) == (1, False)
    answers |= dict.fromkeys(sample.rows, False)
    assert judge([sample], answers, 0.05).ended


def test_the_sequence_ends_at_the_first_set_that_fails():
    samples = draw([50, 100, 200], AuditLimits(), np.random.default_rng(2))
    assert all(max(sample.rows) < sample.size for sample in samples)
    good = dict.fromkeys(samples[0].rows, False)
    first = judge(samples, good, 0.05)
    assert (first.begun, first.certified, first.ended) == (2, 1, False)
    for rejected, certified, begun in ((False, 2, 3), (True, 1, 2)):
        answers = good | {row: rejected for row in samples[1].rows if row not in good}
        outcome = judge(samples, answers, 0.05)
        assert (outcome.certified, outcome.begun) == (certified, begun)
        assert outcome.ended is rejected
    strict = judge(samples, dict.fromkeys(samples[0].rows, True), 0.05)
    assert (strict.certified, strict.begun, strict.ended) == (0, 1, True)


@pytest.mark.slow
def test_every_sample_is_uniform_in_its_set():
    hits = np.zeros((2, 40))
    for seed in range(800):
        for row, sample in enumerate(draw([20, 40], AuditLimits(0.5, 0.05, 0), np.random.default_rng(seed))):
            hits[row, list(sample.rows)] += 1
    shown = shown_for(AuditLimits(0.5, 0.05, 0), 40)
    for row, size in enumerate((20, 40)):
        assert hits[row, :size] / 800 == pytest.approx(np.full(size, shown / size), abs=0.08)
        assert not hits[row, size:].any()


@pytest.mark.parametrize("sizes", [[300], [60, 150, 300]])
@pytest.mark.slow
def test_a_wrong_certificate_is_no_more_frequent_than_promised(sizes):
    rng, wrong, right = np.random.default_rng(3), 0, 0
    for _ in range(500):
        shares = np.sort(rng.uniform(0.02, 0.4, len(sizes)))  # lax sets are worse
        starts = [0, *sizes[:-1]]
        bad = np.concatenate([rng.random(b - a) < s for a, b, s in zip(starts, sizes, shares, strict=True)])
        samples = draw(sizes, AuditLimits(), rng)
        outcome = judge(samples, {row: bool(bad[row]) for sample in samples for row in sample.rows}, 0.05)
        if outcome.certified:
            broken = bad[: sizes[outcome.certified - 1]].mean() > 0.2
            wrong, right = wrong + broken, right + (not broken)
    assert wrong / 500 <= 0.05
    assert right > 75
