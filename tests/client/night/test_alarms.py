"""Figures beside their bounds: a halted night never reads as if it had been on the right side."""

import pytest

from konomi.night.alarms import apart, sentence
from konomi.night.guards import GuardSettings, UnitNumbers, before_training, judge

BASE = UnitNumbers(unit=0, vendi=20.0, exceedance=0.05, doubt=0.4, rater_version="v", promoted=True)


@pytest.mark.parametrize(
    ("changes", "english", "japanese"),
    [
        ({"vendi": 12.93}, "keeps only 64.6% of the base model's diversity; the floor is 65%", "64.6% まで"),
        ({"vendi": 12.9998}, "keeps only 64.999% of the base model's diversity; the floor is 65%", "64.999% まで"),
        ({"vendi": 9.0}, "keeps only 45% of the base model's diversity; the floor is 65%", "45% まで"),
        ({"exceedance": 0.1004}, "10.04% of unit-1's images are unlike anything known; the limit is 10%", "10.04% が"),
        ({"doubt": 0.804}, "2.01 times as much as the base model's; the limit is 2.0", "2.01 倍"),
        ({"likes_kept": 0.7999, "liked_cells": 5}, "only 79.99% of the liked regions", "79.99% に"),
    ],
)
def test_a_guard_that_halts_says_a_figure_on_the_failing_side(changes, english, japanese):
    fields = {"vendi": 18.0, "exceedance": 0.05, "doubt": 0.4, "win_rate": 0.7, "rater_version": "v"}
    found = judge([BASE, UnitNumbers(unit=1, **(fields | changes))], 0, 0.5, GuardSettings())
    assert found.decision == "halt"
    assert english in sentence(found.alarm)
    assert japanese in sentence(found.alarm, "ja")


def test_so_does_the_pressure_budget():
    alarm, _ = before_training(6.003, {"n": 9, "base_share": 0.3, "vendi": 9, "largest_cell_share": 0.1}, 2, 9,
                               GuardSettings(pressure_nats=6.0))  # fmt: skip
    assert "the pressure to 6.003 nats; a person has to look after 6.0." in sentence(alarm)


def test_a_figure_that_is_its_bound_is_told_as_such():
    told = apart({"share": 0.65, "floor": 0.65, "unit": 3, "parent": 0.5})
    assert "{share:.0%} {floor:.0%} {unit} {parent:.1f}".format(**told) == "65% 65% 3 0.5"
    assert apart({"unit": 1, "share": 0.5}) == {"unit": 1, "share": 0.5}
