"""The policy of converge: what each unit draws, how hard it selects."""

import math

import pytest

from konomi import errors
from konomi.night.draws import Turn, evaluation_draws
from konomi.night.settings import NightSettings
from konomi.night.systems import converge
from konomi.night.systems.registry import find

SETTINGS = NightSettings(images=100, units=3)


def turn(prompts, unit=1, settings=SETTINGS, **known):
    return Turn(seed=5, unit=unit, position=unit, prompts=prompts, settings=settings, budget_nats=6.0, **known)


def test_draws_depend_on_night_unit_and_index_alone():
    first = converge.draws(turn(["a", "b", "c"], served_is_base=False))
    assert first == converge.draws(turn(["c", "b", "a"], served_is_base=False))
    assert first != converge.draws(turn(["a", "b", "c"], unit=2, served_is_base=False))
    assert len({draw.seed for draw in first}) == 100
    assert {draw.prompt for draw in first} == {"a", "b", "c"}


def test_the_pool_mixes_served_unit_and_base():
    origins = [draw.origin for draw in converge.draws(turn(["a"], served_is_base=False))]
    assert origins.count("served") == 70
    assert {draw.origin for draw in converge.draws(turn(["a"]))} == {"base"}


def test_evaluation_never_meets_a_pool():
    fixed = {draw.seed for draw in evaluation_draws(5, ["a"], SETTINGS)}
    for unit in range(1, 4):
        assert fixed.isdisjoint(draw.seed for draw in converge.draws(turn(["a"], unit=unit)))


@pytest.mark.parametrize("units", [1, 2, 3, 5, 10])
def test_the_pressure_of_a_whole_night_stays_within_its_budget(units):
    settings, spent = NightSettings(units=units, select_minimum=4, select_maximum=10_000), 0.0
    for unit in range(1, units + 1):
        pool = 256 + unit * 384
        asked = converge.selection(turn(["a"], unit=unit, settings=settings, pool=pool, spent_nats=spent))
        spent += math.log(pool / asked["count"])
    assert spent <= 6.0
    first = converge.selection(turn(["a"], settings=settings, pool=10_000))
    assert first["count"] >= 500


def test_a_longer_night_begins_no_weaker():
    def first(units, **known):
        settings = NightSettings(units=units, select_minimum=4, select_maximum=10_000, **known)
        return converge.selection(turn(["a"], settings=settings, pool=10_000))["count"]

    assert first(10) == first(5) == first(3) < first(2 * 5, pressure_units=10) / 3
    assert first(1) < first(3)


@pytest.mark.parametrize(("images", "count"), [(8, 6), (24, 18), (40, 30), (44, 32), (320, 48)])
def test_a_small_pool_is_never_chosen_whole_so_that_base_images_are_left(images, count):
    asked = converge.selection(turn(["a"], settings=NightSettings(images=images), pool=images))
    assert asked["count"] == count
    assert images - count >= (images - 1) // 4 or images > 43


def test_likes_fill_a_set_up_to_the_smallest():
    assert converge.selection(turn(["a"], pool=320))["fill_to"] == SETTINGS.select_minimum


def test_a_system_is_there_or_named():
    assert find("converge") is converge.SYSTEM
    assert find("concepts").name == "concepts"
    with pytest.raises(errors.InvalidArgument, match="converge"):
        find("sleep")
