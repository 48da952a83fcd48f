"""The gate of a set that grows by itself: its band, its reasons, its order, its size; and over the wire."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.v1 import rater_pb2 as pb
from konomi_rater.selection.propagation import (
    WIDTH,
    Band,
    GrowthGate,
    among,
    augmentations,
    band,
    farthest_first,
    grow,
    least_bound,
)
from konomi_rater.selection.selection import RejectionReason
from tests.rater.conftest import grades_of

DRIFTED, COPY, WEAK = RejectionReason.DRIFTED, RejectionReason.NEAR_COPY, RejectionReason.LOWER_BOUND


def at(*angles):
    """Returns unit rows in a plane, by degrees."""
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def grown(angles, bounds=None, refused=None, members=(0, 20), least=2.0, room=99, duplicate=0.999):
    gate = GrowthGate(at(0, 20), at(*members), least, Band(float(np.cos(np.radians(40)))), duplicate, room)
    return grow(at(*angles), np.array(bounds or [4.0] * len(angles)), refused or {}, gate)


def test_every_candidate_ends_with_one_fate():
    found = grown([-30, 5, 70, -25, 45, 50], [4, 4, 4, 1.9, 4, 2.0], {4: RejectionReason.UNTYPICAL})
    assert found.taken == [0, 5] or found.taken == [5, 0]
    assert found.rejected == {1: COPY, 2: DRIFTED, 3: WEAK, 4: RejectionReason.UNTYPICAL}
    assert (found.passed, found.liked) == (2, 5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 40), size=st.integers(1, 6), room=st.integers(1, 12))
def test_whatever_comes_the_set_at_most_doubles_and_all_are_accounted_for(seed, count, size, room):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count + size, 3))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    members, candidates = rows[:size], rows[size:]
    gate = GrowthGate(members[:1], members, 2.0, Band(0.0), 0.97, room)
    bounds = rng.uniform(1, 3, count)
    found = grow(candidates, bounds, {}, gate)
    assert sorted([*found.taken, *found.rejected]) == list(range(count))
    assert len(found.taken) <= min(size, room)
    for row in found.taken:
        assert 0.0 <= found.cosines[row] <= 0.95
        assert bounds[row] >= 2.0
    whole = np.concatenate([members, candidates[found.taken]])
    alike = whole @ whole.T - 2 * np.eye(len(whole))
    assert not found.taken or alike[size:].max() <= 0.97 + 1e-9


def test_a_bound_equal_to_the_weakest_members_passes():
    assert grown([-30], [2.0]).taken == [0]


def test_the_set_at_most_doubles_and_takes_the_farthest_first():
    found = grown([-22, -38, 42, 58])
    assert set(found.taken) == {1, 3}
    assert [found.rejected[row] for row in (0, 2)] == [RejectionReason.SURPLUS] * 2
    assert len(grown([-22, -38, 42, 58], room=1).taken) == 1


def test_what_a_member_shows_already_is_a_duplicate():
    found = grown([-30, -30.1, 50], members=(0, 20, 50.2), duplicate=0.9999)
    assert len(found.taken) == 1
    assert sorted(found.rejected.values()) == [RejectionReason.DUPLICATE] * 2


def test_a_bound_is_enough_that_a_quarter_of_the_likes_do_not_reach():
    likes = np.array([4.4, 3.0, 3.4, 3.8, 4.2])
    assert least_bound(np.array([4.5]), likes) == pytest.approx(3.4), "a graded original is out of reach"
    assert least_bound(np.array([4.5, 3.1]), likes) == 3.1
    assert least_bound(np.array([4.5]), likes[:3]) == 4.5, "three likes say nothing"


def test_nothing_to_choose_from_takes_nothing():
    found = grow(np.zeros((0, 2)), np.zeros(0), {}, GrowthGate(at(0), at(0), 1.0, Band(0.5)))
    assert (found.taken, found.mean_cosine, found.standard_error) == ([], 0.0, 0.0)


def test_the_band_begins_at_the_fifth_percentile_among_the_originals():
    assert band(among(at(0, 60))).low == pytest.approx(0.5)
    assert band(among(at(0))).low == 0.0


def test_originals_that_are_all_alike_leave_room_between_stranger_and_copy():
    """Ten turns of one real growth took in four images: its band was .914 to .95."""
    assert (band(among(at(0, 1))).low, band(among(at(0, 1))).high) == (pytest.approx(0.75), 0.95)
    assert band(among(at(0, 1)), 0.1).low == 0.0


def test_the_mean_cosine_has_its_error():
    found = grown([10, -10, -30])
    nearest = np.cos(np.radians([10, 10, 30]))
    assert found.mean_cosine == pytest.approx(nearest.mean())
    assert found.standard_error == pytest.approx(nearest.std(ddof=1) / np.sqrt(3))


def test_farthest_first_spreads_out_and_says_how_near():
    order = farthest_first(at(10, 90, 50, 89), at(0))
    assert [row for row, _ in order][:2] == [1, 2]
    assert order[0][1] == pytest.approx(0.0)
    assert order[1][1] == pytest.approx(np.cos(np.radians(40)))


def test_augmentations_are_crops_of_the_image_half_of_them_mirrored():
    pixels = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    found = augmentations(pixels, 8)
    assert len(found) == 8
    for crop in found:
        assert 28 <= crop.shape[0] < 40
        assert 21 <= crop.shape[1] < 30
    assert all(crop[0, 0, 0] < crop[0, -1, 0] or crop[0, 0, 0] > crop[0, -1, 0] for crop in found)
    assert augmentations(pixels, 8)[3].tobytes() == found[3].tobytes()


def wanted(library, **fields):
    digests = library.digests
    given = {"originals": digests[:2], "members": digests[:3], "count": 8, "typicality_percentile": 100, **fields}
    return pb.SelectImagesRequest(
        taste=library.taste, policy="propagate", candidates=pb.ImageFilter(digests=digests[20:]), **given
    )


def test_a_set_grows_over_the_wire(rater, fitted):
    reply = rater.call("SelectImages", wanted(fitted, kappa=0.0, near_copy_cosine=0.9999))
    assert reply.growth.low <= reply.growth.high == pytest.approx(0.9999)
    assert len(reply.selected) <= 3
    assert len(reply.growth.cosines) == len(reply.selected)
    assert reply.considered == 100 == len(reply.selected) + len(reply.rejections)
    assert reply.growth.passed >= len(reply.selected)
    if reply.selected:
        assert reply.pressure_nats == pytest.approx(np.log(100 / reply.growth.liked))
    low = {one.digest for one in reply.rejections if one.reason == pb.REJECTION_REASON_GRADE}
    graded = grades_of(fitted, fitted.digests[:40])
    assert all(graded[digest] < 4 for digest in low)
    assert not any(graded.get(one.digest, 5) < 4 for one in reply.selected)


def test_a_single_original_is_compared_with_its_own_crops(rater, fitted):
    one = rater.call("SelectImages", wanted(fitted, originals=fitted.digests[:1], near_copy_cosine=0.9999))
    assert 0 < one.growth.low <= 0.9999 - WIDTH + 1e-6


def test_members_are_no_candidates(rater, fitted):
    reply = rater.call("SelectImages", wanted(fitted, members=fitted.digests[20:30]))
    assert reply.considered == 90


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"originals": []}, InvalidArgument, "expected 1 to 16 originals"),
        ({"originals": ["0" * 64]}, InvalidArgument, "which it does not know"),
        ({"members": ["0" * 64]}, InvalidArgument, "among the members"),
        ({"originals": ["x"]}, InvalidArgument, "originals"),
    ],
)
def test_what_cannot_be_is_refused(rater, fitted, fields, error, words):
    with pytest.raises(error, match=words):
        rater.call("SelectImages", wanted(fitted, **fields))


def test_without_a_rater_nothing_grows(rater, library):
    with pytest.raises(FailedPrecondition, match="fitted rater"):
        rater.call("SelectImages", wanted(library))
