"""Nights that turn away: what is asked for and recorded, what is refused, and nothing of it where it is off."""

import json
import math
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from konomi.cli.night.run import app
from konomi.errors import InvalidArgument
from konomi.home import Home
from konomi.night.draws import Turn, UnitContext
from konomi.night.engine import preparation
from konomi.night.engine.steps import NightSteps
from konomi.night.gateway import manifests, measures, messages
from konomi.night.gateway.manifests import Item
from konomi.night.guards import GuardSettings
from konomi.night.records.state import Rejection, Selection
from konomi.night.report.again import OPTIONS
from konomi.night.report.facts import _training_set
from konomi.night.report.sections import selected
from konomi.night.settings import NightSettings
from konomi.night.systems import converge, golden, longtail
from konomi.night.systems.registry import night_settings
from konomi.v1 import rater_pb2
from konomi.web.nights import endpoints
from tests.benchmarks.night.trials import at_equal_vendi

A, B, C, D = (letter * 64 for letter in "abcd")


def turn(unit=1, pool=1000, spent=0.0, **settings):
    kept = night_settings()(**{"units": 3, "select_minimum": 4, "select_maximum": 10_000, **settings})
    return Turn(
        seed=5, unit=unit, position=unit, prompts=["a"], settings=kept, budget_nats=6.0, pool=pool, spent_nats=spent
    )


@pytest.mark.parametrize("system", [converge, longtail])
def test_the_worst_is_asked_for_where_the_owner_wants_it_and_golden_asks_again(system):
    assert "avoid" not in system.selection(turn()) and not system.SYSTEM.avoids(turn().settings)
    wanted = turn(contrast_beta=0.5)
    assert system.selection(wanted)["avoid"] is True and system.SYSTEM.avoids(wanted.settings)
    assert "avoid" not in golden.selection(wanted) and not golden.SYSTEM.avoids(wanted.settings)
    twice = turn(contrast_beta=0.5, golden_avoids=True)
    assert golden.selection(twice)["avoid"] is True and golden.selection(twice)["policy"] == "golden"
    assert "avoid" not in golden.selection(turn(golden_avoids=True))


@pytest.mark.parametrize("units", [1, 2, 3, 5])
def test_both_tails_of_a_whole_night_stay_within_the_pressure_budget(units):
    spent = 0.0
    for unit in range(1, units + 1):
        pool = 256 + unit * 384
        asked = converge.selection(turn(unit, pool, spent, units=units, contrast_beta=0.5))
        kept = 0.95 * asked["count"]  # quota and gate keep fewer
        spent += 2 * math.log(pool / kept)
    assert 2.0 < spent <= 6.0


def test_a_step_length_below_its_bound_or_for_nobody_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected 0, or a number from 0\.35 to 4, got 0\.2"):
        NightSettings(contrast_beta=0.2)
    for chain, word in (("golden", "golden_avoids is true"), ("propagate", "turns away from nothing")):
        settings = night_settings()(home=tmp_path, contrast_beta=0.5)
        with pytest.raises(InvalidArgument, match=word) as caught:
            preparation.new_request(chain, "tastes/default", 1, settings, GuardSettings(home=tmp_path), [])
        assert (caught.value.reason, caught.value.field) == ("CONTRAST_UNUSED", "contrast_beta")
    for chain in ("converge", "longtail:1+golden:1"):
        settings = night_settings()(home=tmp_path, contrast_beta=0.5, units=2)
        request = preparation.new_request(chain, "tastes/default", 1, settings, GuardSettings(home=tmp_path), ["a"])
        assert request.settings["contrast_beta"] == 0.5


def test_off_a_night_is_asked_for_in_the_words_of_before(tmp_path):
    settings = night_settings()(home=tmp_path)
    request = preparation.new_request("converge", "tastes/default", 1, settings, GuardSettings(home=tmp_path), ["a"])
    assert not {"contrast_beta", "golden_avoids"} & request.settings.keys()
    assert "contrast_beta" not in converge.SYSTEM.hyper_parameters(settings)
    plain = manifests.render([Item(B, "b"), Item(A, "a", role=manifests.BASE)])
    assert json.loads(plain)["schema"] == "konomi.manifest/1"
    assert OPTIONS["contrast_beta"] == "--contrast"


def test_the_page_and_the_command_line_ask_for_the_same_setting(tmp_path, monkeypatch):
    assert endpoints._options({"contrast": 0.5}) == ["--contrast", "0.5"]
    plan = endpoints.NightEndpoints(Home(tmp_path)).plan({"system": "converge", "contrast": 0.5})
    assert plan["units"] == 3
    with pytest.raises(InvalidArgument, match="golden_avoids"):
        endpoints.NightEndpoints(Home(tmp_path)).plan({"system": "golden", "contrast": 0.5})
    monkeypatch.setenv("KONOMI_HOME", str(tmp_path))
    asked = CliRunner().invoke(app, ["plan", "converge", "--contrast", "0.5", "--json"])
    assert asked.exit_code == 0 and json.loads(asked.stdout.splitlines()[-1])["units"] == 3
    refused = CliRunner().invoke(app, ["plan", "converge", "--contrast", "0.2"])
    assert refused.exit_code != 0 and "0.35" in str(refused.exception)


def reply(*avoided):
    said = rater_pb2.SelectImagesResponse(considered=10, kept_share=0.1, pressure_nats=2.3)
    said.selected.add(digest=A, prompt="a", role=rater_pb2.SELECTION_ROLE_SELECTED, weight=1)
    said.selected.add(digest=B, prompt="b", role=rater_pb2.SELECTION_ROLE_BASE, weight=1)
    for digest, reason in avoided:
        said.avoided.add(digest=digest, prompt="a", reason=reason, weight=1, unit="base")
    if avoided:
        said.avoided_share, said.avoided_nats = len(avoided) / 10, 1.6
    return said


def test_what_is_turned_away_from_is_in_the_manifest_the_record_and_the_report():
    said = reply((C, rater_pb2.AVOIDANCE_REASON_GRADED_N), (D, rater_pb2.AVOIDANCE_REASON_UPPER_BOUND))
    items = messages.items(said, {})
    assert {(item.digest, item.role) for item in items} == {
        (A, "selected"),
        (B, "base"),
        (C, "avoided"),
        (D, "avoided"),
    }
    assert json.loads(manifests.render(items))["schema"] == "konomi.manifest/2"
    chosen = messages.selection(said)
    assert {name: met.count for name, met in chosen.avoided.items()} == {"graded_n": 1, "upper_bound": 1}
    assert (chosen.avoided_share, chosen.avoided_nats) == (0.2, 1.6)
    assert Selection(**chosen.plain()) == chosen
    assert not {"avoided", "avoided_share", "avoided_nats"} & messages.selection(reply()).plain().keys()

    class Thumbnails:
        def picture(self, digest, *_):
            return digest

    def told(selection):
        facts = _training_set(selection.changed(n=1, selected=(A,), manifest=A))
        blocks = selected("unit-1", facts, Thumbnails())
        return blocks[1], [strip.reason for strip in blocks[2].strips]

    paragraph, strips = told(chosen)
    assert "turned away from 2 of konomi's own images" in str(paragraph) and strips[1] == "turned away from: graded N"
    assert "turned away" not in str(told(messages.selection(reply()))[0])


@pytest.mark.parametrize(("avoided", "asked"), [({"graded_n": Rejection(count=2)}, 0.5), ({}, None)])
def test_the_trainer_is_asked_for_a_step_length_only_where_there_is_something_to_avoid(avoided, asked):
    class Gateway:
        def train(self, run, hyper, beat, method, publish):
            assert not publish, "only a system that chooses among checkpoints has them kept"
            return hyper

    request = preparation.new_request(
        "converge", "tastes/default", 1, night_settings()(contrast_beta=0.5), GuardSettings(), ["a"], "n"
    )
    steps = NightSteps(Gateway(), request, lambda *_: None)
    hyper = steps.train(UnitContext(1, 1, "converge", 0.0, {}), None, Selection(manifest=A, avoided=avoided))
    assert hyper.get("contrast_beta") == asked


def test_two_ways_are_compared_where_both_keep_as_much_diversity():
    curve = [(1.0, 0.0), (0.9, 0.6), (0.8, 0.9), (0.7, 1.1)]
    assert at_equal_vendi(curve, 0.85, 0.95) == pytest.approx(0.2)
    assert at_equal_vendi(curve, 0.9, 0.6) == pytest.approx(0.0)
    assert at_equal_vendi(curve, 0.65, 1.2) == pytest.approx(0.0), "beyond the end the last segment goes on"
    assert at_equal_vendi(curve, 1.05, 0.0) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="two scales"):
        at_equal_vendi(curve[:1], 0.9, 1.0)


def test_what_is_turned_away_from_is_no_training_source_whose_copies_are_counted():
    class Client:
        class artifacts:
            @staticmethod
            def get(digest):
                return manifests.render([Item(A, "a"), Item(C, "a", role=manifests.AVOIDED)])

    assert measures.sources_of(Client, "m") == [A]
    assert replace(Item(A, "a"), role=manifests.AVOIDED).role == "avoided"
