"""What is told of a night beside its units: that it kept its rater while a newer one became active."""

import pytest

from konomi.night.records.state import NightState, RaterReport, Selection, UnitRecord
from konomi.night.report.status import newer_rater, reasons_of

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
