"""Which checkpoint of a fit is kept: the choice, what is drawn for it, and a golden night that stops early."""

import json
import sqlite3

import pytest

from konomi.night.records.state import Fit
from konomi.night.settings import NightSettings
from konomi.night.systems import checkpoints, golden
from konomi.night.systems.checkpoints import Probe, RunCheckpoints
from konomi.night.systems.golden import GoldenSettings
from konomi.v1 import rater_pb2


def probe(step: int, wins: float, vendi: float = 0.9) -> Probe:
    return Probe(step=step, wins={"value": wins}, vendi=vendi)


@pytest.mark.parametrize(
    ("probes", "step"),
    [
        ([probe(40, 0.6), probe(80, 0.9), probe(160, 0.8)], 80),
        ([probe(40, 0.8), probe(80, 0.8), probe(160, 0.8)], 40),  # of equal ones the earliest
        ([probe(40, 0.7, 0.66), probe(80, 0.9, 0.5), probe(160, 0.9, 0.6)], 40),  # what wins most is too alike
        ([probe(40, 0.6, 0.5), probe(80, 0.9, 0.6), probe(160, 0.95, 0.4)], 80),  # all are: the most diverse
        ([probe(160, 0.2, 0.1)], 160),
    ],
)
def test_the_one_that_wins_most_and_stays_diverse_is_kept(probes, step):
    assert checkpoints.chosen(probes, 0.65).step == step


def test_four_are_looked_at_the_last_among_them():
    steps = tuple(range(20, 161, 20))
    assert checkpoints.spread(RunCheckpoints(steps=steps, adapters=tuple(map(str, steps)))).steps == (40, 80, 120, 160)
    assert checkpoints.spread(RunCheckpoints(steps=(5, 9), adapters=("a", "b"))).steps == (5, 9)
    assert checkpoints.spread(RunCheckpoints()) == RunCheckpoints()
    assert [checkpoints.every(NightSettings(steps=steps)) for steps in (160, 10, 1)] == [40, 3, 1]


def test_what_it_takes_is_counted_and_can_be_left_out():
    assert golden.probes(GoldenSettings()) == 5 * 32
    assert golden.hyper_parameters(GoldenSettings(steps=160))["checkpoint_steps"] == 40
    off = GoldenSettings(steps=160, golden_probes=0)
    assert golden.probes(off) == 0 and "checkpoint_steps" not in golden.hyper_parameters(off)


class Alone:
    """A night whose steps must not be asked for anything."""

    steps = None


@pytest.mark.parametrize(("fit", "images"), [(Fit(model="m", failed="it broke"), 8), (Fit(model="m"), 0)])
def test_a_fit_that_failed_or_is_not_looked_at_is_left_as_it_is(fit, images):
    assert checkpoints.settle(Alone(), 1, fit, images, 0.65) is fit


def graded_ur(home, count: int) -> None:
    images = sqlite3.connect(home / "databases" / "stand-in-images.sqlite")
    labels = sqlite3.connect(home / "databases" / "stand-in-labels.sqlite")
    with images, labels:
        for (digest,) in images.execute("SELECT k FROM t ORDER BY k").fetchall()[:count]:
            labels.execute("INSERT INTO t VALUES (?, ?)", (digest, json.dumps(rater_pb2.GRADE_UR)))


def test_a_golden_night_keeps_the_earliest_checkpoint_that_wins_as_often_as_the_end(bench):
    home = bench.home("golden-stop")
    code, _, err = bench.konomi(home, *bench.start(home, "--units", "1"))
    assert code == 0, err
    graded_ur(home, 9)
    words = ["golden" if word == "converge" else word for word in bench.start(home, "--units", "1")]
    code, result, err = bench.konomi(home, *words, STAND_IN_SHIFT="0.2")
    assert code == 0, err
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    unit = next(unit for unit in state["units"] if unit.get("system") == "golden")
    names = [
        step["name"].partition("/")[2] for step in state["steps"] if step["name"].startswith(f"unit-{unit['unit']}/")
    ]
    probes = ["probe-base", *(f"probe-{step:05d}" for step in (1, 2, 3, 4))]
    assert names[: names.index("stop") + 1] == ["select", "train", "checkpoints", *probes, "stop"]
    assert unit["training"]["stopped_at"] == 2.0, "from half of its steps on the stand-in learns nothing more"
    adapter = json.loads((home / "artifacts" / unit["adapter"]).read_text())
    assert adapter["step"] == 2
    models = sqlite3.connect(home / "databases" / "stand-in-models.sqlite").execute("SELECT v FROM t").fetchall()
    assert unit["adapter"] in {json.loads(about)["adapter"] for (about,) in models}, "the trainer keeps it as the model"
