"""The policy of converge: what each unit draws, how hard it selects."""

import math

import pytest

from konomi import errors
from konomi.night_settings import NightSettings
from konomi.systems import converge, system

SETTINGS = NightSettings(images=100, units=3)


def test_draws_depend_on_night_unit_and_index_alone():
    first = converge.draws(5, 1, ["a", "b", "c"], SETTINGS, False)
    assert first == converge.draws(5, 1, ["c", "b", "a"], SETTINGS, False)
    assert first != converge.draws(5, 2, ["a", "b", "c"], SETTINGS, False)
    assert len({draw.seed for draw in first}) == 100
    assert {draw.prompt for draw in first} == {"a", "b", "c"}


def test_the_pool_mixes_served_unit_and_base():
    origins = [draw.origin for draw in converge.draws(5, 1, ["a"], SETTINGS, False)]
    assert origins.count("served") == 70
    assert {draw.origin for draw in converge.draws(5, 1, ["a"], SETTINGS, True)} == {"base"}


def test_evaluation_never_meets_a_pool():
    fixed = {draw.seed for draw in converge.evaluation_draws(5, ["a"], SETTINGS)}
    for unit in range(1, 4):
        assert fixed.isdisjoint(draw.seed for draw in converge.draws(5, unit, ["a"], SETTINGS, True))


@pytest.mark.parametrize("units", [1, 2, 3, 5])
def test_the_pressure_of_a_whole_night_stays_within_its_budget(units):
    settings, spent = NightSettings(units=units, select_minimum=4), 0.0
    for unit in range(1, units + 1):
        pool = 256 + unit * 384
        spent += math.log(pool / converge.selection(pool, spent, unit, 6.0, settings)["count"])
    assert spent <= 6.0
    assert converge.selection(10_000, 0.0, 1, 6.0, settings)["count"] >= 500


def test_a_system_is_there_or_named():
    assert system("converge") is converge
    with pytest.raises(errors.Unimplemented, match="converge"):
        system("golden")
    with pytest.raises(errors.InvalidArgument, match="converge"):
        system("sleep")
