"""The kinds of field rules, and the check that applies a table of them."""

import math

import pytest

from konomi.v1 import artifact_pb2, rater_pb2
from konomi_chassis.rpc.field_rules import DIGEST, TASTE, UUID, between, count, enum_value, multiple, pattern, text
from konomi_chassis.rpc.validation import ARTIFACT_RULES, InvalidFields, check

RULES = {
    "SelectImagesRequest": {
        "taste": TASTE,
        "kappa": between(-1, 1),
        "typicality_percentile": between(50, 100),
        "originals[]": DIGEST,
        "candidates.grades[]": enum_value(rater_pb2.Grade, optional=True),
    }
}


def violations(message, rules=RULES):
    try:
        check(message, rules)
    except InvalidFields as error:
        return {field for field, _ in error.violations}
    return set()


def test_every_field_that_breaks_its_rule_is_named_by_its_path():
    message = rater_pb2.SelectImagesRequest(
        taste="tastes/A",
        kappa=2,
        originals=["ab" * 32, "x"],
        candidates=rater_pb2.ImageFilter(grades=[0, 6]),
    )
    assert violations(message) == {"taste", "kappa", "originals[1]", "candidates.grades[1]"}
    with pytest.raises(InvalidFields) as caught:
        check(message, RULES)
    assert caught.value.reason == "FIELD_INVALID" and caught.value.field == "taste"


def test_a_field_that_knows_whether_it_was_set_has_no_range_until_it_is():
    message = rater_pb2.SelectImagesRequest(taste="tastes/a")
    assert violations(message) == set()
    message.typicality_percentile = 0
    assert violations(message) == {"typicality_percentile"}


def test_a_request_no_rules_were_written_for_is_a_bug():
    with pytest.raises(KeyError):
        check(rater_pb2.GetTasteRequest(), RULES)


def test_artifacts_are_checked_by_the_chassis_itself():
    assert violations(artifact_pb2.GetArtifactRequest(digest="ab" * 32), ARTIFACT_RULES) == set()
    assert violations(artifact_pb2.GetArtifactRequest(digest="AB" * 32), ARTIFACT_RULES) == {"digest"}


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (between(0, 0.9), (0, 0.9), (-0.01, 0.91, math.nan, math.inf, -math.inf)),
        (between(1, 9, optional=True), (0, 1, 9), (-1, 0.5, 10)),
        (count(1, 2), ([1], [1, 2]), ([], [1, 2, 3])),
        (multiple(8, 64), (0, 8, 64), (-8, 4, 72)),
        (enum_value(rater_pb2.BlindChoice), (1, 3), (0, 4, -1)),
        (enum_value(rater_pb2.BlindChoice, optional=True), (0, 3), (4,)),
        (pattern("a|b", "a or b"), ("a", "b"), ("", "ab", "a\n")),
        (pattern("a|b", "a or b", optional=True), ("", "a"), ("c",)),
        (UUID, ("0190b2c4-0000-7000-8000-000000000001",), ("", "7", "0190b2c4-0000-7000-8000-000000000001\n")),
    ],
)
def test_limits_are_exact(rule, good, bad):
    assert [rule(value) for value in good] == [None] * len(good)
    assert all("was expected" in rule(value) or "were expected" in rule(value) for value in bad)


@pytest.mark.parametrize("letter", ["\0", "\n", "\t", "\x1b", "\x7f", "\x85"])
def test_text_holds_no_control_characters(letter):
    assert text()("before" + letter) is not None


def test_text_is_measured_in_bytes():
    assert text()("あ" * 1365) is None
    assert text()("あ" * 1366) is not None
