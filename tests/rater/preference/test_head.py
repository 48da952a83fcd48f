"""The ordinal head learns a taste from few labels, says how sure it is, and survives being stored."""

import numpy as np
import pytest

from konomi.errors import DataLoss
from konomi_rater.preference import gaussian_process
from konomi_rater.preference.features import learn_features
from konomi_rater.preference.fitting import Fitted, Step, fit, make_folds, quick_fit
from konomi_rater.preference.gaussian_process import LEAST_NOISE, Kernel, condition, optimise
from konomi_rater.preference.head import MOST_EXACT, kind_for
from konomi_rater.preference.metrics import auc, average_precision, spearman
from konomi_rater.preference.ordinal import grade_probabilities, scale_of, utility
from konomi_rater.preference.training import Training
from konomi_rater.storage.files.head_file import from_bytes, to_bytes


def world(seed: int, images: int = 600, dimensions: int = 24):
    """Unit embeddings with a falling spectrum, a linear utility on them and grades at the usual quantiles."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((images, dimensions)) * np.arange(1, dimensions + 1) ** -0.7
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    wanted = rows @ rng.standard_normal(dimensions)
    cuts = np.quantile(wanted, [0.3, 0.6, 0.82, 0.94])
    return rows, wanted, 1 + np.searchsorted(cuts, wanted)


def training_of(rows, grades, chosen) -> Training:
    groups = [str(i) for i in chosen]
    return Training(rows[chosen], grades[chosen], groups, np.zeros(len(chosen), bool), rows)


def last(steps):
    *before, found = steps
    assert all(isinstance(step, Step) for step in before)
    assert isinstance(found, Fitted)
    return found


@pytest.mark.slow
def test_learns_a_linear_taste_from_64_labels():
    found = []
    for seed in range(6):
        rows, wanted, grades = world(seed)
        fitted = last(fit(training_of(rows, grades, np.arange(64)), seed))
        found.append(spearman(wanted[64:], fitted.head.predict(rows[64:]).utility))
    assert np.mean(found) > 0.8


@pytest.mark.slow
def test_shuffled_labels_teach_nothing():
    found = []
    for seed in range(6):
        rows, wanted, grades = world(seed)
        shuffled = np.random.default_rng(seed).permutation(grades)
        fitted = last(fit(training_of(rows, shuffled, np.arange(64)), seed))
        found.append(spearman(wanted[64:], fitted.head.predict(rows[64:]).utility))
    assert abs(np.mean(found)) < 0.25


def test_predictions_are_complete_and_coherent():
    rows, _, grades = world(0)
    said = last(fit(training_of(rows, grades, np.arange(40)), 0)).head.predict(rows)
    assert np.allclose(said.probabilities.sum(axis=1), 1)
    assert said.probabilities.min() >= 0
    assert np.all((said.utility >= 1) & (said.utility <= 5))
    assert np.all(said.std > 0)
    assert np.abs(said.utility - said.probabilities @ np.arange(1, 6)).max() < 1e-6


def test_doubt_is_smaller_where_there_are_labels():
    rows, _, grades = world(1)
    head = quick_fit(rows[:60], grades[:60], rows)
    assert head.predict(rows[:60]).std.mean() < 0.8 * head.predict(rows[60:]).std.mean()


def test_same_labels_and_seed_give_the_same_version():
    rows, _, grades = world(2)
    first, second = (last(fit(training_of(rows, grades, np.arange(50)), 3)) for _ in range(2))
    assert to_bytes(first.head, rows[:50], grades[:50], "x") == to_bytes(second.head, rows[:50], grades[:50], "x")
    assert first.metrics == second.metrics
    assert first.candidates == second.candidates


def test_one_kind_of_head_for_a_number_of_labels_and_nothing_to_choose_among():
    rows, _, grades = world(3)
    for count in (10, 20, 40):
        assert set(last(fit(training_of(rows, grades, np.arange(count)), 0)).candidates) == {"gp"}
    assert [kind_for(count) for count in (0, MOST_EXACT, MOST_EXACT + 1)] == ["gp", "gp", "nystroem"]


@pytest.mark.parametrize("count", [5, 6, 9])
def test_very_few_labels_still_fit(count):
    rows, _, grades = world(4)
    chosen = np.concatenate([np.flatnonzero(grades == 1)[: count - 1], np.flatnonzero(grades == 4)[:1]])
    fitted = last(fit(training_of(rows, grades, chosen), 0))
    assert np.isfinite(fitted.head.predict(rows).utility).all()
    assert fitted.alarms


def test_groups_never_straddle_folds():
    groups = [str(i // 3) for i in range(40)]
    folds = make_folds(groups, np.random.default_rng(0))
    assert sorted(np.concatenate(folds).tolist()) == list(range(40))
    where = {group: {f for f, fold in enumerate(folds) for row in fold if groups[row] == group} for group in groups}
    assert all(len(found) == 1 for found in where.values())
    assert max(map(len, folds)) - min(map(len, folds)) <= 3


def test_a_stored_head_predicts_the_same_bits():
    rows, _, grades = world(5)
    head = last(fit(training_of(rows, grades, np.arange(50)), 0)).head
    stored = from_bytes(to_bytes(head, rows[:50], grades[:50], "starter"))
    for name in ("utility", "std", "probabilities"):
        assert np.array_equal(getattr(stored.head.predict(rows), name), getattr(head.predict(rows), name))
    assert not stored.unknown(rows[:50]).any()
    assert stored.unknown(-rows[:50].mean(axis=0, keepdims=True) / np.linalg.norm(rows[:50].mean(axis=0))).all()


@pytest.mark.parametrize(
    "damage", [lambda d: d[:40], lambda d: b"PK" + d[2:], lambda d: d.replace(b"konomi.head/2", b"konomi.head/9")]
)
def test_a_damaged_head_is_data_loss(damage):
    rows, _, grades = world(5)
    data = to_bytes(quick_fit(rows[:40], grades[:40], rows), rows[:40], grades[:40], "starter")
    with pytest.raises(DataLoss):
        from_bytes(damage(data))


def test_marginal_likelihood_gradient_is_right():
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((20, 4)), rng.standard_normal(20)
    products = inputs @ inputs.T
    squares = ((inputs[:, None] - inputs[None]) ** 2).sum(-1)
    kernel = Kernel(0.7, 0.4, 1.3, 0.2)
    said = rng.standard_normal((20, 2))
    agreement = said @ said.T
    _, gradient = gaussian_process._evidence(kernel, products, squares, agreement, targets)
    for name, found in gradient.items():
        ends = []
        for sign in (1, -1):
            moved = Kernel(**{**vars(kernel), name: getattr(kernel, name) * np.exp(sign * 1e-5)})
            ends.append(gaussian_process._evidence(moved, products, squares, agreement, targets)[0])
        assert found == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)


def test_posterior_agrees_with_its_textbook_form():
    rng = np.random.default_rng(1)
    inputs, targets, queries = rng.standard_normal((15, 3)), rng.standard_normal(15), rng.standard_normal((6, 3))
    kernel = Kernel(0.5, 0.5, 1.0, 0.3)
    process = condition(kernel, inputs, targets)
    inverse = np.linalg.inv(kernel(inputs, inputs) + 0.3 * np.eye(15))
    mean, variance = process.predict(queries)
    assert np.allclose(mean, kernel(queries, inputs) @ inverse @ targets)
    joint = kernel(queries, queries) - kernel(queries, inputs) @ inverse @ kernel(inputs, queries)
    assert np.allclose(variance, np.diag(joint))
    assert np.allclose(process.covariance(queries), joint)


def test_ordinal_scale_reproduces_the_shares_and_keeps_missing_grades_finite():
    grades = np.repeat([1, 2, 3], [40, 30, 30])
    scale = scale_of(grades)
    assert np.isfinite(scale.cuts).all()
    assert np.all(np.diff(scale.cuts) > 0)
    assert np.all(np.diff(scale.targets) > 0)
    shares = grade_probabilities(np.zeros(1), np.ones(1), scale)[0]
    assert shares[:3] == pytest.approx([0.4, 0.3, 0.3], abs=0.02)
    value, std = utility(np.array([-9.0, 9.0]), np.full(2, 1e-6), 0.01, scale)
    assert value == pytest.approx([1.0, 5.0], abs=1e-3)
    assert std == pytest.approx([0, 0], abs=1e-3)


def test_whitening_makes_directions_alike():
    rows, _, _ = world(6)
    spread = learn_features(rows, power=1.0, keep=0.9)(rows).std(axis=0)
    assert spread.max() / spread.min() < 1.01
    raw = learn_features(rows, power=0.0, keep=0.9)(rows).std(axis=0)
    assert raw.max() / raw.min() > 1.2


def test_numbers_of_unlike_sizes_count_alike_and_one_that_never_changes_not_at_all():
    rows, _, _ = world(6)
    sizes = np.geomspace(0.01, 100, rows.shape[1])
    features = learn_features(rows)
    unlike = np.hstack([rows * sizes, np.full((len(rows), 1), 0.3)])
    scaled = learn_features(unlike)(unlike)
    np.testing.assert_allclose(scaled @ scaled.T, features(rows) @ features(rows).T, atol=1e-6)


def test_metrics_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    positive, scores = rng.random(80) < 0.3, rng.standard_normal(80)
    assert auc(positive, scores) == pytest.approx(metrics.roc_auc_score(positive, scores))
    assert average_precision(positive, scores) == pytest.approx(metrics.average_precision_score(positive, scores))


def test_grades_without_a_single_contradiction_still_leave_room_for_a_change_of_mind():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 8))
    grades = 1 + np.searchsorted(np.quantile(rows[:, 0], [0.2, 0.4, 0.6, 0.8]), rows[:, 0])
    targets = scale_of(grades).targets[grades - 1]
    kernel = optimise(Kernel(linear=0.5, rbf=0.5, length=1.0, noise=0.4), rows, targets)
    assert kernel.noise >= LEAST_NOISE * (1 - 1e-9)
