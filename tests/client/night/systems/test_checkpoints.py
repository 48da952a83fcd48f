"""Which checkpoint of a fit is kept: the choice, what is drawn for it, and a golden night that stops early."""

import json
import sqlite3

import pytest
from pydantic import ValidationError

from konomi.night.alarms import sentence
from konomi.night.records.fit import CheckpointChoice, Fit, TriedCheckpoint
from konomi.night.settings import NightSettings
from konomi.night.systems import checkpoints, golden
from konomi.night.systems.checkpoints import RunCheckpoints
from konomi.night.systems.golden import GoldenSettings
from konomi.v1 import rater_pb2


def probe(step: int, wins: float, vendi: float = 0.9) -> TriedCheckpoint:
    return TriedCheckpoint(step=step, wins={"value": wins}, vendi=vendi)


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


@pytest.mark.parametrize(
    ("tried", "name", "said"),
    [
        (
            [probe(40, 0.6), probe(80, 0.9), probe(160, 0.8)],
            "checkpoint_wins",
            "Of unit-2's fit, step 80 of 160 was kept: in the rater's eyes its images won 90 % of the pairs against "
            "the base model's, those of the last step 80 %.",
        ),
        ([probe(40, 0.8), probe(160, 0.8)], "checkpoint_no_better", "and those of the last step no more."),
        (
            [probe(40, 0.7, 0.66), probe(160, 0.9, 0.646)],
            "checkpoint_diverse",
            "the images of the last step were too much alike, with 64.6 % of the base model's diversity, where the "
            "least is 65 %.",
        ),
        ([probe(40, 0.6, 0.5), probe(160, 0.9, 0.4)], "checkpoint_alike", "it had 50 % of the base model's diversity"),
        ([probe(40, 0.6), probe(160, 0.9)], "checkpoint_last", "the last step, 160, was kept: of its 2 checkpoints"),
    ],
)
def test_why_a_checkpoint_was_kept_is_said_in_a_sentence(tried, name, said):
    kept = checkpoints.chosen(tried, 0.65)
    choice = CheckpointChoice(kept=kept.step, steps=160, floor=0.65, tried=tuple(tried))
    alarm = checkpoints.why(2, CheckpointChoice.model_validate(choice.plain()))
    assert alarm.name == name and said in sentence(alarm)
    assert "unit-2" in sentence(alarm, "ja") and sentence(alarm, "ja") != sentence(alarm)


def test_a_choice_of_a_checkpoint_that_was_not_tried_is_a_damaged_record():
    with pytest.raises(ValidationError, match="among those that were tried"):
        CheckpointChoice(kept=3, steps=160, floor=0.65, tried=(probe(160, 0.5),))


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
    told = unit["checkpoints"]
    assert (told["kept"], told["steps"], told["floor"]) == (2, 4, 0.65) and len(told["tried"]) == 4
    assert told["tried"][1]["wins"]["n"] == 32, "the table has an interval by how many images it rests on"
    code, status, err = bench.konomi(home, "night", "status", "--json")
    (line,) = [one for one in status["units"] if one["unit"] == unit["unit"]]
    assert code == 0 and line["checkpoints"] == told, err
    report = (home / "report" / f"{result['night']}.html").read_text()
    number = unit["unit"]
    for said in (
        f"Of unit-{number}&#39;s fit, step 2 of 4 was kept: in the rater&#39;s eyes its images won",
        f"unit-{number} は 4 ステップの学習のうち 2 ステップ目のものです。",
        "Where each fit was stopped",
        "学習をどこで止めたか",
        "2 of 4",
    ):
        assert said in report
    adapter = json.loads((home / "artifacts" / unit["adapter"]).read_text())
    assert adapter["step"] == 2
    models = sqlite3.connect(home / "databases" / "stand-in-models.sqlite").execute("SELECT v FROM t").fetchall()
    assert unit["adapter"] in {json.loads(about)["adapter"] for (about,) in models}, "the trainer keeps it as the model"
