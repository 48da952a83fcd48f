"""A night whose services work on a Ray cluster, on the real bundled models, and the head of that cluster dies twice.

The head is the machine that draws, embeds and trains, too. Once it is back within minutes, and the night goes on by
itself; once it stays away, and `konomi night resume` goes on. What is made is what an undisturbed night makes.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.armed import ran
from tests.chassis.cluster.lost_head import free_port, kill_head, on_cluster
from tests.chassis.cluster.ray_cluster import ray_place

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

SMALL = {
    "KONOMI_DEMO_REFERENCE": "20",
    "KONOMI_DEMO_POOL": "64",
    "KONOMI_NIGHT_IMAGES": "24",
    "KONOMI_NIGHT_EVALUATION_IMAGES": "16",
    "KONOMI_NIGHT_CHUNK": "8",
    "KONOMI_NIGHT_STEPS": "60",
    "KONOMI_NIGHT_RESERVE_GIB": "0",
    "KONOMI_NIGHT_AWAY_SECONDS": "90",
    "KONOMI_THREADS": "1",
    "LANG": "C.UTF-8",
}
NIGHT = ("night", "start", "converge", "--units", "1", "--seed", "7", "--json")
PLAIN = "from konomi.cli import main; main()"
ARMED = "from tests.chaos.armed import arm; arm(); " + PLAIN
EVERYWHERE = {"executor": "ray", "embed_executor": "ray", "train_executor": "ray"}


def konomi(home: Path, *arguments: str, code: str = PLAIN, environment: dict[str, str] | None = None):
    """Starts `konomi ARGUMENTS` on a home."""
    more = {**SMALL, "KONOMI_HOME": str(home), "RAN": str(home / "ran.log")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, env=(environment or dict(os.environ)) | more, **pipes)


def said(process: subprocess.Popen) -> tuple[int, str, str]:
    """Waits for the end; returns the code, the last line and what was said for people."""
    out, err = process.communicate(timeout=900)
    return process.returncode, (out.strip().splitlines() or [""])[-1], err


def made(home: Path, night: str) -> dict:
    """Returns what a night left that is the same, bit for bit, wherever and however often it was tried.

    Scores are not: an image that is only scored is embedded beside whatever else is, and may differ in the last digits.
    """
    state = json.loads((home / "nights" / night / "night.json").read_text())
    names = ("unit", "adapter", "evaluation", "decision", "promoted")
    units = [{name: unit.get(name) for name in names} for unit in state["units"]]
    for one, unit in zip(units, state["units"], strict=True):
        one["manifest"] = unit.get("selection", {}).get("manifest")
    steps = [step["name"] for step in state["steps"]]
    return {"units": units, "steps": steps, **{name: state[name] for name in ("state", "reason", "served")}}


def until(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert process.poll() is None, said(process)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def at_work(home: Path, step: str) -> bool:
    """Says whether some of a step of the newest night is done."""
    for path in home.glob("nights/*/progress.json"):
        beat = json.loads(path.read_text())
        return beat["step"].endswith(step) and beat["done"] > 0
    return False


def test_a_night_outlives_the_head_and_goes_on_by_itself_or_when_it_is_asked_to(tmp_path: Path) -> None:
    home, alone = tmp_path / "ray", tmp_path / "local"
    demo = konomi(home, "demo", "--seed", "1", "--labels", "40", "--images", "24", "--units", "1", "--home", str(home))
    assert said(demo)[0] == 0
    for path in home.glob("nights/*/progress.json"):
        path.unlink()
    shutil.copytree(home, alone)
    code, line, err = said(konomi(alone, *NIGHT))
    assert code == 0, err
    night, port = json.loads(line)["night"], free_port()
    settings, cores = on_cluster(port, **EVERYWHERE), {"gcs_server_port": port, "num_cpus": 2}
    with ray_place(0, **cores) as place:
        process = konomi(home, *NIGHT, code=ARMED, environment=settings)
        until(lambda: at_work(home, "/generate-000"), process)
        kill_head(place)
        place.cluster.shutdown()
        until(lambda: "CLUSTER_AWAY" in (home / "logs" / "generator.log").read_text(), process)
    with ray_place(0, **cores) as place:
        until(lambda: bool(list(home.glob("checkpoints/*/shared.json"))), process)
        kill_head(place)
    code, _, err = said(process)
    assert code == 3 and "The head of the Ray cluster is away. Start it with `ray start --head`" in err, err
    assert err.count("The night asks again every minute, for up to 2 minutes.") == 1, "said once, as it waits"
    state = json.loads((home / "nights" / night / "night.json").read_text())
    assert state["state"] == "interrupted" and "head of the Ray cluster is away" in json.dumps(state["reason"])
    begun = [name for _, name in ran(home)]
    code, _, err = said(konomi(home, "night", "resume", "--json", environment=settings))
    assert code != 0 and "There is no Ray cluster at" in err and "Start one with `ray start --head`" in err, err
    with ray_place(0, **cores):
        code, line, err = said(konomi(home, "night", "resume", "--json", code=ARMED, environment=settings))
        assert code == 0, err
    again = [name for _, name in ran(home)][len(begun) :]
    (training,) = {name for name in begun if name.endswith("/train")}
    assert set(begun) & set(again) == {training}, "the step in flight, and no other"
    assert made(home, json.loads(line)["night"]) == made(alone, night)
