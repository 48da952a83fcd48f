"""Suggestions: typical first, then 8 that settle doubt and 2 at random, novel ones on request; never one twice."""

from collections import Counter

import numpy as np
import pytest

from konomi_rater.preference.fitting import quick_fit
from konomi_rater.preference.gaussian_process import condition
from konomi_rater.selection import acquisition
from konomi_rater.selection.acquisition import Pool, SuggestionReason, repeats, suggest


def pool_of(seed: int, count: int = 300) -> tuple[Pool, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, 12)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    wanted = rows[:, 0]
    return Pool(rows, rng.random(count), rng.random(count) < 0.9), wanted


def head_of(pool: Pool, wanted: np.ndarray, count: int = 40):
    grades = 1 + np.searchsorted(np.quantile(wanted, [0.3, 0.6, 0.82, 0.94]), wanted)
    return quick_fit(pool.embeddings[:count], grades[:count], pool.embeddings)


def test_starts_with_typical_images_that_cover_the_pool():
    pool, _ = pool_of(0)
    picks = suggest(pool, None, 0, 10, 0, np.random.default_rng(0))
    assert [reason for _, reason in picks] == [SuggestionReason.TYPICAL] * 10
    assert len({row for row, _ in picks}) == 10


def test_a_long_start_holds_random_images_too():
    pool, _ = pool_of(0)
    reasons = Counter(reason for _, reason in suggest(pool, None, 0, 70, 0, np.random.default_rng(0)))
    assert reasons == {SuggestionReason.TYPICAL: 59, SuggestionReason.RANDOM: 11}


def test_of_ten_two_are_drawn_at_random_and_the_rest_settle_doubt():
    pool, wanted = pool_of(1)
    picks = suggest(pool, head_of(pool, wanted), 40, 10, 0, np.random.default_rng(0))
    assert Counter(reason for _, reason in picks) == {SuggestionReason.UNCERTAIN: 8, SuggestionReason.RANDOM: 2}
    assert len({row for row, _ in picks}) == 10


def test_doubt_is_settled_where_something_may_be_liked():
    chosen, drawn = [], []
    for seed in range(12):
        pool, wanted = pool_of(seed)
        for row, reason in suggest(pool, head_of(pool, wanted), 40, 20, 0, np.random.default_rng(seed)):
            (chosen if reason is SuggestionReason.UNCERTAIN else drawn).append(wanted[row])
    assert np.mean(chosen) > np.mean(drawn) + 0.1
    assert abs(np.mean(drawn)) < 0.15


def test_while_labels_are_few_one_that_is_asked_for_settles_others_too():
    """The head that chooses is linear at first: nearness leaves every image but the asked one as unknown as it was."""
    pool, wanted = pool_of(2)
    few, many = head_of(pool, wanted, 20), head_of(pool, wanted, 30)
    assert (few.kind, many.kind) == ("linear", "gp")
    assert few.process.kernel.rbf == 0 and many.process.kernel.rbf > 0


def test_what_is_chosen_teaches_more_about_what_is_liked_than_chance():
    def doubt(rows: list[int]) -> float:
        head = head_of(pool, wanted)
        known = np.concatenate([pool.embeddings[:40], pool.embeddings[rows]])
        process = condition(head.process.kernel, head.features(known), np.zeros(len(known)))
        return float(process.predict(head.features(pool.embeddings[wanted > np.quantile(wanted, 0.8)]))[1].mean())

    better = 0
    for seed in range(12):
        pool, wanted = pool_of(seed)
        rng = np.random.default_rng(seed)
        picks = [row for row, _ in suggest(pool, head_of(pool, wanted), 40, 10, 0, rng)]
        better += doubt(picks) < doubt([int(row) for row in rng.permutation(300)[:10]])
    assert better >= 11


def test_one_of_two_alike_is_enough():
    for seed in range(4):
        pool, wanted = pool_of(seed)
        twice = Pool(np.concatenate([pool.embeddings] * 2), np.zeros(600), np.ones(600, bool))
        picks = suggest(twice, head_of(pool, wanted), 40, 10, 0, np.random.default_rng(seed))
        chosen = [row % 300 for row, reason in picks if reason is SuggestionReason.UNCERTAIN]
        assert len(set(chosen)) == len(chosen) == 8


def test_a_long_list_has_as_many_as_were_asked_for_none_twice(monkeypatch):
    monkeypatch.setattr(acquisition, "RUNS_OUT", 1.0)
    pool, wanted = pool_of(8)
    picks = suggest(pool, head_of(pool, wanted), 40, 250, 0, np.random.default_rng(0))
    assert len({row for row, _ in picks}) == 250
    assert Counter(reason for _, reason in picks) == {SuggestionReason.UNCERTAIN: 200, SuggestionReason.RANDOM: 50}


def test_where_a_pool_runs_out_chance_decides_more_and_more_and_at_half_of_it_alone():
    pool, wanted = pool_of(8)
    head, size = head_of(pool, wanted), len(pool.embeddings)

    def drawn(labelled: int) -> float:
        picks = suggest(pool, head, labelled, 60, 0, np.random.default_rng(0))
        return sum(reason is SuggestionReason.RANDOM for _, reason in picks) / 60

    assert drawn(size // 10) == 0.2
    assert 0.4 < drawn(size // 2) < 0.9
    assert drawn(size + 1) == 1.0


def test_novel_slots_take_the_farthest_plausible_and_spread():
    pool, _ = pool_of(2)
    picks = suggest(pool, None, 50, 4, 4, np.random.default_rng(0))
    assert {reason for _, reason in picks} == {SuggestionReason.NOVEL}
    assert all(pool.plausible[row] for row, _ in picks)
    assert picks[0][0] == int(np.argmax(np.where(pool.plausible, pool.novelty, -1)))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_small_pools_give_what_they_have(count):
    pool, wanted = pool_of(3)
    few = Pool(pool.embeddings[:count], pool.novelty[:count], pool.plausible[:count])
    for head in (None, head_of(pool, wanted)):
        assert len(suggest(few, head, 40, 10, 0, np.random.default_rng(0))) == count


def test_same_seed_same_suggestions():
    pool, wanted = pool_of(4)
    first, second = (suggest(pool, head_of(pool, wanted), 40, 10, 2, np.random.default_rng(5)) for _ in range(2))
    assert first == second


def test_short_batches_go_on_where_the_last_one_stopped():
    pool, wanted = pool_of(5)
    head, seen, labelled = head_of(pool, wanted), Counter(), 40
    for size in (7, 8, 7, 8):
        picks = suggest(pool, head, labelled, size, 0, np.random.default_rng(labelled))
        seen.update(reason for _, reason in picks)
        labelled += len(picks)
    assert seen == {SuggestionReason.UNCERTAIN: 24, SuggestionReason.RANDOM: 6}


def test_a_start_takes_half_of_what_people_like_where_that_is_known():
    pool, wanted = pool_of(6)
    known = Pool(pool.embeddings, pool.novelty, pool.plausible, population=wanted)
    picks = suggest(known, None, 0, 14, 0, np.random.default_rng(0))
    assert Counter(reason for _, reason in picks) == {SuggestionReason.EXPLOIT: 7, SuggestionReason.TYPICAL: 7}
    liked = [row for row, reason in picks if reason is SuggestionReason.EXPLOIT]
    assert set(liked) == set(np.argsort(-wanted)[:7].tolist())
    assert len({row for row, _ in picks}) == 14


def test_the_start_goes_on_until_fifteen_are_graded_even_with_a_model():
    pool, wanted = pool_of(7)
    reasons = [r for _, r in suggest(pool, head_of(pool, wanted), 11, 10, 0, np.random.default_rng(0))]
    assert reasons[:4] == [SuggestionReason.TYPICAL] * 4
    assert SuggestionReason.TYPICAL not in reasons[4:]


@pytest.mark.parametrize(("labelled", "wanted"), [(0, 0.0), (19, 0.0), (20, 0.1), (199, 0.1), (200, 0.05), (900, 0.05)])
def test_a_tenth_are_repeats_for_200_labels_and_a_twentieth_later(labelled, wanted):
    drawn = [len(repeats(500, labelled, 8, 0.1, np.random.default_rng(seed))) for seed in range(4000)]
    assert np.mean(drawn) / 8 == pytest.approx(wanted, abs=0.004)


def test_no_image_is_repeated_twice_and_no_more_than_there_are():
    drawn = repeats(3, 100, 1000, 0.1, np.random.default_rng(0))
    assert sorted(drawn.tolist()) == [0, 1, 2]
