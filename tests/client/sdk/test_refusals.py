"""What a service refuses, told in the reader's language: by its reason, else by its kind with the service's words."""

import ast
from pathlib import Path

import pytest

from konomi import errors
from konomi.client.refusals import OF_CODE, OF_REASON, told
from konomi.i18n import catalogue
from konomi_rater.preference.comparisons import LEAST_COMPARED, LEAST_LABELS

SERVICES = Path(__file__).parents[3] / "services"
WORDS = "Es sind zu wenige Noten: 3 Bilder."


def given_by_services() -> set[str]:
    """Returns every upper-case word a service's code holds as a string: reasons are among them."""
    texts = (path.read_text("utf-8") for path in SERVICES.rglob("*.py"))
    nodes = (node for text in texts for node in ast.walk(ast.parse(text)))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_reason_that_has_a_sentence_is_one_a_service_gives():
    given = given_by_services() | set(errors.GONE) | {"DRAINING"}
    assert sorted(set(OF_REASON) - given) == []
    assert set(OF_CODE) >= set(errors.BY_CODE)


def test_the_numbers_a_sentence_names_are_the_raters_own():
    sentence = OF_REASON["TOO_FEW_LABELS"]
    assert f"at least {LEAST_LABELS} images" in sentence and f"{LEAST_COMPARED} pairs" in sentence


def test_a_refusal_is_told_by_its_reason_in_another_language_and_as_it_came_in_english():
    error = errors.from_item(9, "RATER_NOT_FITTED", WORDS)
    assert isinstance(error, errors.FailedPrecondition)
    assert told(error) == WORDS
    with catalogue.speaking("ja"):
        assert told(error).startswith("評価モデルはまだ採点から学んでいません")


@pytest.mark.parametrize("code", errors.BY_CODE)
def test_a_reason_without_a_sentence_is_told_by_its_kind_with_what_the_service_said(code):
    error = errors.from_item(code.value[0], "SOMETHING_NEW", WORDS)
    with catalogue.speaking("ja"):
        assert told(error).endswith(WORDS) and told(error) != WORDS


def test_what_the_client_says_itself_stays():
    with catalogue.speaking("ja"):
        assert told(errors.FailedPrecondition("画像がありません", reason="NO_IMAGES")) == "画像がありません"
