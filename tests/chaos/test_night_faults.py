"""The fault matrix of a night: killed at every step's boundary, disk full, corrupt artifacts, numbers that are none.

Each ends cleanly or goes on to the same artifacts as an unbroken night. A hanging generator and a dead receiver are in
`tests/loop` (test_night, test_notification); kills at random moments in test_night_kills, and how long a resumed night
takes to its first step; another version's night in test_night_upgrade.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.armed import SIDES, arm, ran
from tests.client.night import nights

MOST_STEPS = 60
SIGKILLED = -9
INTERRUPTED = ("inside", "returned")
"""Sides of a boundary at which a step was begun and is not on record: it alone runs again."""

UNRECORDED = ("before", *INTERRUPTED)
"""Sides of a boundary at which a step is not on record yet."""

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = nights.Bench(tmp_path_factory.mktemp("faults"))
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def unbroken(bench):
    """What an unbroken night leaves behind, and its finished calls."""
    home = bench.home("unbroken")
    code, summary, err = bench.konomi(home, *bench.start(home))
    assert code == 0, err
    return nights.left_behind(home, summary["night"]), nights.calls(home)


def killed_at(bench, home: Path, boundary: str) -> bool:
    """Runs the night's command until it kills itself at a boundary; says whether it did, else the night is over."""
    child = bench.spawn(home, *bench.start(home), before=arm, BOUNDARY=boundary, RAN=str(home / "ran.log"))
    _, err = child.communicate(timeout=500)
    assert child.returncode in (SIGKILLED, 0), err
    return child.returncode == SIGKILLED


def recorded(home: Path) -> list[str]:
    """Returns the names of the steps dbos has on record, in their order."""
    database = sqlite3.connect(home / "databases" / "night.sqlite")
    try:
        return [
            name for (name,) in database.execute("SELECT function_name FROM operation_outputs ORDER BY function_id")
        ]
    finally:
        database.close()


def finish(bench, home: Path, expected: dict) -> None:
    """Runs the same command to its end and holds what it left against an unbroken night."""
    code, summary, err = bench.konomi(home, *bench.start(home))
    assert (code, summary["state"]) == (0, "finished"), err
    assert nights.left_behind(home, summary["night"]) == expected
    assert not nights.roles_of(home), "a service outlived its night"


@pytest.mark.chaos
@pytest.mark.parametrize("side", SIDES)
def test_killed_at_every_boundary_of_every_step(bench, unbroken, side, tell):
    home = bench.home(f"every-{side}")
    expected, calls = unbroken
    kills = 0
    while killed_at(bench, home, f"{side}:{kills + 1}"):
        kills += 1
        kept = recorded(home)
        assert kept == expected["steps"][: kills - (side in UNRECORDED)], "a finished step is not on record"
        assert kills <= MOST_STEPS
    assert kills == len(expected["steps"])
    (night,) = home.glob("nights/*/night.json")
    assert nights.left_behind(home, night.parent.name) == expected
    runs = Counter(name for _, name in ran(home))
    twice = 2 if side in INTERRUPTED else 1
    assert runs == dict.fromkeys(expected["steps"], twice), "a finished step ran again"
    done = nights.calls(home)
    assert set(done) == set(calls)
    assert len(done) - len(calls) <= (kills if side in INTERRUPTED else 0)
    assert len([line for line in done if line.startswith("train")]) == 2, "a unit was trained twice"
    assert not nights.roles_of(home), "a service outlived its night"
    tell(f"killed {side}: {kills} of {kills} steps, equal to the unbroken night")


@pytest.mark.chaos
def test_killed_with_its_unit_trained_and_not_yet_recorded_a_night_trains_no_other(bench, unbroken):
    home = bench.home("trained")
    expected, calls = unbroken
    assert killed_at(bench, home, "inside:unit-1/train")
    finish(bench, home, expected)
    done = nights.calls(home)
    assert [line for line in done if line.startswith("train")] == [line for line in calls if line.startswith("train")]


def manifest_in(home: Path) -> Path:
    """Returns the file of the only manifest."""
    (found,) = [path for path in (home / "artifacts").iterdir() if b"konomi.manifest/1" in path.read_bytes()]
    return found


@pytest.mark.chaos
def test_a_corrupt_artifact_interrupts_with_its_digest_and_its_return_lets_the_night_go_on(bench, unbroken):
    home = bench.home("corrupt")
    assert killed_at(bench, home, "before:unit-1/score")
    manifest = manifest_in(home)
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    code, _, err = bench.konomi(home, *bench.start(home))
    assert code in (1, 4), err
    assert f"expected bytes with the digest {manifest.name}" in err
    assert "Traceback" not in err
    manifest.write_bytes(whole)
    finish(bench, home, unbroken[0])


@pytest.mark.chaos
@pytest.mark.parametrize("sealed", [True, False])
def test_a_changed_request_is_noticed_before_anything_runs(bench, unbroken, sealed):
    home = bench.home(f"changed-{sealed}")
    assert killed_at(bench, home, "before:unit-1/select")
    (request,) = home.glob("nights/*/request.json")
    whole = request.read_text()
    request.write_text(whole.replace('"seed": 7', '"seed": 8'))
    if sealed:  # the copy is the request
        finish(bench, home, unbroken[0])
        assert request.read_text() == whole
        return
    request.with_name("request.seal").unlink()
    before = nights.calls(home)
    code, _, err = bench.konomi(home, "night", "resume", "--json")
    assert code in (1, 4), err
    assert "request.json was changed" in err
    assert nights.calls(home) == before
    request.write_text(whole)
    finish(bench, home, unbroken[0])


def test_a_loss_that_is_no_number_halts_on_what_was_served(bench):
    home = bench.home("nan-loss")
    code, result, err = bench.konomi(home, *bench.start(home), STAND_IN_LOSS="nan")
    assert code == 5, err
    assert (result["state"], result["reason"]["name"]) == ("halted", "training_failed")
    assert "the loss was not a number" in result["reason"]["sentence"]
    assert result["served"] == {"unit": 0, "model": "base"}
    moves = sqlite3.connect(home / "databases" / "stand-in-moves.sqlite").execute("SELECT count(*) FROM t")
    assert moves.fetchone() == (0,)


@pytest.mark.chaos
def test_scores_that_are_no_numbers_halt_on_what_was_served(bench):
    home = bench.home("nan-score")
    code, result, err = bench.konomi(home, *bench.start(home), STAND_IN_SHIFT="0.9", STAND_IN_SCORE="nan")
    assert code == 5, err
    assert (result["state"], result["reason"]["name"]) == ("halted", "not_finite")
    assert result["served"] == {"unit": 0, "model": "base"}
    json.loads((home / "nights" / result["night"] / "night.json").read_text(), parse_constant=pytest.fail)


@contextlib.contextmanager
def small_disk(folder: Path, size: str):
    """Mounts a small filesystem of its own in memory; only root may."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "konomi-test", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("this user may not mount a small filesystem")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.chaos
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small filesystem")
@pytest.mark.parametrize("free_kib", [64, 256, 512, 768])
def test_a_truly_full_disk_ends_cleanly_and_room_lets_the_same_command_go_on(bench, unbroken, free_kib):
    with small_disk(bench.folder / f"disk-{free_kib}", "24m") as folder:
        home = bench.home(folder.name)
        left = shutil.disk_usage(folder).free - 1024 * free_kib
        (folder / "ballast").write_bytes(b"\0" * left)
        code, _, err = bench.konomi(home, *bench.start(home))
        assert code not in (0, 5, SIGKILLED), err
        assert "Traceback" not in err
        assert any(words in err for words in ("No space left", "full", "disk")), err
        assert not nights.roles_of(home)
        (folder / "ballast").unlink()
        finish(bench, home, unbroken[0])
