"""What is turned away from: the worst of each prompt in the stated order, konomi's own alone, no more than selected."""

from collections import Counter

import numpy as np
import pytest

from konomi.errors import InvalidArgument
from konomi.v1 import rater_pb2 as pb
from konomi_rater.selection.avoidance import AvoidableImages, AvoidanceReason, avoid
from tests.rater.conftest import grades_of, png

GRADED_N, GRADED_R, UPPER_BOUND = AvoidanceReason.GRADED_N, AvoidanceReason.GRADED_R, AvoidanceReason.UPPER_BOUND
NONE = np.empty((0, 8), np.float32)


def images(count: int, **changes: object) -> AvoidableImages:
    columns = {
        "embeddings": np.eye(8, dtype=np.float32)[np.arange(count) % 8],
        "upper_bounds": np.arange(count, 0, -1.0),
        "grades": np.zeros(count, dtype=np.int64),
        "own": np.ones(count, dtype=bool),
        "prompts": ["a"] * count,
        **changes,
    }
    return AvoidableImages(**columns)  # type: ignore[arg-type]


def test_graded_n_comes_first_then_r_then_the_lowest_upper_bound_and_never_ssr_or_ur():
    graded = images(7, grades=np.array([2, 1, 4, 5, 3, 0, 0]))
    order = [(1, GRADED_N), (0, GRADED_R), (6, UPPER_BOUND), (5, UPPER_BOUND), (4, UPPER_BOUND)]
    assert avoid(graded, NONE, {"a": 9}, 0.97) == order
    assert avoid(graded, NONE, {"a": 2}, 0.97) == order[:2]


def test_each_prompt_gives_as_many_as_were_selected_of_it():
    mixed = images(6, prompts=["a", "b", "a", "b", "c", "a"])
    assert avoid(mixed, NONE, {"a": 1, "b": 2}, 0.97) == [(5, UPPER_BOUND), (3, UPPER_BOUND), (1, UPPER_BOUND)]
    assert avoid(mixed, NONE, {"z": 3}, 0.97) == []


def test_images_from_elsewhere_are_never_taken_nor_ungraded_ones_without_a_rater():
    assert avoid(images(3, own=np.array([True, False, False])), NONE, {"a": 3}, 0.97) == [(0, UPPER_BOUND)]
    unscored = images(3, upper_bounds=None, grades=np.array([0, 2, 1]))
    assert avoid(unscored, NONE, {"a": 3}, 0.97) == [(2, GRADED_N), (1, GRADED_R)]


def test_a_duplicate_of_what_is_selected_or_avoided_is_passed_over():
    twins = images(4, embeddings=np.eye(8, dtype=np.float32)[[0, 1, 2, 2]])
    liked = np.eye(8, dtype=np.float32)[[1]]
    assert avoid(twins, liked, {"a": 4}, 0.97) == [(3, UPPER_BOUND), (0, UPPER_BOUND)]


def selected(rater, taste, **fields):
    fields = {"policy": "converge", "count": 12, "seed": 3, "prompt_quota": 1.0, **fields}
    return rater.call("SelectImages", pb.SelectImagesRequest(taste=taste, **fields))


def nats(rater, taste):
    return rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name=f"{taste}/raterVersions/active")).pressure.nats


def test_a_set_comes_with_the_other_tail_which_spends_pressure_too(rater, fitted):
    imported = rater.put(png((0, 255, 0), seed=999))
    rater.add(fitted.taste, [pb.Image(digest=imported, source=pb.SOURCE_IMPORTED, prompt="portrait 1")])
    plain = selected(rater, fitted.taste, purpose="night/unit-1")
    assert not plain.avoided and plain.avoided_share == 0
    assert nats(rater, fitted.taste) == pytest.approx(np.log(1 / plain.kept_share))
    found = selected(rater, fitted.taste, avoid=True, purpose="night/unit-1")
    assert found.selected == plain.selected and found.rejections == plain.rejections and found.avoided
    inside = {member.digest for member in found.selected}
    taken = Counter(m.prompt for m in found.selected if m.role == pb.SELECTION_ROLE_SELECTED)
    away = Counter(image.prompt for image in found.avoided)
    assert all(count <= taken[prompt] for prompt, count in away.items())
    true = grades_of(fitted, fitted.digests)
    for image in found.avoided:
        graded = true[image.digest] if image.digest in fitted.digests[:40] else 0
        assert image.digest not in inside | {imported} and image.unit in ("base", "unit-1") and graded not in (4, 5)
        expected = {1: pb.AVOIDANCE_REASON_GRADED_N, 2: pb.AVOIDANCE_REASON_GRADED_R}
        assert image.reason == expected.get(graded, pb.AVOIDANCE_REASON_UPPER_BOUND) and image.weight == 1
        assert image.upper_bound == pytest.approx(image.score.utility + image.score.std, abs=1e-5)
    reasons = [image.reason for image in found.avoided]
    bounds = [image.upper_bound for image in found.avoided if image.reason == pb.AVOIDANCE_REASON_UPPER_BOUND]
    assert reasons == sorted(reasons) and bounds == sorted(bounds)
    worst = [fitted.utility[image.digest] for image in found.avoided]
    assert np.mean(worst) < np.mean(list(fitted.utility.values())) - 0.1
    assert found.avoided_share == pytest.approx(len(found.avoided) / found.considered)
    assert found.avoided_nats == pytest.approx(-np.log(found.avoided_share) * len(found.avoided) / taken.total())
    both = np.log(1 / found.kept_share) + found.avoided_nats
    assert found.pressure_nats == pytest.approx(both) and found.best_of_n_nats > plain.best_of_n_nats
    assert nats(rater, fitted.taste) == pytest.approx(both), "the choice made again takes the place of the first"


def test_the_worst_of_a_prompt_is_what_a_plain_reading_of_the_rule_says(rater, fitted):
    found = selected(rater, fitted.taste, avoid=True, duplicate_cosine=1.0)
    listed = rater.call("ListImages", pb.ListImagesRequest(taste=fitted.taste, page_size=1000, with_scores=True)).images
    inside = {member.digest for member in found.selected}
    taken = Counter(m.prompt for m in found.selected if m.role == pb.SELECTION_ROLE_SELECTED)
    for prompt, count in taken.items():
        rest = [image for image in listed if image.prompt == prompt and image.digest not in inside and image.grade < 4]
        rest.sort(key=lambda i: (i.grade if i.grade in (1, 2) else 3, i.score.utility + i.score.std))
        assert {i.digest for i in rest[:count]} == {i.digest for i in found.avoided if i.prompt == prompt}


def test_golden_avoids_beside_graded_ur_and_a_growing_set_refuses(rater, fitted):
    found = selected(rater, fitted.taste, policy="golden", avoid=True, base_share=0)
    assert found.selected and found.avoided
    with pytest.raises(InvalidArgument) as failure:
        selected(rater, fitted.taste, policy="propagate", avoid=True)
    assert failure.value.reason == "AVOID_UNUSED" and "leave it out" in failure.value.message
