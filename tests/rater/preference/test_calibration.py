"""Probabilities are calibrated on randomly drawn labels, and on no others."""

import numpy as np
import pytest

from konomi_rater.preference.calibration import LEAST_RANDOM, Calibration, Curve, calibrate, venn_abers
from konomi_rater.preference.metrics import calibration_error
from konomi_rater.preference.ordinal import Scale, grade_probabilities, scale_of

SCALE = scale_of(np.repeat([1, 2, 3, 4, 5], [30, 30, 22, 12, 6]))


def graded(rng: np.random.Generator, mean: np.ndarray, spread: float) -> np.ndarray:
    """Grades of images whose latent value lies about `mean` with this standard deviation."""
    return 1 + np.searchsorted(SCALE.cuts, mean + spread * rng.standard_normal(len(mean)))


def test_venn_abers_agrees_with_the_reference_implementation():
    reference = pytest.importorskip("venn_abers")
    rng = np.random.default_rng(0)
    scores = rng.random(60).round(2)
    positive = rng.random(60) < scores**2
    grid, values = venn_abers(scores, positive)
    p0, p1, points = reference.venn_abers.calc_p0p1(np.column_stack([1 - scores, scores]), positive.astype(float))
    inner = np.unique(scores)[5:-5]
    theirs, _ = reference.venn_abers.calc_probs(p0, p1, points, np.column_stack([1 - inner, inner]))
    assert np.interp(inner, grid, values) == pytest.approx(theirs[:, 1], abs=0.03)
    assert np.all(np.diff(values) >= 0)


def test_an_overconfident_head_is_widened_and_shifted():
    rng = np.random.default_rng(1)
    mean = rng.standard_normal(400)
    found = calibrate(mean, np.full(400, 0.1), graded(rng, mean + 0.4, 0.6), SCALE)
    assert found.temperature > 1.3
    assert found.shift > 0.2
    assert found.random == 400


def test_few_random_labels_change_nothing():
    rng = np.random.default_rng(2)
    mean = rng.standard_normal(LEAST_RANDOM - 1)
    found = calibrate(mean, np.full(len(mean), 0.1), graded(rng, mean, 1.0), SCALE)
    assert (found.temperature, found.shift, found.random) == (1.0, 0.0, LEAST_RANDOM - 1)
    shares = rng.dirichlet(np.ones(5), 30)
    assert np.array_equal(found(shares), shares)


def test_calibration_makes_wrong_probabilities_honest_on_fresh_labels():
    rng = np.random.default_rng(3)
    mean, fresh = rng.standard_normal(500), rng.standard_normal(4000)
    variance, truth = 0.05, 0.7
    found = calibrate(mean, np.full(500, variance), graded(rng, mean, truth), SCALE)
    before = grade_probabilities(fresh, np.full(4000, variance), SCALE)
    after = found(grade_probabilities(fresh + found.shift, np.full(4000, variance * found.temperature**2), SCALE))
    positive = graded(rng, fresh, truth) >= 4
    errors = [calibration_error(positive, said[:, 3:].sum(axis=1)) for said in (before, after)]
    assert errors[1] < 0.03 < 0.5 * errors[0] + 0.03
    assert errors[1] < errors[0]


def test_calibrated_shares_stay_shares():
    curve = Curve(np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.2, 0.9]), 0.8)
    shares = np.random.default_rng(4).dirichlet(np.full(5, 0.3), 500)
    shares = np.vstack([shares, np.eye(5)])
    found = Calibration(ssr=curve, ur=curve)(shares)
    assert found.min() >= 0
    assert found.sum(axis=1) == pytest.approx(np.ones(len(found)))
    assert found[:, 3:].sum(axis=1) == pytest.approx(curve(shares[:, 3:].sum(axis=1)))


def test_a_scale_without_a_grade_is_calibrated_too():
    rng = np.random.default_rng(5)
    mean = rng.standard_normal(60)
    scale = scale_of(np.full(60, 2))
    assert isinstance(scale, Scale)
    found = calibrate(mean, np.full(60, 0.5), np.full(60, 2), scale)
    assert np.isfinite(found(grade_probabilities(mean, np.full(60, 0.5), scale))).all()
