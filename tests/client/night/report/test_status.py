"""What is told of a night beside its units: that it kept its rater while a newer one became active, and what helps."""

import pytest

from konomi.night import guards
from konomi.night.alarms import ALARMS
from konomi.night.records.state import NightState, RaterReport, Reason, Selection, Served, UnitRecord
from konomi.night.records.trial import Trial
from konomi.night.report.status import WAYS_ON, newer_rater, reasons_of, way_on

FIRST, SECOND = "tastes/t/raterVersions/1", "tastes/t/raterVersions/2"


def state(*active: str) -> NightState:
    units = [
        UnitRecord(unit=number, selection=Selection(rater=RaterReport(version=version)))
        for number, version in enumerate(active, start=1)
    ]
    return NightState(rater_version=FIRST, units=(UnitRecord(unit=0), *units))


@pytest.mark.parametrize(("active", "newer"), [((), False), ((FIRST, FIRST), False), ((FIRST, SECOND), True)])
def test_a_newer_rater_is_told_once_it_was_active_at_a_choice(active, newer):
    assert newer_rater(state(*active)) is newer
    names = [reason.name for reason in reasons_of(state(*active))]
    assert names == (["newer_rater"] if newer else [])


def test_it_is_told_in_the_readers_language():
    (reason,) = reasons_of(state(SECOND))
    assert "this night keeps the one it began with" in reason.told("en")
    assert "新しい評価モデル" in reason.told("ja")


FAR = Trial(base="starter", digests=("a" * 64,), prompts=("p",), graded_n=40, liked_n=10, far=True)
NEAR = FAR.changed(far=False)


def ended(state: str, reason: str, *, unit: str = "", served: int = 0) -> NightState:
    told = Reason(name=unit, numbers={"unit": 1, "share": 0.1}) if unit else None
    model = Served(unit=served, model="m") if served else None
    record = UnitRecord(unit=1, reason=told)
    return NightState(
        state=state, reason=Reason(name=reason, numbers={"unit": 1}), units=(UnitRecord(unit=0), record), served=model
    )


@pytest.mark.parametrize(
    ("night", "tried", "name"),
    [
        (ended("halted", "diversity"), FAR, "way_on_base"),
        (ended("halted", "diversity"), NEAR, "way_on_kinds"),
        (ended("halted", "doubt"), None, "way_on_grades"),
        (ended("finished", "units", unit="far_from_liked"), FAR, "way_on_base"),
        (ended("finished", "units", unit="far_from_liked"), NEAR, None),
        (ended("finished", "units", served=1), FAR, None),
        (ended("running", "diversity"), FAR, None),
    ],
)
def test_what_helps_is_told_after_a_night_that_was_halted_or_serves_nothing(night, tried, name):
    helps = way_on(night, tried)
    assert (helps.name if helps else None) == name
    told = [reason.name for reason in reasons_of(night, tried)]
    assert told[-1:] == [name] if name else not [one for one in told if one.startswith("way_on")]


def test_the_way_on_names_the_base_and_what_to_type_in_the_readers_language():
    helps = way_on(ended("halted", "diversity"), FAR)
    assert "starter draws nothing like" in helps.told("en") and "konomi models bases" in helps.told("en")
    assert "対処: starter は" in helps.told("ja") and "--base" in helps.told("ja")


def test_every_way_on_belongs_to_an_alarm_there_is():
    assert set(WAYS_ON) | set(WAYS_ON.values()) <= set(ALARMS) and "diversity" in guards.NAMES
