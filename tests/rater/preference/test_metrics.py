"""Hidden repeats: the first grade counts, the repeat is evidence of noise, and nothing shows which image it is."""

import uuid

import numpy as np
import pytest

from konomi.v1 import rater_pb2 as pb
from konomi_rater.preference.metrics import MEASURES, Predictions, wilson
from tests.rater.conftest import grades_of

REPEAT, RANDOM = pb.SUGGESTION_REASON_REPEAT_CHECK, pb.SUGGESTION_REASON_RANDOM


def grade_of(rater, taste: str, digest: str) -> int:
    return rater.call("GetImage", pb.GetImageRequest(taste=taste, digest=digest)).grade


def test_the_first_grade_stays_in_force_and_the_fit_does_not_see_the_repeat(rater, fitted):
    before = rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name=f"{fitted.taste}/raterVersions/1"))
    first = grades_of(fitted, fitted.digests[:12])
    rater.label(fitted.taste, {digest: 6 - grade for digest, grade in first.items()}, reason=REPEAT)
    assert {digest: grade_of(rater, fitted.taste, digest) for digest in first} == first
    version = rater.fit(fitted.taste)
    assert (version.label_digest, version.label_count) == (before.label_digest, 40)
    assert "retest_qwk" not in before.metrics
    retest = version.metrics["retest_qwk"]
    assert retest.n == 12 and retest.value < 0 and retest.low <= retest.value <= retest.high


def test_a_correction_replaces_and_an_undone_repeat_changes_nothing(rater, fitted):
    digest = fitted.digests[0]
    first = grade_of(rater, fitted.taste, digest)
    rater.label(fitted.taste, {digest: 6 - first if first != 3 else 5}, reason=REPEAT)
    undo = pb.UndoLabelRequest(taste=fitted.taste, request_id=str(uuid.uuid4()))
    assert rater.call("UndoLabel", undo).grade == first == grade_of(rater, fitted.taste, digest)
    rater.label(fitted.taste, {digest: 1 + first % 5})
    assert grade_of(rater, fitted.taste, digest) == 1 + first % 5
    rater.label(fitted.taste, {digest: 0}, reason=REPEAT)  # clearing is meant even during a check
    assert grade_of(rater, fitted.taste, digest) == pb.GRADE_UNSPECIFIED


def test_a_suggested_repeat_looks_like_any_other_image(rater, fitted):
    found = rater.call("SuggestImages", pb.SuggestImagesRequest(taste=fitted.taste, count=60)).suggestions
    repeats = [suggestion for suggestion in found if suggestion.reason == REPEAT]
    assert repeats and {suggestion.image.digest for suggestion in repeats} <= set(fitted.digests[:30])
    assert all(s.image.grade == pb.GRADE_UNSPECIFIED and not s.image.HasField("score") for s in found)
    asked = {suggestion.image.digest: 3 for suggestion in repeats}
    rater.label(fitted.taste, asked, reason=REPEAT)
    again = rater.call("SuggestImages", pb.SuggestImagesRequest(taste=fitted.taste, count=60, seed=1)).suggestions
    assert not asked.keys() & {suggestion.image.digest for suggestion in again}


def test_wilsons_interval():
    assert wilson(0, 0).high == 1.0
    assert wilson(20, 20).low == pytest.approx(0.839, abs=1e-3)


def test_what_is_found_is_measured_in_the_order_lists_are_shown_in():
    """The likeliest UR is not what a list shows first: UR 3rd of 4 by the expected grade, 1st by its chance."""
    utility = np.array([3.9, 3.5, 3.4, 1.0])
    chances = np.array([[0, 0, 0.1, 0.9, 0], [0, 0, 0.5, 0.5, 0], [0.4, 0, 0, 0, 0.6], [1, 0, 0, 0, 0]])
    said, grades = Predictions(utility, chances), np.array([4, 3, 5, 1])
    assert MEASURES["ap_ur"](grades, said) == pytest.approx(1 / 3)
    assert MEASURES["ap_ssr"](grades, said) == pytest.approx((1 + 2 / 3) / 2)
