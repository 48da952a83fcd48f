"""The rater's field rules, by example."""

import math

import pytest

from konomi.v1 import rater_pb2 as pb
from konomi_chassis.rpc.validation import InvalidFields, check
from konomi_rater.servicer.rules import RULES

DIGEST = "ab" * 32


def violations(message):
    try:
        check(message, RULES)
    except InvalidFields as error:
        return {field for field, _ in error.violations}
    return set()


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (pb.GetTasteRequest(name="tastes/default"), set()),
        (pb.GetTasteRequest(name="tastes/Default"), {"name"}),
        (pb.GetTasteRequest(name="tastes/" + "a" * 41), {"name"}),
        (pb.GetTasteRequest(), {"name"}),
        (pb.CreateTasteRequest(taste_id="a-1"), set()),
        (pb.CreateTasteRequest(taste_id="../a"), {"taste_id"}),
        (pb.GetImageRequest(taste="tastes/a", digest=DIGEST), set()),
        (pb.GetImageRequest(taste="tastes/a", digest=DIGEST.upper()), {"digest"}),
        (pb.ListLabelsRequest(taste="tastes/a", page_size=1000), set()),
        (pb.ListLabelsRequest(taste="tastes/a", page_size=1001), {"page_size"}),
        (pb.ListLabelsRequest(taste="tastes/a", page_size=-1), {"page_size"}),
        (pb.ScoreImagesRequest(images=[pb.ImageInput(digest="one bad image is its own error")]), set()),
        (pb.ScoreImagesRequest(images=[pb.ImageInput()] * 257), {"images"}),
        (pb.ScoreImagesRequest(), {"images"}),
        (pb.SearchImagesRequest(taste="tastes/a", text="a\x00b"), {"text"}),
        (pb.SearchImagesRequest(taste="tastes/a", image=pb.ImageInput(digest="no")), {"image.digest"}),
        (pb.GetRaterVersionRequest(name="tastes/a/raterVersions/active"), set()),
        (pb.GetRaterVersionRequest(name="tastes/a/raterVersions/../b"), {"name"}),
    ],
)
def test_examples(message, fields):
    assert violations(message) == fields


def selecting(**fields):
    return violations(pb.SelectImagesRequest(**({"taste": "tastes/a", "policy": "converge", "count": 5} | fields)))


def test_ranges_are_exact_and_numbers_finite():
    assert selecting(base_share=0.9, typicality_percentile=50, count=10_000) == set()
    assert selecting(base_share=0.91, typicality_percentile=49.9, count=10_001) == {
        "base_share",
        "typicality_percentile",
        "count",
    }
    for value in (math.nan, math.inf, -math.inf):
        assert selecting(kappa=value) == {"kappa"}
    assert selecting(policy="anything") == {"policy"}


def test_an_unset_optional_field_has_no_range():
    assert selecting() == set()
    assert selecting(typicality_percentile=0) == {"typicality_percentile"}


def test_filters_are_checked_inside():
    bad = pb.ImageFilter(digests=[DIGEST, "x"], grades=[0, 6], sources=[0], min_utility=9)
    assert violations(pb.ListImagesRequest(taste="tastes/a", filter=bad)) == {
        "filter.digests[1]",
        "filter.grades[1]",
        "filter.sources[0]",
        "filter.min_utility",
    }
