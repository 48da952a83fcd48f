"""Nights whose files were damaged, on real databases: nothing finished is lost, nothing is done twice."""

import json
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from tests.client.night import nights
from tests.client.night.engine import jumping_clock
from tests.client.night.engine.test_workflow import night_of, wait_for_step
from tests.client.night.records.test_sealed import put

pytestmark = pytest.mark.timeout(900)
DATABASE = Path("databases") / "night.sqlite"


def rarer(*kinds: str) -> list[object]:
    """Kinds of damage that end where others do: they run in `make chaos`."""
    return [pytest.param(kind, marks=pytest.mark.chaos) for kind in kinds]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """One bench for all, so that one unbroken and one stopped night serve them."""
    bench = nights.Bench(tmp_path_factory.mktemp("damaged"))
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def whole(bench):
    """A home whose night was never broken; no test changes it."""
    home = bench.home("whole")
    code, _, err = bench.konomi(home, *bench.start(home))
    assert code == 0, err
    return home


@pytest.fixture(scope="module")
def unbroken(whole):
    """What an unbroken night leaves behind, and its finished calls."""
    return nights.left_behind(whole, night_of(whole)), Counter(nights.calls(whole))


@pytest.fixture(scope="module")
def halfway(bench):
    """A home whose night was stopped after a unit was trained."""
    home = bench.home("halfway")
    child = bench.spawn(home, *bench.start(home), STAND_IN_SECONDS="0.15")
    wait_for_step(home, child, 9)
    bench.konomi(home, "night", "stop")
    assert child.wait(timeout=300) == 0
    steps = json.loads((home / "nights" / night_of(home) / "night.json").read_text())["steps"]
    assert any(step["name"].endswith("/train") for step in steps)
    return home


@pytest.fixture
def stopped(bench, halfway, tmp_path_factory) -> Path:
    """A copy of that home."""
    home = tmp_path_factory.mktemp("copied") / "home"
    shutil.copytree(halfway, home, symlinks=True)
    return home


def flipped(path: Path) -> None:
    """Changes one digit of what a step left, in a page of the database that SQLite finds no fault in."""
    database = sqlite3.connect(path)
    ((place, output),) = database.execute(
        "SELECT function_id, output FROM operation_outputs WHERE function_name = 'unit-1/train'"
    ).fetchall()
    changed = output.replace('"adapter": "', '"adapter": "f').replace('"adapter":"', '"adapter":"f')
    assert changed != output
    database.execute("UPDATE operation_outputs SET output = ? WHERE function_id = ?", (changed, place))
    database.commit()
    database.close()


@pytest.mark.parametrize(
    "what", ["cut", "missing", "flipped", *rarer("folder", "empty", "garbage", "zeros", "pipe", "pages")]
)
def test_a_damaged_database_costs_nothing(bench, unbroken, stopped, what):
    path = stopped / DATABASE
    if what == "missing":
        path.unlink()
    elif what == "flipped":
        flipped(path)
    elif what == "pages":
        whole = path.read_bytes()
        path.write_bytes(whole[:4096] + bytes(8192) + whole[4096 + 8192 :])
    else:
        put(path, what)
    done = Counter(nights.calls(stopped))
    code, summary, err = bench.konomi(stopped, *bench.start(stopped))
    assert (code, summary["state"]) == (0, "finished"), err
    expected, calls = unbroken
    assert nights.left_behind(stopped, summary["night"]) == expected
    assert done < Counter(nights.calls(stopped)) == calls, "no finished step ran again"
    aside = path.with_name("night.sqlite.damaged-1")
    if what not in ("missing", "flipped"):
        assert "night.sqlite.damaged-1" in err and (aside.exists() or aside.is_fifo())
    assert path.is_file()


@pytest.mark.parametrize("name", ["night.json", "request.json"])
@pytest.mark.parametrize("what", ["cut", *rarer("empty", "folder")])
def test_a_damaged_record_of_the_night_costs_nothing(bench, unbroken, stopped, name, what):
    night = night_of(stopped)
    put(stopped / "nights" / night / name, what)
    code, status, err = bench.konomi(stopped, "night", "status", "--json")
    assert (code, status["state"]) == (0, "stopped"), err
    code, summary, err = bench.konomi(stopped, "night", "resume", "--json")
    assert (code, summary["state"]) == (0, "finished"), err
    assert f"A record of the night {night} was damaged and has been made good" in err
    assert nights.left_behind(stopped, night) == unbroken[0]
    assert Counter(nights.calls(stopped)) == unbroken[1]


@pytest.mark.parametrize("journal", [True, False])
def test_a_record_without_a_copy_is_made_again_from_what_the_steps_left(bench, unbroken, stopped, journal):
    folder = stopped / "nights" / night_of(stopped)
    (folder / "night.seal").unlink()
    put(folder / "night.json", "cut")
    if not journal:  # as nights of before there were journals
        (folder / "steps.jsonl").unlink()
    code, status, err = bench.konomi(stopped, "night", "status", "--json")
    assert (code, status["state"]) == (0, "damaged"), err
    assert "makes it good by what its steps left" in status["reason"]["sentence"]
    code, summary, err = bench.konomi(stopped, "night", "resume", "--json")
    assert (code, summary["state"]) == (0, "finished"), err
    assert nights.left_behind(stopped, summary["night"]) == unbroken[0]
    assert Counter(nights.calls(stopped)) == unbroken[1]


def test_a_lost_request_is_set_aside_and_a_new_night_begins(bench, stopped):
    night = night_of(stopped)
    (stopped / "nights" / night / "request.seal").unlink()
    put(stopped / "nights" / night / "request.json", "cut")
    code, said, err = bench.konomi(stopped, "night", "status")
    assert code == 0 and f"The night {night} cannot be read" in err and "no night has been started" in said
    code, summary, err = bench.konomi(stopped, *bench.start(stopped))
    assert (code, summary["state"]) == (0, "finished"), err
    assert f"It lies in {night}.damaged-1 now." in err
    assert (stopped / "nights" / f"{night}.damaged-1" / "request.json").exists()


def test_an_ended_night_whose_database_was_lost_is_told_and_not_run_again(bench, whole, tmp_path):
    home = Path(shutil.copytree(whole, tmp_path / "home", symlinks=True))
    night = night_of(home)
    (home / "nights" / night / "delivered").unlink()
    (home / DATABASE).unlink()
    done = nights.calls(home)
    code, again, err = bench.konomi(home, *bench.start(home))
    assert (code, again["night"], again["state"]) == (0, night, "finished"), err
    assert nights.calls(home) == done


def test_a_clock_set_two_days_back_and_forth_at_every_step_changes_nothing(bench, unbroken):
    home = bench.home("jumps")
    child = bench.spawn(home, *bench.start(home), before=jumping_clock.jump)
    out, err = child.communicate(timeout=600)
    assert child.returncode == 0, err
    summary = json.loads(out.strip().splitlines()[-1])
    assert (summary["state"], summary["reason"]["name"]) == ("finished", "units"), "no budget of hours was met"
    assert 0 < summary["seconds"] < 600
    assert nights.left_behind(home, summary["night"]) == unbroken[0]
    assert Counter(nights.calls(home)) == unbroken[1]
