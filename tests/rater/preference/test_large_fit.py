"""Fits of many labels: one pass that says what fitting every fold anew would, by the seed, and never of few labels."""

import numpy as np
import pytest

from konomi.errors import Cancelled
from konomi_rater.preference import fitting, large_fit
from konomi_rater.preference.features import learn_features
from konomi_rater.preference.fitting import Fitted, fit, quick_fit
from konomi_rater.preference.gaussian_process import Kernel
from konomi_rater.preference.metrics import spearman
from konomi_rater.preference.provenance.parameters import Provenance
from konomi_rater.preference.sparse_gaussian_process import POINTS
from konomi_rater.preference.training import Training
from konomi_rater.storage.files.head_file import from_bytes, to_bytes

FOLDED = range(fitting.FOLDS * large_fit.PARTS)
LIMIT = 600
"""Labels a fit is whole with in these tests, instead of WHOLE."""


def world(images: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit rows (N, 16), what their owner likes (N,), and noisy grades (N,)."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((images, 16)) * np.geomspace(1, 0.3, 16)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    liked = rows @ rng.standard_normal(16) + 2 * np.exp(-2 * (1 - rows @ rows[:8].T)).sum(axis=1)
    noisy = liked + 0.6 * liked.std() * rng.standard_normal(images)
    return rows, liked, 1 + np.searchsorted(np.quantile(noisy, [0.3, 0.6, 0.82, 0.94]), noisy)


def training(count: int, drawn: float = 0.3) -> Training:
    rows, _, grades = world()
    made = [Provenance(f"a cat {i % 3}", "base", {"scale": float(i % 5)}) for i in range(count)]
    shown = np.random.default_rng(1).random(count) < drawn
    return Training(rows[:count], grades[:count], [str(i // 2) for i in range(count)], shown, rows, made)


def last(training: Training, seed: int = 3, threads: int = 1) -> Fitted:
    fitted = list(fit(training, seed, threads=threads))[-1]
    assert isinstance(fitted, Fitted)
    return fitted


def stored(fitted: Fitted) -> bytes:
    return to_bytes(fitted.head, fitted.embeddings, fitted.grades, "starter")


@pytest.fixture
def small_limits(monkeypatch):
    for module in (fitting, large_fit):
        monkeypatch.setattr(module, "WHOLE", LIMIT)
    monkeypatch.setattr(large_fit, "MEASURED", 500)
    monkeypatch.setattr(large_fit, "CALIBRATED", 200)


@pytest.mark.slow
@pytest.mark.parametrize("count", [60, 2300])
def test_few_labels_are_fitted_to_the_bit_as_if_there_were_no_other_way(monkeypatch, count):
    def never(*_arguments):
        raise AssertionError("a sample of few labels")

    as_it_is = last(training(count))
    monkeypatch.setattr(large_fit, "measured_rows", never)
    monkeypatch.setattr(fitting, "WHOLE", 10**9)
    assert stored(last(training(count))) == stored(as_it_is)
    assert as_it_is.head.whole and len(as_it_is.embeddings) == count == large_fit_n(as_it_is)
    rows, _, grades = world()
    rows, grades = rows[:count], grades[:count]
    assert np.array_equal(
        quick_fit(rows, grades, rows).predict(rows[:50]).utility,
        fitting.fit_head("nystroem" if count > 2000 else "gp", learn_features(rows), rows, grades)
        .predict(rows[:50])
        .utility,
    )


def large_fit_n(fitted: Fitted) -> int:
    return fitted.metrics["srcc"].n


@pytest.mark.slow
def test_many_labels_are_fitted_alike_by_the_same_seed_on_any_number_of_threads(small_limits):
    one, two, other = last(training(1500)), last(training(1500), threads=3), last(training(1500), seed=4)
    assert stored(one) == stored(two) != stored(other)
    assert one.metrics == two.metrics and one.candidates == two.candidates
    assert not one.head.whole and one.head.kind in ("nystroem", "stack")
    assert large_fit_n(one) == 500 and 500 <= len(one.embeddings) <= 700


def test_a_stored_head_of_many_labels_says_what_it_said(small_limits):
    rows, _, _ = world()
    fitted = last(training(1500))
    made = [Provenance("a cat 1", "base", {"scale": 2.0})] * 300
    before, after = (
        fitted.head.predict(rows[3000:3300], made),
        from_bytes(stored(fitted)).head.predict(rows[3000:3300], made),
    )
    for name in ("utility", "std", "probabilities"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    smaller = from_bytes(stored(fitted)).support
    assert len(smaller.distances) == len(fitted.embeddings), "what is unknown is told by the labels the file names"


@pytest.mark.slow
def test_more_labels_make_no_worse_head_than_a_sample_of_them(small_limits):
    rows, liked, _ = world()
    few, many = last(training(LIMIT)), last(training(3500))
    worth = [spearman(liked[3500:], fitted.head.predict(rows[3500:]).utility) for fitted in (few, many)]
    assert worth[1] > worth[0] + 0.01
    assert many.metrics["srcc"].low < spearman(world()[2][3500:], many.head.predict(rows[3500:]).utility) + 0.05


def test_blocks_leave_out_and_repeat_what_conditioning_anew_would():
    rows, _, _ = world(900)
    kernel, rng = Kernel(linear=0.5, rbf=0.4, length=1.0, noise=0.3), np.random.default_rng(0)
    inputs = learn_features(rows)(rows)
    targets, folds = rng.standard_normal(900), np.array_split(rng.permutation(900), 5)
    points = large_fit.choose_points(inputs, 0)
    parts, fold_of = large_fit.parts_of(folds)
    blocks = large_fit.add_up(kernel, inputs, targets, parts, points, lambda: None)
    assert len(points) == POINTS and sorted(np.concatenate(parts)) == list(range(900))
    for times in (np.ones(len(parts)), fold_of != 2, np.arange(len(parts)) % 3):
        repeated = np.concatenate([np.repeat(part, int(count)) for part, count in zip(parts, times, strict=True)])
        expected = conditioned_on(points, kernel, inputs[repeated], targets[repeated])
        for ours, theirs in zip(blocks.process(times).predict(inputs[:50]), expected, strict=True):
            assert np.allclose(ours, theirs, atol=1e-6)


def conditioned_on(points, kernel, inputs, targets):
    """Equations 20 and 21 of Quinonero-Candela & Rasmussen in their plainest form."""
    within, cross = kernel(points, points) + 1e-8 * np.eye(len(points)), kernel(points, inputs)
    query = kernel(feature_queries(), points)
    inner = within + cross @ cross.T / kernel.noise
    mean = query @ np.linalg.solve(inner, cross @ targets) / kernel.noise
    known = np.einsum("ij,ji->i", query, np.linalg.solve(within, query.T) - np.linalg.solve(inner, query.T))
    return mean, kernel.diagonal(feature_queries()) - known


def feature_queries():
    rows, _, _ = world(900)
    return learn_features(rows)(rows)[:50]


def test_the_sample_measures_all_alike_and_calibrates_on_what_was_shown_at_random(small_limits):
    for share in (0.02, 0.5):
        drawn = np.random.default_rng(0).random(20_000) < share
        rows, measured = large_fit.measured_rows(drawn, 7)
        assert measured.sum() == 500 and (np.diff(rows) > 0).all()
        assert abs(drawn[rows[measured]].mean() - share) < 0.07, "as many of them as there are"
        assert drawn[rows].sum() >= 200 and drawn[rows[~measured]].all()
        again = large_fit.measured_rows(drawn, 7)
        assert np.array_equal(rows, again[0]) and not np.array_equal(rows, large_fit.measured_rows(drawn, 8)[0])


def test_a_quick_fit_of_many_labels_reads_the_last_and_some_of_all_before():
    rows = fitting._recent_and_spread(100_000)
    half = large_fit.WHOLE // 2
    assert len(rows) == large_fit.WHOLE and (np.diff(rows) > 0).all()
    assert rows[-half:].tolist() == list(range(100_000 - half, 100_000))
    assert rows[0] == 0 and np.diff(rows[:half]).max() <= 2 * 100_000 / half
    assert fitting._recent_and_spread(large_fit.WHOLE).tolist() == list(range(large_fit.WHOLE))


@pytest.mark.slow
@pytest.mark.parametrize("count", [120, 1500])
def test_a_fit_ends_at_the_first_step_nobody_waits_for(small_limits, count):
    def counted(most: float):
        asked = 0

        def check() -> None:
            nonlocal asked
            asked += 1
            if asked > most:
                raise Cancelled("The caller went away.", reason="CANCELLED")

        return check, lambda: asked

    check, asked = counted(np.inf)
    list(fit(training(count), 0, check))
    steps = asked()
    assert steps > 40
    for most in (0, 5, steps // 2, steps - 1):
        check, asked = counted(most)
        with pytest.raises(Cancelled):
            list(fit(training(count), 0, check))
        assert asked() <= most + 2 + (len(FOLDED) if count > LIMIT else 0), "blocks in line ask once; nobody went on"


def test_favourites_alone_may_be_thousands():
    rows, _, _ = world()
    grades = 4 + (np.arange(2500) % 2)
    groups, shown = [str(row) for row in range(2500)], np.zeros(2500, bool)
    fitted = last(Training(rows[:2500], grades, groups, shown, rows, unlabelled=rows[2500:2800]))
    assert fitted.head.kind == "favourites" and len(fitted.embeddings) == 2000
    assert "auc_pu" in fitted.metrics
