"""A system of a test folder runs a whole night: nothing of konomi is edited but one entry of the registry."""

import json
import sqlite3

import pytest

from konomi.home import Home
from konomi.night.engine import preparation
from konomi.night.guards import GuardSettings
from konomi.night.systems import registry
from konomi.web.nights import NightEndpoints
from tests.client.night.systems import toy


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(registry.SYSTEMS, toy.SYSTEM.name, toy.SYSTEM)


def run(bench, home, *arguments, **environment):
    """Runs `konomi ARGUMENTS` with the toy registered; returns exit code, output and standard error."""
    child = bench.spawn(home, *arguments, before=toy.register, **environment)
    out, err = child.communicate(timeout=500)
    return child.returncode, out, err


def test_a_toy_system_is_planned_and_runs_a_night(bench):
    home = bench.home("toy")
    code, out, err = run(bench, home, "night", "plan", "toy", "--units", "3", "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert (plan["system"], plan["units"]) == ("toy", 3)
    assert (plan["images"], plan["training_steps"]) == (3 * 12 + 4 * 16, 3 * 4), "half of the 24 images of a pool"
    code, out, err = run(bench, home, "night", "plan", "toy:1+converge:1")
    assert code == 0, err
    assert "2 units, 84 images, 8 training steps" in out

    (home / "konomi.toml").write_text("[night]\ntoy_share = 0.25\n")
    start = ["toy" if word == "converge" else word for word in bench.start(home)]
    start[start.index("--units") + 1] = "3"
    code, out, err = run(bench, home, *start)
    assert code == 0, err
    result = json.loads(out.strip().splitlines()[-1])
    assert (result["system"], result["state"], result["reason"]["name"]) == ("toy", "finished", "units")
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    made = [unit for unit in state["units"] if unit.get("system") == "toy"]
    assert [unit["images"] for unit in made] == [6 + 16, 6 + 16, 6], "its own stop rule ended the third unit"
    request = json.loads((home / "nights" / result["night"] / "request.json").read_text())
    assert request["settings"]["toy_share"] == 0.25, "recorded flat, beside the others"
    rows = sqlite3.connect(home / "databases" / "stand-in-images.sqlite").execute("SELECT v FROM t").fetchall()
    assert {json.loads(about)["prompt"].rpartition(", ")[2] for (about,) in rows} == {"hat"}


def test_a_toy_system_has_a_setting_of_its_own(bench):
    home, words = bench.home("share"), ("night", "plan", "toy:1", "--json")
    code, out, err = run(bench, home, *words, KONOMI_NIGHT_TOY_SHARE="0.25")
    assert (code, json.loads(out)["images"]) == (0, 6 + 2 * 16), err
    plan = home / "toy.toml"
    plan.write_text('[night]\ntoy_share = 0.75\n[[stage]]\nsystem = "toy"\nunits = 1\n')
    code, out, err = run(bench, home, "night", "plan", str(plan), "--json", KONOMI_NIGHT_TOY_SHARE="0.25")
    assert (code, json.loads(out)["images"]) == (0, 18 + 2 * 16), err
    plan.write_text(plan.read_text().replace("0.75", "2"))
    code, _, err = run(bench, home, "night", "plan", str(plan))
    assert code == 2 and "the night setting toy_share cannot be used" in err
    plan.write_text('[night]\ntoy_share = 0.75\n[[stage]]\nsystem = "converge"\nunits = 1\n')
    code, _, err = bench.konomi(home, "night", "plan", str(plan))
    assert code == 2 and "toy_share" in err, "without its entry there is no such setting"


def recorded(home, **options):
    """Returns the settings of a night as its request records them."""
    chain, settings = preparation.settings_of(home, "converge", **options)
    guards = GuardSettings(home=home)
    return preparation.new_request(chain, "tastes/default", 7, settings, guards, ["a portrait"]).settings


def test_the_setting_of_a_toy_is_recorded_and_read_back_typed(registered, tmp_path):
    settings = registry.night_settings()
    kept = json.loads(json.dumps(recorded(tmp_path, toy_share=0.25)))
    assert settings(home=tmp_path, **settings.completed(kept)).of(toy.ToySettings).toy_share == 0.25


def test_a_toy_changes_no_night_that_does_not_set_it(monkeypatch, tmp_path):
    before = recorded(tmp_path)
    with monkeypatch.context() as patched:
        patched.setitem(registry.SYSTEMS, toy.SYSTEM.name, toy.SYSTEM)
        assert recorded(tmp_path) == before, "so the same words go on with a night begun before there was a toy"
        (tmp_path / "konomi.toml").write_text("[night]\ntoy_share = 0.25\n")
        settings = registry.night_settings()
        begun = settings(home=tmp_path, **settings.completed(before)).of(toy.ToySettings)
        assert begun.toy_share == 0.5, "konomi.toml changes no night that has begun"
    with pytest.raises(TypeError, match="expected settings that hold ToySettings"):
        registry.night_settings()(home=tmp_path / "other").of(toy.ToySettings)


def test_a_toy_system_stands_in_chains_and_has_words(registered):
    (first, second) = registry.stages("toy:1+converge:2", 9)
    assert (first.system, first.units, second.name) == (toy.SYSTEM, 1, "converge")
    assert all(system.title and system.note for system in registry.SYSTEMS.values())
    assert all(name == system.name for name, system in registry.SYSTEMS.items())


def test_a_toy_system_has_its_tile_on_the_page(registered, tmp_path):
    told = NightEndpoints(Home(tmp_path)).systems({})["systems"]
    assert [tile["name"] for tile in told] == list(registry.SYSTEMS)
    assert told[-1] == {"name": "toy", "title": "Toy", "note": "everything wears a hat"}


def test_without_its_entry_there_is_no_such_system(bench):
    code, _, err = bench.konomi(bench.home("none"), "night", "plan", "toy")
    assert code == 2
    assert "There is no system 'toy'" in err
