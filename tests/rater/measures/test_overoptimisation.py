"""Over-optimisation alarms: each raised by its own signal, none by a healthy taste, all in whole sentences."""

import math

import pytest

from konomi_rater.measures.overoptimisation import (
    Generation,
    best_of_n,
    over_optimised,
    over_pressed,
    pressure_of,
)
from konomi_rater.sentences import SENTENCES

BASE = Generation("base", proxy=2.5, doubt=0.6, strangers=0.05, human=2.5, graded=20)


def grown(*steps: tuple[float, float], graded: int = 20) -> list[Generation]:
    """The base model and units whose rater mean and human mean moved by these steps."""
    found = [BASE]
    for number, (proxy, human) in enumerate(steps, start=1):
        last = found[-1]
        found.append(Generation(f"unit-{number}", last.proxy + proxy, 0.6, 0.05, last.human + human, graded))
    return found


def test_a_taste_that_grows_on_both_sides_raises_nothing():
    assert over_optimised(grown((0.4, 0.3), (0.3, 0.2), (0.2, 0.1))) == []
    assert over_optimised([BASE]) == [] == over_optimised([])


def test_the_gap_is_an_alarm_after_two_generations_running():
    assert over_optimised(grown((0.4, -0.1))) == []
    assert over_optimised(grown((0.4, -0.1), (0.3, 0.1))) == []
    (alarm,) = over_optimised(grown((0.4, -0.1), (0.3, -0.1)))
    assert "from base to unit-2 the rater's mean grade rose 0.70" in str(alarm)
    assert "(-0.20)" in str(alarm)
    assert over_optimised(grown((0.4, -0.1), (0.01, -0.1))) == []


def test_the_gap_needs_enough_random_grades():
    assert over_optimised(grown((0.4, -0.1), (0.3, -0.1), graded=7)) == []


def test_twice_the_doubt_and_twice_the_strangers_are_alarms():
    calm = Generation("unit-1", 2.6, 1.19, 0.10, 2.6, 20)
    assert over_optimised([BASE, calm]) == []
    wild = Generation("unit-1", 2.6, 1.3, 0.3, 2.6, 20)
    doubt, strangers = over_optimised([BASE, wild])
    assert "2.2 times as much as those of base" in str(doubt)
    assert "30 % of the images of unit-1" in str(strangers)


@pytest.mark.parametrize(("share", "nats"), [(0.10, 1.40), (0.05, 2.05), (0.02, 2.93), (0.01, 3.62)])
def test_best_of_n_is_the_designs(share, nats):
    assert best_of_n(share) == pytest.approx(nats, abs=0.01)


def test_pressure_adds_up_and_alarms_above_its_limit():
    spent = pressure_of([0.05, 0.05])
    assert spent.nats == pytest.approx(2 * math.log(20))
    assert (spent.selections, over_pressed(spent, 6.0)) == (2, [])
    more = pressure_of([0.05, 0.05, 0.3])
    (alarm,) = over_pressed(more, 6.0)
    assert "7.2 nats" in str(alarm) and "konomi rater certify" in str(alarm)
    assert best_of_n(1.0) == 0 == pressure_of([]).nats


def test_every_sentence_says_what_to_do_or_what_follows():
    for name in ("gap", "doubt", "strangers", "pressure", "not_activated"):
        assert SENTENCES[name].endswith(".") and ";" in SENTENCES[name]
