"""What a service refuses, told in the reader's language: by its reason, else by its kind with the service's words."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from konomi import errors
from konomi.client.refusals import OF_CODE, OF_REASON, names_calls, retellable, told
from konomi.i18n import catalogue
from konomi_rater.preference.comparisons import LEAST_COMPARED, LEAST_LABELS

SERVICES = Path(__file__).parents[3] / "services"
WORDS = "Es sind zu wenige Noten: 3 Bilder."


def given_by_services() -> set[str]:
    """Returns every upper-case word a service's code holds as a string: reasons are among them."""
    texts = (path.read_text("utf-8") for path in SERVICES.rglob("*.py"))
    nodes = (node for text in texts for node in ast.walk(ast.parse(text)))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.slow
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


def refused_by_services() -> Iterator[tuple[str, str, str]]:
    """Yields place, reason and words of every error a service makes, as far as they stand in its code."""
    kinds = {kind.__name__ for kind in errors.KonomiError.__subclasses__()}
    for path in SERVICES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args and getattr(node.func, "id", "") in kinds:
                parts = [part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
                given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
                yield f"{path.name}:{node.lineno}", str(given.get("reason", "")), " ".join(map(str, parts))


OF_PROGRAMS = {
    "": "faults of the program, told as such",
    "ANNEALING": "an option of the call that neither page nor command has",
    "IMAGE_PROMPT_ADAPTER_MISSING": "names the table of a settings file",
    "KEPT_UNREADABLE": "the client names what is kept itself",
    "POPULATION_UNREADABLE": "names what a file laid there by hand must hold",
    "PREVIEW_DECODER_MISSING": "an option of the call that neither page nor command has",
    "SCHEDULER": "an option of the call that neither page nor command has",
    "STORE_URL": "says what to write into a settings file, before anything is served",
}
"""Reasons whose words speak of calls and fields and need no sentence for people, each with why."""


@pytest.mark.slow
def test_what_speaks_of_calls_and_fields_has_a_sentence_for_people():
    lacking = {
        reason: f"{place}: {words}"
        for place, reason, words in refused_by_services()
        if names_calls(words) and reason not in OF_REASON
    }
    assert sorted(lacking) == sorted(OF_PROGRAMS), lacking
    assert not [reason for reason, sentence in OF_REASON.items() if names_calls(sentence)]


@pytest.mark.parametrize(
    ("error", "english", "japanese"),
    [
        (
            ("FIELD_INVALID", "taste_id: expected 1 to 40 lower-case letters, digits and hyphens", "taste_id"),
            "the name of the taste: expected 1 to 40 lower-case letters, digits and hyphens",
            "このままでは使えません:好みの名前",
        ),
        (
            ("FIELD_INVALID", 'taste: expected "tastes/{id}"', "taste"),
            "This cannot be used as it is: the name of the taste, which has 1 to 40 lower-case letters, digits and "
            "hyphens.",
            "このままでは使えません:好みの名前",
        ),
        (
            ("TASTE_NOT_FOUND", "there is no tastes/mine here; adding pictures to it makes it", None),
            "there is no taste mine here; adding pictures to it makes it",
            "その好みはありません",
        ),
        (
            ("RATER_NOT_FITTED", "tastes/mine has none; grade images with RecordLabels, then call FitRater", None),
            "konomi has not learnt from your grades yet: grade about 30 images, then let it learn.",
            "評価モデルはまだ採点から学んでいません",
        ),
        (
            ("TOO_FEW_LABELS", "expected 5 graded images, tastes/mine has 3 of 2 kinds; grade or compare more", None),
            "expected 5 graded images, the taste mine has 3 of 2 kinds; grade or compare more",
            "学習には採点が足りません",
        ),
    ],
)
def test_the_words_of_a_program_are_told_in_a_persons(error, english, japanese):
    reason, message, field = error
    refused = errors.InvalidArgument(message, reason=reason, field=field)
    refused.served = True
    assert told(refused) == english
    with catalogue.speaking("ja"):
        assert told(refused).startswith(japanese)
        assert retellable(refused).english


def test_what_the_client_says_itself_stays():
    with catalogue.speaking("ja"):
        assert told(errors.FailedPrecondition("画像がありません", reason="NO_IMAGES")) == "画像がありません"
