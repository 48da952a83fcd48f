"""Nights of several systems: chains, plans in TOML, and a whole night of two stages on stand-in services."""

import json

import pytest

from konomi import errors
from konomi.night.engine.preparation import chain_of, read_plan, units_of
from konomi.night.systems import converge, golden, longtail
from konomi.night.systems.base import Stage
from konomi.night.systems.registry import stages, written


def test_one_name_is_one_stage_of_all_units():
    assert stages("converge", 3) == [Stage(converge.SYSTEM, 3)]
    assert units_of("converge") is None


def test_a_chain_has_its_stages_in_order():
    found = stages("longtail:2+golden:1", 9)
    assert found == [Stage(longtail.SYSTEM, 2, 0), Stage(golden.SYSTEM, 1, 1)]
    assert written(found) == "longtail:2+golden:1"
    assert units_of("longtail:2+golden:1") == 3


@pytest.mark.parametrize("wrong", ["longtail:2+golden", "converge:0", "converge:x", "converge:-1", "+converge:1"])
def test_a_malformed_chain_is_refused(wrong):
    with pytest.raises(errors.InvalidArgument):
        stages(wrong, 1)


def plan(tmp_path, words):
    path = tmp_path / "night.toml"
    path.write_text(words)
    return path


def test_a_plan_names_stages_and_settings(tmp_path):
    path = plan(
        tmp_path,
        '[night]\nimages = 64\n[[stage]]\nsystem = "longtail"\nunits = 2\n[[stage]]\nsystem = "golden"\nunits = 1\n',
    )
    assert chain_of(str(path)) == ("longtail:2+golden:1", {"images": 64})
    assert chain_of("converge") == ("converge", {})


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "expected [[stage]] tables"),
        ("[[stage]]\nsystem = 'converge'\n", "has system and units"),
        ("[[stage]]\nsystem = 'converge'\nunits = 0\n", "has system and units"),
        ("[[stage]]\nsystem = 'converge'\nunits = 1\nshare = 2\n", "has system and units"),
        ("[night]\nunits = 3\n[[stage]]\nsystem = 'converge'\nunits = 1\n", "units belong to the stages"),
        ("[other]\n[[stage]]\nsystem = 'converge'\nunits = 1\n", "expected [[stage]] tables"),
        ("not toml", "cannot be used"),
    ],
)
def test_a_wrong_plan_says_why(tmp_path, words, why):
    with pytest.raises(errors.InvalidArgument, match=r"night\.toml cannot be used") as caught:
        read_plan(plan(tmp_path, words))
    assert why in caught.value.message


def test_a_plan_that_is_not_there_says_so(tmp_path):
    with pytest.raises(errors.InvalidArgument, match=r"gone\.toml cannot be used"):
        read_plan(tmp_path / "gone.toml")


def test_a_night_runs_its_stages_and_says_why_one_ended(bench):
    home = bench.home("chain")
    words = '[night]\nimages = 24\n[[stage]]\nsystem = "longtail"\nunits = 1\n[[stage]]\nsystem = "golden"\nunits = 1\n'
    words += '[[stage]]\nsystem = "converge"\nunits = 1\n'
    path = plan(home, words)
    start = [str(path) if word == "converge" else word for word in bench.start(home)]
    del start[start.index("--units") : start.index("--units") + 2]
    code, result, err = bench.konomi(home, *start)
    assert code == 0, err
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    assert state["system"] == "longtail:1+golden:1+converge:1"
    (ended,) = state["ended"]
    assert (ended["system"], ended["name"]) == ("golden", "too_few_ur")
    assert [one["system"] for one in state["units"] if "decision" in one and "stage" in one] == ["longtail", "converge"]
    assert result["reason"]["name"] == "units"
    code, planned, err = bench.konomi(home, "night", "plan", str(path), "--json")
    assert (code, planned["units"]) == (0, 3), err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("longtail:1+golden:1", "--units", "3"), "leave --units out"),
        (("longtail:1+dream:1",), "no system 'dream'"),
        (("nowhere.toml",), "nowhere.toml cannot be used"),
    ],
)
def test_a_wrong_chain_is_refused_before_anything_starts(bench, arguments, words):
    home = bench.home("wrong-chain")
    code, _, err = bench.konomi(home, "night", "start", *arguments)
    assert code == 2, err
    assert words in err


def test_an_unknown_setting_in_a_plan_is_named(bench):
    home = bench.home("wrong-setting")
    path = plan(home, '[night]\nimagse = 24\n[[stage]]\nsystem = "converge"\nunits = 1\n')
    code, _, err = bench.konomi(home, "night", "start", str(path))
    assert code == 2, err
    assert "imagse" in err
