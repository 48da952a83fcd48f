"""The simulation of a night: what arithmetic says where it can, the measured rates, and the table that docs show."""

from dataclasses import replace

import pytest

from tests.benchmarks.scale.pipeline import Layout, ServiceTimes, ceiling, first_bend, simulate, sizing
from tests.benchmarks.scale.sizing_table import ENGLISH, JAPANESE, filed, layout, lines, measured, on_cards, rows
from tests.contract.source_tree import ROOT

TIMES = ServiceTimes(draw=0.5, hand_out=0.002, embed=0.01, row=0.0005, taste=2.0)


def rate(made: Layout, times: ServiceTimes = TIMES) -> float:
    return simulate(times, made, made.actors * 256).images_per_second


def test_one_actor_is_as_fast_as_it_draws_and_two_are_twice_as_fast():
    one, two = (simulate(TIMES, Layout(count, 8), 800 * count, known=False) for count in (1, 2))
    assert one.images_per_second == pytest.approx(1 / TIMES.draw, rel=0.01)
    assert two.images_per_second == pytest.approx(2 / TIMES.draw, rel=0.01)
    assert one.busy["actors"] > 0.99 and one.bends == "actors"


def test_beyond_what_the_rater_embeds_more_actors_change_nothing():
    found = dict(zip((16, 64, 96), first_bend(TIMES, [Layout(count, 8) for count in (16, 64, 96)]), strict=True))
    assert found[16].bends == "actors"
    assert found[96].bends == "rater"
    most = ceiling(TIMES, Layout(96, 8))["rater"]
    assert found[96].images_per_second == pytest.approx(most, rel=0.02)
    assert found[64].images_per_second <= most


def test_those_that_embed_lift_that_and_bend_where_they_are_too_few():
    few, enough = Layout(96, 8, embedders=1), Layout(96, 8, embedders=4)
    assert simulate(TIMES, few, 96 * 320).bends == "embedders"
    assert rate(few) == pytest.approx(ceiling(TIMES, few)["embedders"], rel=0.02)
    assert rate(enough) > 0.95 * 96 / TIMES.draw


def test_a_slow_driver_bends_first():
    slow = replace(TIMES, hand_out=0.4, embed=0.001)
    found = simulate(slow, Layout(64, 8), 64 * 30 * 8)
    assert found.bends == "driver"
    assert found.images_per_second == pytest.approx(8 / 0.4, rel=0.02)


@pytest.mark.slow
def test_a_step_that_does_not_grow_leaves_cards_idle():
    """As many as there are cards: each draws one, and all wait for it to be known."""
    small, grown = (Layout(64, 8, 4, step, meanwhile=False) for step in (64, 64 * 64))
    waits = TIMES.draw + 64 * (TIMES.embed / 4 + TIMES.row)
    assert rate(small) == pytest.approx(64 / waits, rel=0.15)
    assert rate(grown) > 1.05 * rate(small)
    assert rate(replace(grown, meanwhile=True)) > 1.05 * rate(grown)


def test_tastes_cost_the_one_rater_its_time():
    few, many = (sizing(TIMES, [layout(64, 16)], 100_000, tastes)[0] for tastes in (1, 100_000))
    assert many.bends == "rater"
    assert many.hours > 10 * few.hours


def test_fewer_hours_with_more_actors_until_it_bends():
    hours = [row.hours for row in sizing(TIMES, [Layout(count, 8) for count in (1, 2, 4, 8)], 10_000, 1)]
    assert hours == sorted(hours, reverse=True)
    assert hours[0] == pytest.approx(10_000 * TIMES.draw / 3600, rel=0.01)


def test_docs_show_the_table_that_is_computed():
    times = on_cards(measured(filed()))
    for page, words in (("scaling.md", ENGLISH), ("scaling.ja.md", JAPANESE)):
        text = (ROOT / "docs" / page).read_text("utf-8")
        assert [line for line in lines(times, words) if line not in text] == []


def test_64_cards_do_64_times_what_one_does_where_enough_embed():
    """And a tenth of that where the rater does it alone: what docs/scaling says of it."""
    times = on_cards(measured(filed()))
    (one,) = first_bend(times, [layout(1, 1)])
    found, alone = (simulate(times, layout(64, embedders), 64 * 320) for embedders in (16, 0))
    assert found.images_per_second >= 0.9 * 64 * one.images_per_second
    assert alone.images_per_second <= 0.15 * 64 * one.images_per_second and alone.bends == "rater"
    assert rows(times)[2][0].bends == "rater"
