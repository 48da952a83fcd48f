"""What the rater says: each sentence has a name, and a client says it in its own language from the numbers alone."""

import re

import pytest

from konomi.i18n import catalogue
from konomi.taste import rater_summary
from konomi.v1 import rater_pb2
from konomi_rater.selection import acquisition
from konomi_rater.sentences import SENTENCES, Sentence

JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
NUMBERS = {"proxy": 0.5, "human": -0.1, "ratio": 2.5, "share": 0.3, "base": 0.1, "nats": 7.0, "limit": 6.0, "n": 40}
NUMBERS |= {"against": 3, "srcc": 0.2, "earlier": 0.5, "top": 1, "missing": 12, "more": 12, "low": -0.1, "high": 0.4}
NUMBERS |= {"needed": 500, "labels": 40, "rate": 0.2, "least": 0.125, "count": 12, "admitted": 20}
WORDS = {"first": "base", "last": "unit-2"}


def sentence(name: str) -> Sentence:
    named = set(re.findall(r"\{(\w+)", SENTENCES[name]))
    numbers = {key: number for key, number in NUMBERS.items() if key in named}
    return Sentence(name, numbers, {key: word for key, word in WORDS.items() if key in named})


def version(*said: Sentence) -> rater_pb2.RaterVersion:
    details = [rater_pb2.Alarm(name=alarm.name, numbers=alarm.numbers, words=alarm.words) for alarm in said]
    return rater_pb2.RaterVersion(alarms=[str(alarm) for alarm in said], alarm_details=details)


@pytest.mark.parametrize("name", SENTENCES)
def test_the_client_says_what_the_rater_says(name):
    said = version(sentence(name))
    assert rater_summary.alarms(said) == list(said.alarms)
    catalogue.use("ja")
    try:
        (japanese,) = rater_summary.alarms(said)
    finally:
        catalogue.use("en")
    assert JAPANESE.search(japanese) and "{" not in japanese


def test_both_sides_hold_the_same_names():
    assert list(rater_summary.SENTENCES) == list(SENTENCES)


def test_percentages_that_cannot_be_checked_say_how_many_grades_are_missing():
    assert str(sentence("few_random")) == (
        "Go on in the view Grade: once 12 more of its random picks (about one image in five) are graded, "
        "the percentages can be checked."
    )


def test_the_sentence_gives_the_share_of_random_picks_there_is():
    assert acquisition.RANDOM_EVERY == 5


def test_what_was_stored_before_sentences_had_names_is_shown_as_it_was():
    assert str(Sentence("", english="The moon is full.")) == "The moon is full."


def test_a_stored_sentence_keeps_its_words_though_the_table_may_change():
    assert str(Sentence("few_ur", {"top": 2}, english="Only 2 UR labels.")) == "Only 2 UR labels."
