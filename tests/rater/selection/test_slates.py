"""The slate of the long tail, the islands it finds, and the likes it says are unseen; pure and over a socket."""

import numpy as np
import pytest

from konomi.v1 import rater_pb2 as pb
from konomi_rater.selection.acquisition import SuggestionReason
from konomi_rater.selection.slates import ShownImage, SlatePool, choose, discover, predictions
from tests.rater.conftest import grades_of


def pool(count=200, regions=20, **changes) -> SlatePool:
    rng = np.random.default_rng(5)
    columns = {
        "embeddings": np.eye(count),
        "utility": rng.uniform(1, 5, count),
        "std": rng.uniform(0.1, 1, count),
        "novelty": rng.uniform(0, 1, count),
        "plausible": np.ones(count, bool),
        "regions": np.arange(count) % regions,
        "visits": np.zeros(regions, int),
    }
    return SlatePool(**(columns | changes))


def test_of_forty_half_are_good_fourteen_doubtful_and_six_different_in_their_own_row_at_the_end():
    given = pool()
    picks = choose(given, 40)
    reasons = [reason for _, reason in picks]
    assert reasons == [SuggestionReason.EXPLOIT] * 20 + [SuggestionReason.UNCERTAIN] * 14 + [SuggestionReason.NOVEL] * 6
    assert len({row for row, _ in picks}) == 40
    good = {row for row, reason in picks if reason is SuggestionReason.EXPLOIT}
    assert good == set(np.argsort(-given.utility)[:20].tolist())


def test_the_different_come_from_the_regions_shown_least_the_most_novel_of_each_and_none_twice():
    visits = np.full(20, 9)
    visits[[3, 4, 7]] = 0
    given = pool(visits=visits)
    rows = [row for row, reason in choose(given, 20) if reason is SuggestionReason.NOVEL]
    assert {int(given.regions[row]) for row in rows} == {3, 4, 7}
    taken = {row for row, reason in choose(given, 20) if reason is not SuggestionReason.NOVEL}
    for row in rows:
        same = [at for at in np.flatnonzero(given.regions == given.regions[row]) if at not in taken]
        assert given.novelty[row] == given.novelty[same].max()


def test_noise_and_twins_are_never_shown():
    embeddings = np.eye(200)
    embeddings[1] = embeddings[0]
    utility = np.full(200, 2.0)
    utility[[0, 1, 2]] = 5.0
    plausible = np.ones(200, bool)
    plausible[2] = False
    rows = [row for row, _ in choose(pool(embeddings=embeddings, utility=utility, plausible=plausible), 40)]
    assert len({0, 1} & set(rows)) == 1
    assert 2 not in rows
    assert choose(pool(count=3, regions=3), 40)[:3]
    assert len(choose(pool(count=3, regions=3), 40)) == 3


def shown(region: int, *grades: int, start: int = 1) -> list[ShownImage]:
    return [ShownImage(region, f"{region}-{n}", grade, start + n) for n, grade in enumerate(grades)]


@pytest.mark.parametrize(
    ("grades", "below", "island"),
    [
        ((1, 4, 1, 5, 2, 4), True, True),
        ((1, 4, 1, 5, 2, 4), False, False),
        ((4, 4, 3, 3, 3), True, False),
        ((1,) * 8 + (4, 4, 4), True, False),
        ((1,) * 7 + (4, 4, 4), True, True),
    ],
)
def test_an_island_was_predicted_low_and_three_of_its_first_ten_were_liked(grades, below, island):
    tail = discover(shown(7, *grades), {7: below})
    assert [one.region for one in tail.islands] == ([7] if island else [])


def test_an_island_is_dated_by_its_third_like():
    (found,) = discover(shown(7, 1, 4, 5, 1, 4, 5, start=20), {7: True}).islands
    assert (found.sequence, found.shown, found.liked) == (24, 6, ("7-1", "7-2", "7-4", "7-5"))


def test_the_mass_of_unseen_likes_is_f1_over_n():
    grades = [*shown(1, 4, 5), *shown(2, 4), *shown(3, 5), *shown(4, 1, 2), *shown(5, 4, 4, 4, 4, 4, 4)]
    tail = discover(grades, {})
    assert (tail.unseen_likes, tail.liked_showings) == (pytest.approx(2 / 10), 10)
    assert discover([], {}).unseen_likes == 1.0


def test_a_good_turing_estimate_is_near_the_mass_truly_unseen():
    rng, regions = np.random.default_rng(3), 40
    chance = 1 / np.arange(1, regions + 1)
    chance /= chance.sum()
    errors = []
    for _ in range(200):
        drawn = rng.choice(regions, 60, p=chance)
        truth = chance[~np.isin(np.arange(regions), drawn)].sum()
        likes = [ShownImage(int(region), str(n), 4, n) for n, region in enumerate(drawn)]
        errors.append(discover(likes, {}).unseen_likes - truth)
    assert abs(np.mean(errors)) < 0.02


def test_predictions_are_means_over_regions_and_their_median():
    means, median = predictions(np.array([1.0, 3.0, 4.0, 2.0]), np.array([0, 0, 5, 9]))
    assert means == {0: 2.0, 5: 4.0, 9: 2.0}
    assert median == 2.0


def slate(rater, taste, **fields):
    return list(rater.call("SuggestImages", pb.SuggestImagesRequest(taste=taste, slate=True, **fields)).suggestions)


def discovery(rater, taste):
    reply = rater.call("ExploreNovelty", pb.ExploreNoveltyRequest(taste=taste))
    return reply.discovery if reply.HasField("discovery") else None


def test_a_slate_notes_its_bets_before_it_shows_and_finds_what_the_owner_then_likes(rater, library):
    taste = library.taste
    assert slate(rater, taste) == [], "nothing can be predicted before something is graded"
    assert discovery(rater, taste) is None
    rater.label(taste, grades_of(library, library.digests[:40]))
    first = slate(rater, taste, count=20)
    assert first and all(one.HasField("region") for one in first)
    assert {one.reason for one in first} <= {1, 2, 3}
    found = discovery(rater, taste)
    assert (found.registered, found.liked_showings, found.labels_since_island) == (len({o.region for o in first}), 0, 0)
    assert found.unseen_likes == 1.0
    rater.label(taste, {one.image.digest: 5 for one in first})
    found = discovery(rater, taste)
    assert found.liked_showings == len(first) == found.labels_since_island or found.islands
    by_region = {}
    for one in first:
        by_region.setdefault(one.region, []).append(one)
    once = sum(len(members) == 1 for members in by_region.values())
    assert found.unseen_likes == pytest.approx(once / len(first))
    for island in found.islands:
        assert island.predicted < island.median
        assert island.liked >= 3
    again = slate(rater, taste, count=20)
    assert not {one.image.digest for one in again} & {one.image.digest for one in first}


def test_a_bet_is_never_changed_by_what_was_learned_after_it(rater, library):
    taste = library.taste
    rater.label(taste, grades_of(library, library.digests[:30]))
    first = slate(rater, taste, count=30)
    rater.label(taste, {one.image.digest: 5 for one in first})
    before = {island.region: island.predicted for island in discovery(rater, taste).islands}
    slate(rater, taste, count=30)
    after = {island.region: island.predicted for island in discovery(rater, taste).islands}
    assert {region: after[region] for region in before} == before
