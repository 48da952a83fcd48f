"""Pairs are labels: their likelihood beside the grades', what is fitted from them alone, and what they cannot say."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from konomi_rater.preference import head
from konomi_rater.preference.batch_prediction import rescore
from konomi_rater.preference.comparisons import NONE, Preference, enough, pairs_of, weights
from konomi_rater.preference.features import learn_features
from konomi_rater.preference.fitting import Fitted, fit, learnt_pairs, quick_fit
from konomi_rater.preference.gaussian_process import Kernel, condition, held_out
from konomi_rater.preference.head import MOST_EXACT, fit_head
from konomi_rater.preference.metrics import auc, spearman
from konomi_rater.preference.ordinal import PRIOR
from konomi_rater.preference.training import Training
from konomi_rater.storage.files.head_file import from_bytes, to_bytes
from tests.rater.preference.test_fitting import world


def said(wanted: np.ndarray, rows: int, count: int, seed: int = 0, noise: float = 0.3) -> list[Preference]:
    """What a person with this utility says of random pairs among the first rows."""
    rng = np.random.default_rng((1, seed))
    pairs = [rng.choice(rows, 2, replace=False) for _ in range(count)]
    utility = (wanted - wanted.mean()) / wanted.std()
    heard = [utility[pair] + noise * rng.standard_normal(2) for pair in pairs]
    return [Preference(*(map(int, pair[np.argsort(-one)]))) for pair, one in zip(pairs, heard, strict=True)]


def training(rows, grades, graded: int, judged: int, comparisons, background=None) -> Training:
    """The first rows graded, the next up to `judged` only compared."""
    names = [str(row) for row in range(judged)]
    return Training(
        rows[:graded],
        grades[:graded],
        names[:graded],
        np.ones(graded, bool),
        rows if background is None else background,
        comparisons=comparisons,
        compared=rows[graded:judged],
        compared_groups=names[graded:],
    )


def fitted(*words, seed: int = 0, **more) -> Fitted:
    *_, found = fit(training(*words, **more), seed)
    return found


def test_each_two_images_are_one_pair_with_what_was_said_either_way():
    pairs = pairs_of(
        [Preference(4, 2), Preference(2, 4), Preference(4, 2), Preference(1, 2, tie=True), Preference(3, 3)]
    )
    assert pairs.rows.tolist() == [[1, 2], [2, 4]]
    assert pairs.wins.tolist() == [[0.5, 0.5], [1.0, 2.0]]
    assert pairs.times.tolist() == [1, 3]
    newest = pairs_of([Preference(0, 1), Preference(5, 6), Preference(2, 3), Preference(1, 0)], most=2)
    assert newest.rows.tolist() == [[0, 1], [2, 3]]
    assert len(pairs_of([Preference(3, 3)])) == len(pairs_of([])) == len(NONE) == 0


@pytest.mark.parametrize("graded", [0, 30])
def test_laplaces_method_on_few_images_finds_what_it_finds_on_many_pairs(monkeypatch, graded):
    rows, _, wanted, grades = world(0, 200)
    features = learn_features(rows)
    pairs = pairs_of(said(wanted, 60, 300))
    heads = []
    for least in (0.0, 1.0):
        monkeypatch.setattr(head, "FEW_IMAGES", least)
        heads.append(fit_head("gp", features, rows[:60], grades[:graded], pairs=pairs))
    on_pairs, on_images = heads
    np.testing.assert_allclose(on_images.sites.targets, on_pairs.sites.targets, atol=1e-5)
    np.testing.assert_allclose(on_images.predict(rows).utility, on_pairs.predict(rows).utility, atol=1e-6)
    again = quick_fit(rows[:60], grades[:graded], rows, pairs=pairs, features=features)
    assert (
        again.predict(rows).utility == quick_fit(rows[:60], grades[:graded], rows, pairs=pairs).predict(rows).utility
    ).all()


def test_a_pick_of_three_in_nine_says_what_a_choice_among_84_says_not_18_times_a_pair():
    pick = [Preference(winner, loser) for winner in (0, 1, 2) for loser in range(3, 9)]
    alone = [Preference(9, 10), Preference(11, 12)]
    counted = weights([*alone, *pick, Preference(13, 14, tie=True)])
    assert counted[:2] == [1.0, 1.0] and counted[-1] == 1.0
    assert sum(counted[2:-1]) == pytest.approx(math.log2(84))
    best = [Preference(20, 23), Preference(20, 24)]
    assert sum(weights([*pick, *best])) == pytest.approx(math.log2(84) + math.log2(3))


def test_the_mode_of_grades_and_pairs_together_is_the_greatest_posterior():
    rng = np.random.default_rng(0)
    rows, _, wanted, grades = world(0, images=40, dimensions=6)
    pairs = pairs_of(said(wanted, 30, 25))
    head = fit_head("gp", learn_features(rows), rows[:30], grades[:12], pairs=pairs)
    inputs, kernel = head.features(rows[:30]), head.process.kernel
    covariance = kernel(inputs, inputs) + 1e-9 * np.eye(30)
    edges = np.concatenate([[-np.inf], head.scale.cuts, [np.inf]])

    def loss(f: np.ndarray) -> float:
        width = kernel.noise**0.5
        inside = norm.cdf((edges[grades[:12]] - f[:12]) / width) - norm.cdf((edges[grades[:12] - 1] - f[:12]) / width)
        gap = (f[pairs.rows[:, 0]] - f[pairs.rows[:, 1]]) / (2 * kernel.noise) ** 0.5
        of_pairs = pairs.wins[:, 0] * norm.logcdf(gap) + pairs.wins[:, 1] * norm.logcdf(-gap)
        return float(-np.log(inside).sum() - of_pairs.sum() + 0.5 * f @ np.linalg.solve(covariance, f))

    mode = head.process.mean(inputs)
    least = loss(mode)
    for _ in range(30):
        assert loss(mode + covariance @ (0.02 * rng.standard_normal(30))) > least


def test_held_out_in_closed_form_is_what_refitting_without_an_image_gives():
    rng = np.random.default_rng(1)
    inputs, pairs = rng.standard_normal((12, 3)), np.array([[0, 1], [1, 8], [9, 10], [2, 11]])
    targets, noise = rng.standard_normal(6 + 4), rng.uniform(0.2, 0.6, 10)
    kernel = Kernel(0.5, 0.5, 1.0, 0.3, population=0.2, slope=0.4, scores=1)
    process = condition(kernel, inputs, targets, noise, pairs)
    touched = np.array([1, 6, 7])  # the grade of row 1 and the two pairs it is in
    mean, variance = held_out(process, targets, [touched])
    rest = np.setdiff1d(np.arange(10), touched)
    alone = np.array([0, 2, 3, 4, 5])
    less = np.concatenate([inputs[alone], inputs[[9, 10, 11]]])
    without = condition(kernel, less, targets[rest], noise[rest], np.array([[5, 6], [1, 7]]))
    value, doubt = without.predict(inputs[[1]])
    assert mean[1] == pytest.approx(value[0])
    assert variance[1] == pytest.approx(doubt[0] + noise[1])
    both = without.predict(inputs[[1, 8]])[0]
    assert mean[7] == pytest.approx(both[0] - both[1])


def test_pairs_alone_order_unseen_images_and_say_that_shares_are_assumed():
    orders, shares = [], []
    for seed in range(4):
        rows, _, wanted, grades = world(seed)
        found = fitted(rows, grades, 0, 200, said(wanted, 200, 100, seed))
        prediction = found.head.predict(rows[200:])
        orders.append(spearman(wanted[200:], prediction.utility))
        shares.append(prediction.probabilities.mean(axis=0))
        assert found.metrics.keys() == {"pair_accuracy"} and found.metrics["pair_accuracy"].low > 0.5
        assert found.metrics["pair_accuracy"].n == found.compared == 100
        assert [alarm.name for alarm in found.alarms] == ["only_pairs"]
        assert "assumed" in str(found.alarms[0]) and set(found.grades) == {0}
    assert np.mean(orders) > 0.75
    assert np.mean(shares, axis=0) == pytest.approx(PRIOR, abs=0.03)


@pytest.mark.slow
def test_pairs_make_twenty_grades_better_and_twenty_grades_say_where_the_cuts_are():
    gains = []
    for seed in range(6):
        rows, _, wanted, grades = world(seed)
        with_ = fitted(rows, grades, 20, 200, said(wanted, 200, 100, seed))
        without = fitted(rows, grades, 20, 20, [])
        scores = [auc(grades[200:] >= 4, one.head.predict(rows[200:]).utility) for one in (with_, without)]
        gains.append(scores[0] - scores[1])
        assert {"srcc", "pair_accuracy"} <= with_.metrics.keys()
        assert "only_pairs" not in [alarm.name for alarm in with_.alarms]
    assert np.mean(gains) > 0.03


def test_contradictions_circles_and_ties_are_noise_and_nothing_else():
    rows, _, wanted, grades = world(1)
    comparisons = said(wanted, 100, 80)
    circle = [Preference(0, 1), Preference(1, 2), Preference(2, 0)] * 3
    against = [Preference(one.loser, one.winner) for one in comparisons[:20]]
    noisy = [*comparisons, *circle, *against, Preference(5, 5), Preference(6, 7, tie=True)]
    scores = [
        spearman(wanted[100:], fitted(rows, grades, 0, 100, some).head.predict(rows[100:]).utility)
        for some in (noisy, comparisons)
    ]
    assert np.isfinite(scores).all() and scores[0] > scores[1] - 0.15
    even = fitted(rows, grades, 0, 100, [*comparisons, *(Preference(one.loser, one.winner) for one in comparisons)])
    assert [alarm.name for alarm in even.alarms] == ["only_pairs", "unmeasured"]


def test_pairs_that_nobody_meant_are_said_to_be_no_better_than_chance():
    rows, _, wanted, grades = world(1)
    found = fitted(rows, grades, 0, 100, said(wanted, 100, 60, noise=50.0))
    assert [alarm.name for alarm in found.alarms] == ["only_pairs", "pairs_chance"]
    assert "than chance" in str(found.alarms[1])


def test_the_same_pairs_make_the_same_bytes_and_a_head_read_back_says_the_same():
    rows, _, wanted, grades = world(2)
    for graded in (0, 40):
        comparisons = said(wanted, 120, 60)
        one, other = (fitted(rows, grades, graded, 120, comparisons, seed=5) for _ in range(2))
        data = to_bytes(one.head, one.embeddings, one.grades, "starter")
        assert data == to_bytes(other.head, other.embeddings, other.grades, "starter")
        read = from_bytes(data).head
        expected = one.head.predict(rows[:300])
        assert np.array_equal(read.predict(rows[:300]).probabilities, expected.probabilities)
        fast = rescore(one.head, rows[:300], [None] * 300, 1)
        assert fast.utility == pytest.approx(expected.utility, abs=2e-3)
        assert read.compared == 120 - graded


def test_favourites_and_pairs_are_learnt_together_and_the_shares_stay_assumed():
    gains = []
    for seed in range(4):
        rows, _, wanted, grades = world(seed)
        order = np.concatenate([np.flatnonzero(grades == 5)[:20], np.flatnonzero(grades < 5)])
        rows, wanted, grades = rows[order], wanted[order], grades[order]
        rest = {"unlabelled": rows[300:600]}
        both = training(rows, grades, 20, 200, said(wanted, 200, 60, seed))
        *_, found = fit(replace(both, **rest), 0)
        *_, alone = fit(replace(training(rows, grades, 20, 20, []), **rest), 0)
        assert alone.head.kind == "favourites" and [alarm.name for alarm in found.alarms] == ["only_pairs"]
        assert {"auc_pu", "pair_accuracy"} == found.metrics.keys() and found.compared == 60
        assert found.head.predict(rows).probabilities[:, 3:].sum(1).mean() == pytest.approx(0.12, abs=0.03)
        scores = [auc(grades[600:] >= 4, one.head.predict(rows[600:]).utility) for one in (found, alone)]
        gains.append(scores[0] - scores[1])
        assert found.head.compared == 180 and (found.grades == 5).sum() == 20
    assert np.mean(gains) > 0.0


def test_what_chooses_the_next_images_learns_from_pairs():
    rows, _, wanted, grades = world(4)
    pairs = learnt_pairs(said(wanted, 100, 60), 0)
    head = quick_fit(rows[:100], grades[:0], rows, pairs=pairs)
    assert spearman(wanted[100:], head.predict(rows[100:]).utility) > 0.6
    assert head.compared == 100
    seen, unseen = (
        np.diag(head.process.covariance(head.features(part))).mean() for part in (rows[:100], rows[200:300])
    )
    assert seen < unseen


def test_how_much_is_enough():
    few, ten = [Preference(i, i + 1) for i in range(4)], [Preference(i, i + 1) for i in range(10)]
    ties = [replace(one, tie=True) for one in ten]
    none, three, five = np.zeros(0, int), np.array([1, 2, 3]), np.array([1, 1, 2, 2, 3])
    assert enough(none, ten) and enough(five, []) and enough(three, few)
    assert not enough(none, ties) and not enough(none, ten[1:]) and not enough(three, few[1:])
    assert not enough(np.full(30, 2), few) and enough(np.full(30, 2), ten)


def test_beside_more_grades_than_a_process_is_exact_on_pairs_split_ties_as_before():
    assert len(learnt_pairs([Preference(0, 1)], MOST_EXACT)) == 1
    assert learnt_pairs([Preference(0, 1)], MOST_EXACT + 1) is NONE


def test_images_that_were_only_compared_are_left_out_where_pairs_are_no_labels(monkeypatch):
    monkeypatch.setattr("konomi_rater.preference.fitting.MOST_EXACT", 30)
    rows, _, _, grades = world(3)
    comparisons = [Preference(0, 45), Preference(46, 47), Preference(1, 2)]
    with_, plain = (fitted(rows, grades, graded=40, judged=judged, comparisons=comparisons[-said:])
                    for judged, said in ((50, 3), (40, 1)))  # fmt: skip
    assert np.array_equal(with_.head.predict(rows).utility, plain.head.predict(rows).utility)
    assert len(with_.embeddings) == len(with_.grades) == 40 and not len(with_.head.sites.pairs)
