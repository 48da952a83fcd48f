"""The simulation of a night: what arithmetic says where it can, the measured rates, and the table that docs show."""

from dataclasses import replace

import pytest

from tests.benchmarks.scale.pipeline import ServiceTimes, ceiling, first_bend, simulate, sizing
from tests.benchmarks.scale.sizing_table import ENGLISH, JAPANESE, filed, lines, measured, on_cards, rows
from tests.contract.source_tree import ROOT

TIMES = ServiceTimes(draw=0.5, hand_out=0.002, embed=0.01, taste=2.0)


def test_one_actor_is_as_fast_as_it_draws_and_two_are_twice_as_fast():
    one, two = (simulate(TIMES, count, 800 * count, 8, embeds=False) for count in (1, 2))
    assert one.images_per_second == pytest.approx(1 / TIMES.draw, rel=0.01)
    assert two.images_per_second == pytest.approx(2 / TIMES.draw, rel=0.01)
    assert one.busy["actors"] > 0.99 and one.bends == "actors"


def test_beyond_what_the_rater_embeds_more_actors_change_nothing():
    found = first_bend(TIMES, (16, 64, 96), 8)
    assert found[16].bends == "actors"
    assert found[96].bends == "rater"
    assert found[96].images_per_second == pytest.approx(ceiling(TIMES, 8)["rater"], rel=0.02)
    assert found[64].images_per_second <= ceiling(TIMES, 8)["rater"]


def test_a_slow_driver_bends_first():
    slow = replace(TIMES, hand_out=0.4, embed=0.001)
    found = simulate(slow, 64, 64 * 30 * 8, 8)
    assert found.bends == "driver"
    assert found.images_per_second == pytest.approx(8 / 0.4, rel=0.02)


def test_tastes_cost_the_one_rater_its_time():
    few, many = (sizing(TIMES, (64,), 100_000, tastes, 8)[0] for tastes in (1, 100_000))
    assert many.bends == "rater"
    assert many.hours > 10 * few.hours


def test_fewer_hours_with_more_actors_until_it_bends():
    hours = [row.hours for row in sizing(TIMES, (1, 2, 4, 8), 10_000, 1, 8)]
    assert hours == sorted(hours, reverse=True)
    assert hours[0] == pytest.approx(10_000 * TIMES.draw / 3600, rel=0.01)


def test_docs_show_the_table_that_is_computed_and_the_rater_bends_first():
    times = on_cards(measured(filed()))
    for page, names in (("scaling.md", ENGLISH), ("scaling.ja.md", JAPANESE)):
        text = (ROOT / "docs" / page).read_text("utf-8")
        assert [line for line in lines(times, names) if line not in text] == []
    assert rows(times)[-1][0].bends != "actors"
