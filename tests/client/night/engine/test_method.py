"""A night may fit with any method the trainer has, and says which there are where it is asked for another."""

import json
import sqlite3

import pytest

from konomi.errors import InvalidArgument
from konomi.night.engine import preparation
from konomi.night.engine.steps import NightSteps
from konomi.night.gateway.services import METHODS
from konomi.night.guards import GuardSettings
from konomi.night.systems.registry import night_settings


def test_lora_is_what_nobody_asked_for_and_custom_diffusion_needs_words():
    assert night_settings()().method == "lora"
    assert "lora" in METHODS and "dora" in METHODS
    assert not {"custom_diffusion", "unspecified"} & set(METHODS)


def test_an_unknown_method_is_refused_with_those_there_are(tmp_path):
    settings = night_settings()(home=tmp_path, method="magic")
    with pytest.raises(InvalidArgument, match=r"Expected one of dora, .*lora.* got 'magic'") as caught:
        preparation.new_request("converge", "tastes/default", 1, settings, GuardSettings(home=tmp_path), [])
    assert (caught.value.reason, caught.value.field) == ("METHOD_UNKNOWN", "method")


def test_a_night_under_way_keeps_the_method_it_began_with(tmp_path, monkeypatch):
    settings = night_settings()(home=tmp_path)
    request = preparation.new_request("converge", "tastes/default", 1, settings, GuardSettings(home=tmp_path), ["a"])
    assert "method" not in request.settings, "younger than nights on disk, and at its default"
    monkeypatch.setenv("KONOMI_NIGHT_METHOD", "dora")
    assert night_settings()(home=tmp_path).method == "dora"
    assert NightSteps(None, request, lambda *_: None).settings.method == "lora"


def test_the_trainer_is_asked_for_the_method_of_the_night(bench):
    home = bench.home("dora")
    start = list(bench.start(home))
    start[start.index("--units") + 1] = "1"
    code, result, err = bench.konomi(home, *start, KONOMI_NIGHT_METHOD="dora")
    assert (code, result["state"]) == (0, "finished"), err
    rows = sqlite3.connect(home / "databases" / "stand-in-runs.sqlite").execute("SELECT v FROM t").fetchall()
    assert [json.loads(run).get("method") for (run,) in rows] == ["TRAINING_METHOD_DORA"]
    request = json.loads((home / "nights" / result["night"] / "request.json").read_text())
    assert request["settings"]["method"] == "dora"
