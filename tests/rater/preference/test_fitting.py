"""Around the process: population prior, ordinal likelihood, comparisons, favourites alone, thousands of labels."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from konomi_rater.preference import features
from konomi_rater.preference import head as ensemble
from konomi_rater.preference.comparisons import Preference, shifts
from konomi_rater.preference.features import learn_features
from konomi_rater.preference.fitting import fit, quick_fit
from konomi_rater.preference.gaussian_process import Kernel, condition, held_out
from konomi_rater.preference.head import MOST_EXACT
from konomi_rater.preference.metrics import auc, spearman
from konomi_rater.preference.ordinal import scale_of, sites
from konomi_rater.preference.population.file import Population
from konomi_rater.preference.positive_unlabelled import choose_unlabelled
from konomi_rater.preference.sparse_gaussian_process import condition_sparse, held_out_sparse
from konomi_rater.preference.training import Training


def world(seed: int, images: int = 1200, dimensions: int = 24):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((images, dimensions)) * np.arange(1, dimensions + 1) ** -0.5
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    shared, own = rng.standard_normal((2, dimensions))
    wanted = rows @ (0.7 * shared + 0.7 * own)
    return rows, shared, wanted, 1 + np.searchsorted(np.quantile(wanted, [0.3, 0.6, 0.82, 0.94]), wanted)


def fitted(rows, grades, count: int, **more):
    groups = [str(row) for row in range(count)]
    return list(fit(Training(rows[:count], grades[:count], groups, np.ones(count, bool), rows, **more), 0))[-1]


@pytest.mark.slow
def test_what_others_like_helps_while_labels_are_few_and_never_replaces_them():
    few, many = [], []
    for seed in range(4):
        rows, shared, wanted, grades = world(seed)
        prior = Population(shared[:, None].astype(float))
        for count, gains in ((10, few), (150, many)):
            with_, without = (
                fitted(rows, grades, count, populations=p).head.predict(rows[200:]) for p in ((prior,), ())
            )
            gains.append(spearman(wanted[200:], with_.utility) - spearman(wanted[200:], without.utility))
    assert np.mean(few) > 0.05
    assert np.mean(many) > -0.01


def test_what_chooses_the_next_images_knows_what_others_like_too():
    gains = []
    for seed in range(4):
        rows, shared, wanted, grades = world(seed)
        prior = Population(shared[:, None].astype(float))
        heads = (quick_fit(rows[:10], grades[:10], rows, population) for population in (prior, None))
        with_, without = (spearman(wanted[200:], head.predict(rows[200:]).utility) for head in heads)
        gains.append(with_ - without)
    assert np.mean(gains) > 0.05


def test_sites_sit_at_the_mode_of_the_ordinal_posterior():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((25, 3))
    kernel, grades, noise = Kernel(0.5, 0.5, 1.0, 0.2), rng.integers(1, 6, 25), 0.2
    covariance, scale = kernel(inputs, inputs), scale_of(grades)
    targets, variances = sites(covariance, np.zeros(25), grades, scale, noise)
    mode = condition(replace(kernel, noise=noise), inputs, targets, variances).mean(inputs)
    edges = np.concatenate([[-np.inf], scale.cuts, [np.inf]])

    def loss(f: np.ndarray) -> float:
        inside = norm.cdf((edges[grades] - f) / noise**0.5) - norm.cdf((edges[grades - 1] - f) / noise**0.5)
        return float(-np.log(inside).sum() + 0.5 * f @ np.linalg.solve(covariance, f))

    least = loss(mode)
    for _ in range(30):
        assert loss(mode + 0.02 * rng.standard_normal(25)) > least


def test_held_out_in_closed_form_is_what_refitting_gives():
    rng = np.random.default_rng(1)
    inputs, targets, noise = rng.standard_normal((30, 3)), rng.standard_normal(30), rng.uniform(0.2, 0.6, 30)
    kernel = Kernel(0.5, 0.5, 1.0, 0.3, population=0.2, slope=0.4, scores=1)
    folds = np.array_split(rng.permutation(30), 4)
    mean, variance = held_out(condition(kernel, inputs, targets, noise), targets, folds)
    for fold in folds:
        rest = np.setdiff1d(np.arange(30), fold)
        value, doubt = condition(kernel, inputs[rest], targets[rest], noise[rest]).predict(inputs[fold])
        assert mean[fold] == pytest.approx(value)
        assert variance[fold] == pytest.approx(doubt + noise[fold])


def test_a_process_through_every_point_is_the_exact_one():
    rng = np.random.default_rng(2)
    inputs, queries = rng.standard_normal((60, 3)), rng.standard_normal((20, 3))
    targets, noise, kernel = rng.standard_normal(60), rng.uniform(0.2, 0.6, 60), Kernel(0.5, 0.5, 1.0, 0.3)
    exact, sparse = condition(kernel, inputs, targets, noise), condition_sparse(kernel, inputs, targets, noise)
    for one, other in zip(exact.predict(queries), sparse.predict(queries), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert np.allclose(exact.covariance(queries), sparse.covariance(queries), atol=1e-4)
    folds = np.array_split(np.arange(60), 3)
    for one, other in zip(
        held_out(exact, targets, folds), held_out_sparse(kernel, inputs, targets, noise, folds), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.slow
def test_thousands_of_labels_are_fitted_through_inducing_points():
    rows, _, wanted, grades = world(3, images=MOST_EXACT + 700)
    found = fitted(rows, grades, MOST_EXACT + 200)
    assert set(found.candidates) == {"nystroem"}
    assert spearman(wanted[-500:], found.head.predict(rows[-500:]).utility) > 0.9


def test_members_widen_the_doubt_and_leave_the_mean():
    rows, _, _, grades = world(4)
    head = fitted(rows, grades, 60).head
    assert head.drawn.shape == (60, ensemble.MEMBERS)
    alone = replace(head, process=replace(head.process, members=np.zeros((0, 0))))
    (mean, doubt), (same, less) = head.latent(rows[60:400]), alone.latent(rows[60:400])
    assert np.array_equal(mean, same)
    assert np.all(doubt >= less)
    assert np.any(doubt > less)


def test_comparisons_split_ties_inside_a_top_grade_and_nowhere_else():
    grades = np.array([5, 5, 5, 4, 4, 2, 2])
    scale = scale_of(grades)
    said = [Preference(0, 1), Preference(1, 2), Preference(0, 2), Preference(3, 4, tie=True), Preference(5, 6)]
    moved = shifts([*said, Preference(3, 0)], grades, scale)
    assert moved[0] > moved[1] > moved[2]
    assert moved[3:] == pytest.approx(np.zeros(4), abs=1e-6)
    targets = scale.targets[grades - 1] + moved
    assert targets[:3].min() > scale.cuts[3]
    assert shifts([], grades, scale) == pytest.approx(np.zeros(7))


def test_comparisons_reach_the_head():
    rows, _, wanted, grades = world(5)
    top = np.flatnonzero(grades[:150] == 5)
    order = top[np.argsort(-wanted[top])]
    said = [Preference(int(a), int(b)) for i, a in enumerate(order) for b in order[i + 1 :]]
    plain = fitted(rows, grades, 150).head.predict(rows[order]).utility
    split = fitted(rows, grades, 150, comparisons=said).head.predict(rows[order]).utility
    assert spearman(wanted[order], split) > spearman(wanted[order], plain)


def test_favourites_alone_are_told_from_ungraded_images():
    found = []
    for seed in range(4):
        rows, _, _, grades = world(seed)
        liked = np.flatnonzero(grades == 5)[:25]
        rest = np.setdiff1d(np.arange(600), liked)[:300]
        training = Training(
            rows[liked], grades[liked], [str(i) for i in liked], np.zeros(25, bool), rows, unlabelled=rows[rest]
        )
        fit_ = list(fit(training, 0))[-1]
        assert fit_.head.kind == "favourites"
        assert fit_.metrics["auc_pu"].low > 0.5
        assert any("favourites" in str(alarm) for alarm in fit_.alarms)
        assert (fit_.grades == 0).sum() == 300
        found.append(auc(grades[600:] >= 4, fit_.head.predict(rows[600:]).utility))
    assert np.mean(found) > 0.8


def test_favourites_from_a_folder_are_held_against_the_rest_of_it():
    imported, own, made = 4, 1, np.random.default_rng(0)
    sources = np.array([own] * 50 + [imported] * 100)
    liked, graded = np.arange(60, 70), np.arange(60, 75)
    chosen = choose_unlabelled(sources, own, liked, graded, made)
    assert set(chosen.tolist()) == (set(range(50, 150)) - set(range(60, 75)))
    few = np.arange(50, 140)
    assert set(choose_unlabelled(sources, own, few, few, made).tolist()) == {*range(50), *range(140, 150)}
    assert set(choose_unlabelled(sources, own, np.arange(5), np.arange(5), made).tolist()) == set(range(5, 50))


def test_what_hides_among_the_ungraded_lowers_what_is_reported_and_never_raises_it():
    reported = []
    for hidden in (0, 100, 200):
        rows, _, _, grades = world(2, images=3000)
        best = np.flatnonzero(grades >= 4)
        rest = np.concatenate([best[25 : 25 + hidden], np.flatnonzero(grades < 4)[: 300 - hidden]])
        training = Training(
            rows[best[:25]],
            np.full(25, 5),
            [str(i) for i in range(25)],
            np.zeros(25, bool),
            rows,
            unlabelled=rows[rest],
        )
        reported.append(list(fit(training, 0))[-1].metrics["auc_pu"].value)
    assert reported[0] > reported[1] > reported[2]
    assert reported[0] > 0.9


def test_wide_embeddings_have_the_same_directions_by_rows_as_by_columns(monkeypatch):
    rng = np.random.default_rng(6)
    rows = rng.standard_normal((60, 40)) * np.arange(1, 41) ** -0.5
    by_columns = learn_features(rows)
    monkeypatch.setattr(features, "WIDE", 8)
    by_rows = learn_features(rows)
    assert np.abs(by_columns(rows)) == pytest.approx(np.abs(by_rows(rows)), abs=1e-9)
