"""`kill -9` at random moments of a night, then the same command: the same artifacts as an unbroken night."""

import importlib.util
import json
import os
import random
import time
from pathlib import Path

import pytest

HELPERS = Path(__file__).parents[1] / "loop" / "nights.py"
VICTIMS = ("night", "night", "rater", "generator", "trainer")
SLOW = {"STAND_IN_SECONDS": "0.02"}
ROUNDS = int(os.environ.get("KONOMI_CHAOS_KILLS", "20"))

spec = importlib.util.spec_from_file_location("chaos_nights", HELPERS)
nights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(nights)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = nights.Bench(tmp_path_factory.mktemp("chaos"))
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def unbroken(bench):
    """What an unbroken night leaves behind, and its finished calls."""
    home = bench.home("unbroken")
    code, summary, err = bench.konomi(home, *bench.start(home), **SLOW)
    assert code == 0, err
    return nights.left_behind(home, summary["night"]), nights.calls(home)


def finished_steps(home: Path) -> list[tuple[str, float]]:
    """Returns name and recorded seconds of every finished step; a step that ran again has other seconds."""
    found = list(home.glob("nights/*/night.json"))
    return [(step["name"], step["seconds"]) for step in json.loads(found[0].read_text())["steps"]] if found else []


def strike(home: Path, child, rng: random.Random) -> str:
    """Waits until services run, then a random moment, and kills one process; returns which."""
    deadline = time.monotonic() + 300
    while len(nights.roles_of(home)) < 3 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(rng.uniform(0.0, 5.0))
    victim = rng.choice(VICTIMS)
    pids = {**nights.roles_of(home), "night": child.pid}
    if child.poll() is None and victim in pids:
        nights.kill(pids[victim])
        return victim
    return ""


def night_with_kills(bench, home: Path, rng: random.Random, kills: int):
    """Runs the same command until the night is over, killing something `kills` times; returns the result and kills."""
    struck: list[str] = []
    recorded: dict[str, float] = {}
    for _ in range(4 * kills + 4):
        child = bench.spawn(home, *bench.start(home), **SLOW)
        while len([one for one in struck if one]) < kills and child.poll() is None:
            struck.append(strike(home, child, rng))
            if struck[-1] == "night":
                break
        out, err = child.communicate(timeout=500)
        for name, seconds in finished_steps(home):
            assert recorded.setdefault(name, seconds) == seconds, f"the finished step {name} ran again"
        if child.returncode == 0:
            return json.loads(out.strip().splitlines()[-1]), [one for one in struck if one]
        assert child.returncode in (-9, 3) or "ended by signal SIGKILL" in err, err
    raise AssertionError(f"the night never ended: {struck}")


def check(bench, unbroken, name: str, seed: int, kills: int) -> None:
    home = bench.home(name)
    summary, struck = night_with_kills(bench, home, random.Random(seed), kills)
    expected, calls = unbroken
    assert nights.left_behind(home, summary["night"]) == expected
    done = nights.calls(home)
    assert set(done) == set(calls)
    assert len(done) <= len(calls) + len(struck), "more was repeated than the step each kill interrupted"
    assert sum(line.startswith("train") for line in done) == sum(line.startswith("train") for line in calls)
    assert not nights.roles_of(home), "a service outlived its night"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_few_kills(bench, unbroken, seed):
    check(bench, unbroken, f"few-{seed}", seed, 2)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(100, 100 + ROUNDS // 2))
def test_many_kills(bench, unbroken, seed):
    check(bench, unbroken, f"many-{seed}", seed, 2)
