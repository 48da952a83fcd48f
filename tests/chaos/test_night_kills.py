"""`kill -9` at random moments of a night, then the same command: the same artifacts as an unbroken night.

KONOMI_CHAOS_KILLS (100) moments are drawn from KONOMI_CHAOS_SEED (100): a fourth while services start, the others at
any time of the work; the victim is the night's process or a service. The summary says how many there were, and how long
a resumed night took from its start to its first step.
"""

import json
import os
import random
import sqlite3
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.chaos.armed import arm, ran
from tests.client.night import nights

VICTIMS = ("night", "night", "rater", "generator", "trainer")
SLOW = {"STAND_IN_SECONDS": "0.02"}
KILLS = int(os.environ.get("KONOMI_CHAOS_KILLS", "100"))
SEED = int(os.environ.get("KONOMI_CHAOS_SEED", "100"))
KILLS_A_NIGHT = 8
RESUMED = 12
STARTING = 0.25
"""Share of the kills that strike before the first step."""

pytestmark = pytest.mark.timeout(900)


@dataclass
class Unbroken:
    """An unbroken night: what it leaves behind, its finished calls, and its seconds before and since its first step."""

    left: dict
    calls: list[str]
    starting: float
    working: float


@dataclass
class Struck:
    """What was killed in one night, and the seconds each resumed process took to its first step."""

    victims: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = nights.Bench(tmp_path_factory.mktemp("chaos"))
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def unbroken(bench):
    """An unbroken night."""
    home = bench.home("unbroken")
    begun = time.time()
    child = spawn(bench, home)
    out, err = child.communicate(timeout=500)
    ended = time.time()
    assert child.returncode == 0, err
    first = ran(home)[0][0]
    night = json.loads(out.strip().splitlines()[-1])["night"]
    return Unbroken(nights.left_behind(home, night), nights.calls(home), first - begun, ended - first)


def spawn(bench, home: Path):
    """Starts the night, or goes on with it."""
    return bench.spawn(home, *bench.start(home), before=arm, RAN=str(home / "ran.log"), **SLOW)


def recorded(home: Path) -> set[str]:
    """Returns the names of the steps dbos has on record."""
    path = home / "databases" / "night.sqlite"
    if not path.exists():
        return set()
    database = sqlite3.connect(path)
    try:
        return {name for (name,) in database.execute("SELECT function_name FROM operation_outputs")}
    except sqlite3.OperationalError:  # killed before dbos had made its tables
        return set()
    finally:
        database.close()


def strike(home: Path, child, rng: random.Random, usual: Unbroken) -> str:
    """Waits for a random moment and kills one process; returns which, "" where the night was over before."""
    known = len(ran(home))
    if rng.random() < STARTING:
        time.sleep(rng.uniform(0, usual.starting))
    else:
        deadline = time.monotonic() + 300
        while len(ran(home)) == known and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, usual.working / 2))
    victim = rng.choice(VICTIMS)
    if child.poll() is not None:
        return ""
    if victim == "night":
        child.kill()
        return victim
    pids = nights.roles_of(home)
    if victim in pids:
        nights.kill(pids[victim])
    return victim if victim in pids else ""


def night_with_kills(bench, home: Path, rng: random.Random, kills: int, usual: Unbroken) -> tuple[dict, Struck]:
    """Runs the same command until the night is over, killing something `kills` times; returns its result."""
    struck = Struck()
    for _ in range(4 * kills + 4):
        finished, known, begun = recorded(home), len(ran(home)), time.time()
        child = spawn(bench, home)
        while len(struck.victims) < kills and child.poll() is None:
            victim = strike(home, child, rng, usual)
            struck.victims += [victim] if victim else []
            if victim == "night":
                break
        out, err = child.communicate(timeout=500)
        new = ran(home)[known:]
        assert not finished & {name for _, name in new}, "a finished step ran again"
        struck.waits += [new[0][0] - begun] if new and known else []
        if child.returncode == 0:
            return json.loads(out.strip().splitlines()[-1]), struck
        assert child.returncode in (-9, 3) or "ended by signal SIGKILL" in err, err
    raise AssertionError(f"the night never ended: {struck}")


def check(bench, unbroken: Unbroken, name: str, seed: int, kills: int) -> Struck:
    """Runs a night with kills and holds what it left against the unbroken one."""
    home = bench.home(name)
    summary, struck = night_with_kills(bench, home, random.Random(seed), kills, unbroken)
    assert nights.left_behind(home, summary["night"]) == unbroken.left
    done = nights.calls(home)
    assert set(done) == set(unbroken.calls)
    most = len(unbroken.calls) + len(struck.victims)
    assert len(done) <= most, "more was repeated than the step each kill interrupted"
    assert sum(line.startswith("train") for line in done) == sum(line.startswith("train") for line in unbroken.calls)
    assert not nights.roles_of(home), "a service outlived its night"
    return struck


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.chaos)])
def test_a_few_kills(bench, unbroken, seed):
    check(bench, unbroken, f"few-{seed}", seed, 2)


@pytest.mark.chaos
@pytest.mark.timeout(4 * 3600)
def test_kills_at_random_moments(bench, unbroken, tell):
    victims: list[str] = []
    waits: list[float] = []
    made = 0
    while len(victims) < KILLS:
        left = min(KILLS_A_NIGHT, KILLS - len(victims))
        struck = check(bench, unbroken, f"many-{made}", SEED + made, left)
        victims, waits, made = victims + struck.victims, waits + struck.waits, made + 1
        tell(f"seed {SEED}, night {made}: {len(victims)} kills so far")
    each = ", ".join(f"{victim} {victims.count(victim)}" for victim in dict.fromkeys(VICTIMS))
    tell(f"seed {SEED}: {len(victims)} kills in {made} nights ({each}), every night equal to the unbroken one")
    tell(
        f"resumed {len(waits)} times: {statistics.median(waits):.1f} s from fork to first step (median), "
        f"{max(waits):.1f} s at most"
    )


def seconds_of(pid: int) -> float:
    """Returns the processor seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.chaos
def test_how_long_a_fresh_interpreter_takes_to_the_first_resumed_step(bench, tell):
    home, waits, work = bench.home("resumed"), [], []
    for turn in range(RESUMED + 1):
        begun = time.time()
        child = bench.spawn_cold(home, *bench.start(home), STAND_IN_SECONDS="0.1")
        while not (beats := [beat for beat in home.glob("nights/*/progress.json") if beat.stat().st_mtime > begun]):
            assert child.poll() is None, child.communicate()[1]
            time.sleep(0.005)
        waits += [beats[0].stat().st_mtime - begun] if turn else []
        work += [seconds_of(child.pid)] if turn else []
        time.sleep(0.3)
        child.kill()
        child.communicate()
    low, high = min(waits), max(waits)
    tell(
        f"a fresh interpreter resumed {RESUMED} times: {statistics.median(waits):.1f} s ({low:.1f} to {high:.1f}) from "
        f"process start to the first resumed step; {statistics.median(work):.1f} processor seconds of its own"
    )
