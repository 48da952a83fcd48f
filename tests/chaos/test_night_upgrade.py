"""The code is upgraded in the middle of a night: the new version goes on to its end, or ends it with a sentence.

The older version is this one, armed: it has another schema, takes another step, or lacks a setting. Both work on the
same files, with the real dbos.
"""

import json
import sqlite3
from pathlib import Path

import pytest

from konomi.night.records import sealed
from tests.chaos.armed import arm, ran
from tests.client.night import nights

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def bench(tmp_path):
    bench = nights.Bench(tmp_path)
    yield bench
    bench.close()


def begun_by_another(bench, home: Path, boundary: str, **version: str) -> None:
    """Lets another version begin the night and kills it."""
    environment = {"BOUNDARY": boundary, "RAN": str(home / "ran.log"), **version}
    child = bench.spawn(home, *bench.start(home), before=arm, **environment)
    _, err = child.communicate(timeout=500)
    assert child.returncode == -9, err


def promoted(home: Path) -> str:
    """Returns the model the trainer was asked to promote."""
    moves = sqlite3.connect(home / "databases" / "stand-in-moves.sqlite").execute("SELECT v FROM t").fetchall()
    (move,) = moves
    return json.loads(move[0]).removeprefix("models/")


def ends_on(bench, home: Path, unit: int, model: str) -> dict:
    """Runs the same command and holds that it ends the night, on a unit, doing nothing else."""
    before = nights.calls(home)
    code, result, err = bench.konomi(home, *bench.start(home))
    assert code == 5, err
    assert (result["state"], result["reason"]["name"]) == ("halted", "other_version")
    assert "another version of konomi began it" in result["reason"]["sentence"]
    assert result["served"] == {"unit": unit, "model": model}
    assert nights.calls(home) == before, "nothing was made for a night that ends"
    assert "another version of konomi" in Path(result["report"]).read_text()
    return result


def test_a_night_of_another_schema_ends_on_the_unit_promoted_last(bench):
    home = bench.home("schema")
    begun_by_another(bench, home, "recorded:unit-1/serve", SCHEMA="workflow-schema-0")
    ends_on(bench, home, 1, promoted(home))


@pytest.mark.chaos
def test_a_night_of_the_same_schema_with_other_steps_ends_too_and_the_next_builds_on_it(bench):
    home = bench.home("steps")
    begun_by_another(bench, home, "recorded:unit-1/serve", EXTRA="unit-1/ponder")
    halted = ends_on(bench, home, 1, promoted(home))
    code, result, err = bench.konomi(home, *bench.start(home))
    assert (code, result["state"]) == (0, "finished"), err
    assert result["night"] != halted["night"]
    assert [one["unit"] for one in result["units"]] == [0, 1, 2, 3]


@pytest.mark.chaos
def test_a_night_killed_before_its_first_record_ends_on_the_base_model(bench):
    home = bench.home("first")
    begun_by_another(bench, home, "before:plan", SCHEMA="workflow-schema-2")
    ends_on(bench, home, 0, "base")


@pytest.mark.chaos
def test_a_setting_this_version_does_not_know_ends_the_night(bench):
    home = bench.home("knob")
    begun_by_another(bench, home, "recorded:unit-1/serve")
    (path,) = home.glob("nights/*/request.json")
    request = json.loads(path.read_text())
    request["settings"]["an_older_knob"] = request["guards"]["an_older_guard"] = 1
    sealed.write(path, request)
    ends_on(bench, home, 1, promoted(home))


@pytest.mark.chaos
def test_a_setting_the_older_version_did_not_know_has_its_default_and_the_night_goes_on_to_its_end(bench):
    home = bench.home("younger")
    begun_by_another(bench, home, "recorded:unit-1/serve", LACKS="watts")
    code, _, err = bench.konomi(home, *bench.start(home))
    assert code == 4, "the words of the command mean something else now"
    assert "night resume" in err
    finished = {name for _, name in ran(home)}
    environment = {"RAN": str(home / "ran.log")}
    child = bench.spawn(home, "night", "resume", "--json", before=arm, **environment)
    out, err = child.communicate(timeout=500)
    assert child.returncode == 0, err
    assert json.loads(out.strip().splitlines()[-1])["state"] == "finished"
    steps = [name for _, name in ran(home)]
    assert len(steps) == len(set(steps)), "a finished step ran again"
    assert "unit-2/judge" in set(steps) - finished
