"""The whole night on stand-in services: real sockets, real SQLite, the command line as a person types it."""

import json
import shutil
import signal
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.client.night import nights

pytestmark = pytest.mark.timeout(900)

RECORDED = Path(__file__).with_name("recorded_steps.json")
"""What a night of two units records under the present schema."""


@dataclass(frozen=True)
class Unbroken:
    """A night that ran from its start to its end: its home, which no test changes, and what the command said."""

    home: Path
    said: dict

    @property
    def left(self) -> dict:
        """What it made."""
        return nights.left_behind(self.home, self.said["night"])

    def copied(self, folder: Path) -> Path:
        """Returns a copy of its home, which a test may change."""
        return Path(shutil.copytree(self.home, folder / "home", symlinks=True))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """One bench for all, so that one unbroken night serves them; every test has a home of its own."""
    bench = nights.Bench(tmp_path_factory.mktemp("nights"))
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def unbroken(bench):
    """The night of these tests, started in a fresh interpreter as a person does."""
    home = bench.home("night")
    code, result, err = bench.konomi(home, *bench.start(home), cold=True)
    assert code == 0, err
    return Unbroken(home, result)


def night_of(home) -> str:
    """Returns the id of the only night of a home."""
    (path,) = home.glob("nights/*/request.json")
    return path.parent.name


def recorded(home, night: str, database: sqlite3.Connection) -> dict:
    """Returns what another version would have to understand: request, workflow, and the payload of every step."""
    request = json.loads((home / "nights" / night / "request.json").read_text())
    rows = database.execute("SELECT function_name, output FROM operation_outputs ORDER BY function_id").fetchall()
    (schema,) = database.execute("SELECT application_version FROM workflow_status").fetchone()
    return {
        "schema": schema,
        "request": sorted(request),
        "steps": [[name, sorted(payload_of(output))] for name, output in rows],
    }


def payload_of(output: str) -> dict:
    """Returns the value inside the envelope dbos keeps of a step."""
    return json.loads(output)["value"]


def wait_for_step(home, child, count: int) -> None:
    """Waits until a night has finished some steps."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and child.poll() is None:
        for path in home.glob("nights/*/night.json"):
            if len(json.loads(path.read_text())["steps"]) >= count:
                return
        time.sleep(0.05)
    raise AssertionError(child.communicate(timeout=10)[1])


def test_a_night_makes_judges_and_serves_units(unbroken):
    home, result = unbroken.home, unbroken.said
    assert result["state"] == "finished"
    assert [unit["unit"] for unit in result["units"]] == [0, 1, 2]
    assert result["units"][1]["decision"] == "promote"
    assert result["served"]["unit"] in (1, 2)
    assert result["images"] == 16 + 2 * (24 + 16)
    log = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    assert "6.4 nats of selection" in log["rater"]["alarms"][0]
    spent = [one["selection"]["rater"]["nats"] for one in log["units"][1:]]
    assert 0 < spent[0] < spent[1] == pytest.approx(log["nats"]), "the rater counts what the night spends"
    page = (home / "report" / "index.html").read_text()
    assert "data:image/webp;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    database = sqlite3.connect(home / "databases" / "night.sqlite")
    assert recorded(home, result["night"], database) == json.loads(RECORDED.read_text()), (
        "what a night records has changed: raise SCHEMA in workflow.py, so that no night of the version before is "
        "gone on with, unless this version understands what the one before recorded; and write the new record down"
    )
    assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert {row[0] for row in database.execute("SELECT DISTINCT serialization FROM operation_outputs")} == {
        "portable_json"
    }


def test_three_that_draw_at_once_get_three_times_as_many_and_make_the_same_night(bench, unbroken):
    home = bench.home("places")
    code, result, err = bench.konomi(home, *bench.start(home), PLACES="3")
    assert code == 0, err
    left = nights.left_behind(home, result["night"])
    assert [name for name in left["steps"] if name.startswith("unit-1/generate")] == ["unit-1/generate-000"]
    assert [name for name in unbroken.left["steps"] if name.startswith("unit-1/generate")][1:], "by eights else"
    assert {**left, "steps": ()} == {**unbroken.left, "steps": ()}


def test_the_same_night_in_another_home_makes_the_same_artifacts(bench, unbroken):
    home = bench.home("other")
    code, result, err = bench.konomi(home, *bench.start(home))
    assert code == 0, err
    assert nights.left_behind(home, result["night"]) == unbroken.left


def test_a_stopped_night_ends_well_and_goes_on(bench, unbroken):
    home = bench.home("stopped")
    child = bench.spawn(home, *bench.start(home), STAND_IN_SECONDS="0.25")
    wait_for_step(home, child, 3)
    code, _, status_error = bench.konomi(home, "night", "status", "--json")
    assert code == 0, status_error
    code, said, err = bench.konomi(home, "night", "stop")
    assert code == 0, err
    assert "stopped" in said
    assert child.wait(timeout=300) == 0
    code, status, _ = bench.konomi(home, "night", "status", "--json")
    assert (status["state"], status["running"]) == ("stopped", False)
    code, result, err = bench.konomi(home, "night", "resume", "--json")
    assert code == 0, err
    assert nights.left_behind(home, result["night"]) == unbroken.left


def test_sigterm_finishes_the_step_and_exits_0(bench):
    home = bench.home("term")
    child = bench.spawn(home, *bench.start(home), STAND_IN_SECONDS="0.25")
    wait_for_step(home, child, 2)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=300)
    assert child.returncode == 0
    assert json.loads(out.strip().splitlines()[-1])["state"] == "stopped"


def test_another_night_waits_for_the_unfinished_one_or_its_end(bench):
    home = bench.home("two")
    child = bench.spawn(home, *bench.start(home), STAND_IN_SECONDS="0.25")
    wait_for_step(home, child, 2)
    code, _, err = bench.konomi(home, *bench.start(home))
    assert code == 4
    assert "Another process runs a night" in err
    child.kill()
    child.communicate()
    code, _, err = bench.konomi(home, *bench.start(home, "--images", "16"))
    assert code == 4
    assert "night resume" in err
    code, said, _ = bench.konomi(home, "night", "stop", "--abandon")
    assert code == 0
    assert "abandoned" in said
    code, result, err = bench.konomi(home, *bench.start(home, "--images", "16"))
    assert code == 0, err
    assert result["state"] == "finished"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("night", "start", "dream"), 2, "converge"),
        (("--lang", "ja", "night", "start", "dream"), 2, "'dream' という方式はありません"),
        (("night", "start", "converge", "--units", "7"), 2, "at most 5 units"),
        (("night", "start", "converge", "--prompts", "/nowhere.txt"), 2, "cannot read the prompts"),
        (("night", "resume"), 1, "no unfinished night"),
        (("night", "status", "--night", "none"), 1, "There is no night none"),
    ],
)
def test_a_wrong_request_is_refused_with_what_to_do(bench, arguments, code, words):
    got, _, err = bench.konomi(bench.home("wrong"), *arguments)
    assert got == code, err
    assert words in err
    assert "Traceback" not in err


def test_a_night_without_a_rater_says_how_to_get_one_and_goes_on_when_there_is_one(bench):
    home = bench.home("no-rater")
    (home / "no-rater").touch()
    code, _, err = bench.konomi(home, *bench.start(home, "--lang", "ja"))
    assert code == 4
    assert "konomi rater fit" in err and "評価モデル" in err, "the command speaks the language it was asked in"
    kept = json.loads((home / "nights" / night_of(home) / "night.json").read_text())
    assert "has no rater yet" in kept["reason"]["sentence"], "records are English, whatever the command speaks"
    for language, words in (("en", "has no rater yet"), ("ja", "評価モデル")):
        code, status, err = bench.konomi(home, "--lang", language, "night", "status")
        assert code == 0 and words in status, "told in the language of whoever reads it"
    (home / "no-rater").unlink()
    code, result, err = bench.konomi(home, *bench.start(home))
    assert code == 0, err
    assert result["state"] == "finished"


def test_the_image_budget_is_hit_exactly(bench):
    home = bench.home("budget")
    code, result, err = bench.konomi(home, *bench.start(home, "--budget-images", "48"))
    assert code == 0, err
    assert result["images"] == 48
    assert result["reason"]["name"] == "budget_images"


def test_the_budgets_of_disk_and_accelerator_end_a_night_between_two_steps(bench):
    home = bench.home("disk")
    code, result, err = bench.konomi(home, *bench.start(home, "--disk", "0.000001"))
    assert code == 0, err
    assert (result["state"], result["reason"]["name"]) == ("finished", "budget_disk")
    assert 0 < result["images"] <= 16, "it ended before the step after the one that spent it"
    code, result, err = bench.konomi(home, *bench.start(home, "--gpu-hours", "0.00001", "--seed", "9"))
    assert (code, result["reason"]["name"]) == (0, "budget_gpu_hours"), err


def test_a_full_disk_interrupts_and_the_same_command_goes_on(bench):
    home = bench.home("full")
    code, _, err = bench.konomi(home, *bench.start(home), KONOMI_NIGHT_RESERVE_GIB="100000000")
    assert code == 4
    assert "kept in reserve" in err
    bench.konomi(home, "night", "stop", "--abandon")
    code, result, err = bench.konomi(home, *bench.start(home))
    assert (code, result["state"]) == (0, "finished"), err


def test_a_unit_that_collapses_halts_the_night_on_the_last_good_one(bench):
    home = bench.home("collapse")
    code, result, err = bench.konomi(home, *bench.start(home), STAND_IN_SHIFT="0.9", STAND_IN_FLAT="1")
    assert code == 5, err
    assert (result["state"], result["reason"]["name"]) == ("halted", "diversity")
    assert result["served"] == {"unit": 0, "model": "base"}
    moves = sqlite3.connect(home / "databases" / "stand-in-moves.sqlite").execute("SELECT count(*) FROM t")
    assert moves.fetchone() == (0,)


def test_a_command_killed_after_its_nights_end_tells_it_again_and_runs_no_other(bench, unbroken, tmp_path):
    home, first = unbroken.copied(tmp_path), unbroken.said
    (home / "nights" / first["night"] / "delivered").unlink()
    done = nights.calls(home)
    code, again, err = bench.konomi(home, *bench.start(home))
    assert (code, again["night"]) == (0, first["night"]), err
    assert nights.calls(home) == done


def test_a_second_night_builds_on_the_first(bench, unbroken, tmp_path):
    home, first = unbroken.copied(tmp_path), unbroken.said
    code, second, err = bench.konomi(home, *bench.start(home))
    assert code == 0, err
    assert second["night"] != first["night"]
    assert [unit["unit"] for unit in second["units"]][:2] == [0, first["served"]["unit"]]
    assert second["units"][2]["unit"] == 3


def test_a_service_that_hangs_is_replaced_and_the_night_is_the_same(bench, unbroken):
    home = bench.home("hangs")
    (home / "hang").touch()
    # a step of a loaded machine takes many seconds and hangs not
    code, result, err = bench.konomi(home, *bench.start(home), KONOMI_NIGHT_STALL_SECONDS="8")
    assert code == 0, err
    assert result["state"] == "finished"
    assert not (home / "hang").exists(), "the generator hung"
    assert but_for_names(nights.left_behind(home, result["night"])) == but_for_names(unbroken.left)


def but_for_names(left: dict) -> dict:
    """Returns what a night made without the names of its models, which come of the settings it was asked for too."""
    kept = {name: left[name] for name in ("images", "artifacts", "steps", "state", "reason")}
    return kept | {"units": [{name: unit[name] for name in unit if name != "model"} for unit in left["units"]]}


def test_a_hanging_service_of_konomi_up_interrupts_the_night_which_then_goes_on(bench):
    home = bench.home("hangs-attached")
    up = bench.spawn(home, "up", "--json")
    assert json.loads(up.stdout.readline())["generator"]
    (home / "hang").touch()
    code, _, err = bench.konomi(home, *bench.start(home), KONOMI_NIGHT_STALL_SECONDS="8")
    assert code == 3, err
    assert "made no progress for 8 seconds" in err
    assert "night resume" in err
    code, result, err = bench.konomi(home, "night", "resume", "--json")
    assert (code, result["state"]) == (0, "finished"), err
    (home / "let-go").touch()  # a call that hangs on would keep `up` for its 35 s of grace
    up.send_signal(signal.SIGTERM)
    assert up.wait(timeout=300) == 0


def test_a_night_uses_the_services_that_run_and_leaves_them_running(bench):
    home = bench.home("attached")
    up = bench.spawn(home, "up", "--json")
    assert json.loads(up.stdout.readline())["generator"]
    before = nights.roles_of(home)
    code, result, err = bench.konomi(home, *bench.start(home))
    assert (code, result["state"]) == (0, "finished"), err
    assert nights.roles_of(home) == before
    up.send_signal(signal.SIGTERM)
    assert up.wait(timeout=300) == 0


def test_plan_says_what_a_night_takes_once_one_was_measured(bench, unbroken):
    home = bench.home("plan")
    code, plan, err = bench.konomi(home, "night", "plan", "converge", "--json")
    assert (code, plan["seconds"], plan["images"]) == (0, None, 16 + 3 * 40), err
    code, plan, err = bench.konomi(unbroken.home, "night", "plan", "converge", "--json")
    assert plan["seconds"] > 0
