"""A system of a test folder runs a whole night: nothing of konomi is edited but one entry of the registry."""

import json
import sqlite3

import pytest

from konomi.home import Home
from konomi.night.systems import registry
from konomi.web.nights import NightEndpoints
from tests.client.night.systems import toy


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(registry.SYSTEMS, toy.SYSTEM.name, toy.SYSTEM)


def run(bench, home, *arguments):
    """Runs `konomi ARGUMENTS` with the toy registered; returns exit code, last line and standard error."""
    child = bench.spawn(home, *arguments, before=toy.register)
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

    start = ["toy" if word == "converge" else word for word in bench.start(home)]
    start[start.index("--units") + 1] = "3"
    code, out, err = run(bench, home, *start)
    assert code == 0, err
    result = json.loads(out.strip().splitlines()[-1])
    assert (result["system"], result["state"], result["reason"]["name"]) == ("toy", "finished", "units")
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    made = [unit for unit in state["units"] if unit.get("system") == "toy"]
    assert [unit["images"] for unit in made] == [12 + 16, 12 + 16, 12], "its own stop rule ended the third unit"
    rows = sqlite3.connect(home / "databases" / "stand-in-images.sqlite").execute("SELECT v FROM t").fetchall()
    assert {json.loads(about)["prompt"].rpartition(", ")[2] for (about,) in rows} == {"hat"}


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
