"""The human half of the gap alarm: what was answered about earlier nights' hidden pairs decides whether one begins."""

import shutil

import pytest

from konomi.night.guards import GuardSettings, rater_overrated
from konomi.night.records.request import NightRequest
from konomi.night.records.state import Audit
from konomi.night.records.store import NightStore
from konomi.night.verdict import BlindEvaluation, audits

VERSION = "tastes/default/raterVersions/3"


def night(nights: NightStore, name: str, rise: float, wins: int, taste: str = "tastes/default", version: str = VERSION):
    """Records a night whose unit the rater scored higher by `rise` deviations and a person chose `wins` times of 20."""
    request = NightRequest(name, name, taste, "converge", 5, ["p"], ["p"], {}, {})
    nights.begin(name, lambda: request)
    units = [
        {"unit": unit, "model": f"m{unit}", "evaluation": [f"{unit}{place:063x}" for place in range(64)]}
        | {"decision": "promote" if unit else "start"}
        | {"scores": {"utility": {"value": 2.0 + 0.5 * rise * unit}, "spread": 0.5}}
        for unit in range(2)
    ]
    served = {"unit": 1, "model": "m1"}
    nights.write(name, {"state": "finished", "units": units, "served": served, "rater_version": version})
    answer(BlindEvaluation(nights, name), wins)


def answer(told: BlindEvaluation, wins: int) -> None:
    """Chooses the unit in so many pairs and the other model in the rest."""
    chosen = [pair.unit_left == (place < wins) for place, pair in enumerate(told.pairs())]
    told.answer_all("".join("L" if left else "R" for left in chosen))


def test_the_audits_are_those_of_this_taste_and_rater_that_were_answered_to_the_end(tmp_path):
    nights = NightStore(tmp_path)
    night(nights, "a", 0.8, 15)
    night(nights, "b", 0.4, 6)
    night(nights, "c", 0.4, 6, taste="tastes/other")
    night(nights, "d", 0.4, 6, version="tastes/default/raterVersions/2")
    night(nights, "e", 0.4, 6)
    (nights.folder / "e" / "verdict.json").unlink()
    found = {one.night: one for one in audits(nights, "tastes/default", VERSION)}
    assert set(found) == {"a", "b"}
    assert found["a"].plain() == {"night": "a", "unit": 1, "rise": pytest.approx(0.8), "win_rate": 0.75, "pairs": 20}
    assert found["b"].win_rate == pytest.approx(0.3)


def said(*audited: tuple[float, float]) -> list[Audit]:
    """Returns audits given by (rise, win rate)."""
    return [Audit(night="n", unit=1, rise=rise, win_rate=rate, pairs=20) for rise, rate in audited]


def test_a_rater_that_rose_twice_while_the_person_did_not_is_fooled():
    alarm = rater_overrated(said((0.5, 0.9), (0.5, 0.5), (0.5, 0.4)), GuardSettings())
    assert alarm is not None and alarm.name == "audit_gap"
    assert (alarm.numbers["runs"], alarm.numbers["pairs"]) == (2, 40)
    assert alarm.numbers["win_rate"] == pytest.approx(0.45)


@pytest.mark.parametrize(
    ("audited", "off"),
    [
        ((), ()),
        (((0.5, 0.2),), ()),
        (((0.5, 0.2), (0.5, 0.55)), ()),
        (((0.5, 0.55), (0.5, 0.2)), ()),
        (((0.5, 0.2), (0.1, 0.2)), ()),
        (((0.5, 0.2), (0.5, 0.2)), ("gap",)),
    ],
)
def test_once_or_a_person_who_rose_too_or_a_rater_that_did_not_is_no_alarm(audited, off):
    assert rater_overrated(said(*audited), GuardSettings(off=off)) is None


@pytest.mark.slow
def test_a_night_is_not_begun_by_a_rater_two_audits_contradict(bench):
    home = bench.home("fooled")
    code, made, err = bench.konomi(home, *bench.start(home))
    assert code == 0, err
    nights = NightStore(home)
    again = ("--images", "16", "--units", "1")
    shutil.copytree(nights.folder / made["night"], nights.folder / "the-night-after")
    for one in (made["night"], "the-night-after"):
        answer(BlindEvaluation(nights, one), 4)
    code, refused, err = bench.konomi(home, *bench.start(home, *again))
    assert (code, refused["reason"]["name"], refused["images"]) == (5, "audit_gap", 0), err
    assert "only 25 % of 32 blind pairs" in refused["reason"]["sentence"]
    assert refused["served"] == made["served"]
