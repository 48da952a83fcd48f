"""Figures beside their bounds, and a sentence for every alarm: a halted night never reads as if it had been fine."""

import json
import string

import pytest

from konomi.i18n import catalogue
from konomi.i18n.catalogue import text
from konomi.night.alarms import ALARMS, WORK, Alarm, rounded_away_from_bound, sentence, work
from konomi.night.guards import GuardSettings, UnitNumbers, before_training, judge
from konomi.night.records.state import Reason

BASE = UnitNumbers(unit=0, vendi=20.0, exceedance=0.05, doubt=0.4, rater_version="v", promoted=True)


@pytest.mark.parametrize(
    ("changes", "english", "japanese"),
    [
        ({"vendi": 12.93}, "64.6 % of the base model's diversity is left, and the least is 65 %", "64.6 % しか残って"),
        (
            {"vendi": 12.9998},
            "64.999 % of the base model's diversity is left, and the least is 65 %",
            "64.999 % しか残って",
        ),
        ({"vendi": 9.0}, "45 % of the base model's diversity is left, and the least is 65 %", "45 % しか残って"),
        ({"exceedance": 0.1004}, "10.04 % of unit-1's images are unlike anything known; the limit is 10 %", "10.04 %"),
        ({"doubt": 0.804}, "2.01 times as much as the base model's; the limit is 2.0", "2.01 倍"),
        ({"likes_kept": 0.7999, "liked_cells": 5}, "only 79.99 % of the liked regions", "79.99 % に"),
    ],
)
def test_a_guard_that_halts_says_a_figure_on_the_failing_side(changes, english, japanese):
    fields = {"vendi": 18.0, "exceedance": 0.05, "doubt": 0.4, "win_rate": 0.7, "rater_version": "v"}
    verdict = judge([BASE, UnitNumbers(unit=1, **(fields | changes))], 0, 0.5, GuardSettings())
    assert verdict.decision == "halt"
    assert english in sentence(verdict.alarm)
    assert japanese in sentence(verdict.alarm, "ja")


def test_so_does_the_pressure_budget():
    alarm, _ = before_training(6.003, {"n": 9, "base_share": 0.3, "vendi": 9, "largest_cell_share": 0.1}, 2, 9,
                               GuardSettings(pressure_nats=6.0))  # fmt: skip
    assert "the pressure to 6.003 nats; a person has to look after 6.0." in sentence(alarm)


def test_a_figure_reads_like_its_bound_only_where_it_is_its_bound():
    assert rounded_away_from_bound(0.65, 0.65, 0, share=True) == "65 %"
    assert rounded_away_from_bound(0.6499, 0.65, 0, share=True) == "64.99 %"
    assert rounded_away_from_bound(0.5, 0.65, 1) == "0.5"
    assert rounded_away_from_bound(2 - 1e-9, 2.0, 1) == "2.0", "six digits are the most anybody reads"


@pytest.mark.parametrize("name", sorted(ALARMS))
def test_every_alarm_is_translated_and_its_numbers_are_those_of_its_sentence(name):
    wording = ALARMS[name]
    for english in filter(None, (wording.english, wording.singular)):
        fields = {field for _, field, _, _ in string.Formatter().parse(english) if field}
        numbers = dict.fromkeys(fields | {wording.counted} - {""}, 3) | {"words": "tama", "why": "disk {full}"}
        if english == wording.singular:
            numbers[wording.counted] = 1
        else:
            assert {*wording.percent, *wording.decimals} <= fields
        for language in ("en", "ja"):
            words = sentence(Alarm(name, numbers), language)
            assert words.endswith("." if language == "en" else "。")
            assert not {"{unit}", "{share}", "{n}"} & set(words.split())
        with catalogue.speaking("ja"):
            assert text(english) != english


def test_one_thing_is_not_said_in_the_plural():
    assert sentence(Alarm("units", {"units": 1})) == "The night made the one unit it was asked for."
    assert sentence(Alarm("units", {"units": 3})) == "The night made all 3 units it was asked for."
    last = sentence(Alarm("patience", {"runs": 1, "parent": 2}))
    assert last == "The night ended early: in the rater's eyes its last unit did not beat unit-2."
    assert sentence(Alarm("budget_images", {"budget": 50000})).endswith("its budget of 50,000 images is spent.")


def test_a_recorded_alarm_of_another_version_is_told_by_the_sentence_on_record():
    record = {"name": "moonlight", "numbers": {"moons": 2}, "sentence": "The night ended: 2 moons."}
    assert sentence(record, "ja") == "The night ended: 2 moons."
    assert sentence({"name": "abandoned", "numbers": {}, "sentence": "old words"}) == "The night was given up."


def test_steps_are_told_in_the_language_of_the_reader_and_leave_the_one_in_use_alone():
    assert work("unit-1/train-2") == "unit-1 · training"
    assert work("unit-1/train", "ja-JP") == "unit-1 · 学習中"
    assert work("night") == "the night"
    with catalogue.speaking("ja"):
        assert not [doing for doing in WORK.values() if text(doing) == doing]
    assert catalogue.language() == "en"


def test_an_error_on_record_is_told_in_the_language_of_the_reader():
    english = "The step {step} met a fault of its own: {error}"
    message = catalogue.translatable(english, step="plan", error="KeyError('{x}')")
    assert message == "The step plan met a fault of its own: KeyError('{x}')"
    reason = Reason.model_validate(json.loads(json.dumps(Reason.of_error("interrupted", message).plain())))
    assert (reason.sentence, reason.told("en")) == (message, message)
    assert reason.told("ja") != message and "KeyError('{x}')" in reason.told("ja")
    with catalogue.speaking("ja"):
        assert message.again() == reason.told("ja")
    plain = Reason.of_error("interrupted", "the rater said no")
    assert plain.plain() == {"name": "interrupted", "numbers": {}, "sentence": "the rater said no"}
    assert plain.told("ja") == "the rater said no", "what a service said is told as it came"
