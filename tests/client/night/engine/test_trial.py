"""A base model shows what it draws before a night on a taste made elsewhere, and who starts all the same is told."""

import json
import sqlite3

import pytest

from konomi.errors import NotFound
from konomi.night import metrics
from konomi.night.alarms import sentence
from konomi.night.engine import preparation, trial
from konomi.night.engine.bases import PUBLISHED_LICENCES, licence_of
from konomi.night.gateway.services import NightServices
from konomi.night.guards import GuardSettings
from konomi.night.records import trial as records
from konomi.night.records.store import NightStore
from konomi.night.records.trial import Trial
from konomi.night.systems.registry import night_settings
from konomi.v1 import generator_pb2 as generator
from konomi.v1 import rater_pb2


def request(**changes):
    settings = night_settings()(**changes)
    return preparation.new_request("converge", "tastes/default", 3, settings, GuardSettings(), ["a", "b", "a hat"])


def grade(home, source: int, count: int = 3) -> None:
    """Makes some images of a source known to a home and graded."""
    images = sqlite3.connect(home / "databases" / "stand-in-images.sqlite")
    labels = sqlite3.connect(home / "databases" / "stand-in-labels.sqlite")
    with images, labels:
        for number in range(count):
            about = {"unit": "", "prompt": "mine", "seed": 0, "source": source, "parents": [], "parameters": {}}
            images.execute("INSERT INTO t VALUES (?, ?)", (f"{number:064x}", json.dumps(about)))
            labels.execute("INSERT INTO t VALUES (?, ?)", (f"{number:064x}", json.dumps(rater_pb2.GRADE_SSR)))


@pytest.mark.parametrize(
    ("source", "changes", "needed"),
    [
        (None, {}, False),
        (None, {"base_model": "redder"}, False),
        (rater_pb2.SOURCE_SELF, {}, False),
        (rater_pb2.SOURCE_SELF, {"base_model": "redder"}, True),
        (rater_pb2.SOURCE_IMPORTED, {}, True),
        (rater_pb2.SOURCE_CONSENTED, {}, True),
    ],
)
def test_a_trial_is_made_of_a_base_model_that_made_none_of_what_is_graded(hands, source, changes, needed):
    if source is not None:
        grade(hands.home, source)
    gateway = NightServices(hands, "tastes/default")
    assert trial.needed(gateway, request(**changes), NightStore(hands.home)) is needed


@pytest.mark.parametrize(("near", "far"), [("0.0", True), ("0.25", True), ("0.5", False), ("0.95", False)])
def test_a_trial_is_held_against_the_likes_and_made_once(hands, near, far):
    (hands.home / "near-liked").write_text(near)
    gateway, beats = NightServices(hands, "tastes/default"), []
    tried = trial.look(gateway, request(), hands.home, lambda *beat: beats.append(beat))
    assert len(tried.digests) == len(tried.prompts) == trial.IMAGES and set(tried.prompts) == {"a", "b", "a hat"}
    assert tried.far is far and (trial.warning(tried) is not None) is far
    assert tried.near_liked["value"] == pytest.approx(float(near), abs=0.05)
    assert len(beats) == trial.IMAGES
    again = trial.look(gateway, request(), hands.home, lambda *beat: beats.append(beat))
    assert again == tried and len(beats) == trial.IMAGES, "the same question has its answer kept"
    other = trial.look(gateway, request(base_model="redder"), hands.home, lambda *beat: None)
    assert other.digests != tried.digests


def test_where_too_little_is_graded_nothing_is_claimed(hands):
    tried = trial.look(NightServices(hands, "tastes/default"), request(), hands.home, lambda *beat: None)
    assert (tried.graded_n, tried.far, trial.warning(tried)) == (0, False, None)
    assert trial.figures(tried) == ["too little is graded to say whether starter can draw this taste"]


def test_the_warning_is_one_plain_sentence_and_its_numbers_follow():
    share = metrics.share(1, 16)
    tried = Trial(base="sdxl", digests=("a",) * 16, graded_n=50, near_liked=share, typical=share, far=True)
    words = sentence(trial.warning(tried))
    assert words.startswith(
        "The base model sdxl cannot draw this taste: of 16 trial images at the night's prompts 6 % "
    )
    assert trial.figures(tried)[1].startswith("as near to a picture you liked as is usual: 6 % (1 % to 28 %)")


def test_a_kept_trial_that_is_damaged_is_none(tmp_path):
    records.keep(tmp_path / "t.json", Trial(base="x"))
    assert records.read(tmp_path / "t.json") == Trial(base="x")
    (tmp_path / "t.json").write_text("{")
    assert records.read(tmp_path / "t.json") is None and records.read(tmp_path / "gone.json") is None


def test_a_base_model_that_is_not_here_is_refused_with_those_that_are(hands):
    with pytest.raises(NotFound, match="there is no base model sdxl here; at hand: redder, starter") as caught:
        preparation.complete_request(request(base_model="sdxl"), hands, NightStore(hands.home))
    assert caught.value.reason == "BASE_NOT_FOUND"


def payloads(home) -> dict[str, dict]:
    """Returns what each step of the newest night of a home recorded; a step of several nights is the newest one's."""
    with sqlite3.connect(home / "databases" / "night.sqlite") as database:
        rows = database.execute(
            "SELECT o.function_name, o.output FROM operation_outputs AS o JOIN workflow_status AS w "
            "ON w.workflow_uuid = o.workflow_uuid ORDER BY w.created_at, o.function_id"
        ).fetchall()
    return {name: json.loads(output)["value"] for name, output in rows if output}


def test_a_night_on_a_base_that_cannot_draw_the_taste_is_refused_or_started_all_the_same(bench):
    home = bench.home("far")
    code, _, err = bench.konomi(home, *bench.start(home, "--units", "1", "--base", "redder"))
    assert code == 0, err
    (home / "near-liked").write_text("0.0")
    images = sqlite3.connect(home / "databases" / "stand-in-images.sqlite")
    with images:
        first, about = images.execute("SELECT k, v FROM t").fetchone()
        mine = json.loads(about) | {"source": rater_pb2.SOURCE_IMPORTED}
        images.execute("UPDATE t SET v = ? WHERE k = ?", (json.dumps(mine), first))
    with sqlite3.connect(home / "databases" / "stand-in-labels.sqlite") as labels:
        labels.execute("INSERT INTO t VALUES (?, ?)", (first, json.dumps(rater_pb2.GRADE_UR)))
    start = bench.start(home, "--units", "1", "--base", "redder", "--seed", "9")
    only = {"KONOMI_GUARD_OFF": '["diversity", "coverage"]'}  # of few stand-in pictures they say nothing here
    code, _, err = bench.konomi(home, *start, **only)
    assert code == 4, err
    assert "The base model redder cannot draw this taste" in err and "start all the same with --anyway" in err
    code, result, err = bench.konomi(home, *start, "--anyway", **only)
    assert (code, result["state"]) == (0, "finished"), err
    assert "cannot draw this taste" in err
    kept = NightStore(home).trial(result["night"])
    assert kept is not None and kept.far and len(kept.digests) == trial.IMAGES
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    assert not any(unit.get("promoted") for unit in state["units"] if unit["unit"] == 2), "far from every like"
    assert "far_from_liked" in {unit["reason"]["name"] for unit in state["units"] if "reason" in unit}
    recorded = payloads(home)
    each = [recorded[f"unit-{unit}/score"]["p_ssrs"] for unit in (2, 0)]
    gain = recorded["unit-2/judge"]["numbers"]["ssr_gain_low"]
    assert gain == pytest.approx(metrics.paired_gain(*each)["low"]), "pair by pair, of equal prompt and seed"


def test_a_plan_shows_the_trial_and_where_its_images_are(bench):
    home = bench.home("plan")
    (home / "near-liked").write_text("0.95")
    prompts = ("--prompts", str(home / "prompts.txt"))
    code, plan, err = bench.konomi(home, "night", "plan", "converge", "--trial", *prompts, "--json")
    assert code == 0, err
    assert plan["trial"]["base"] == "starter" and plan["trial"]["far"] is False
    assert len(list((home / "trials" / "starter").glob("*.png"))) == trial.IMAGES


@pytest.mark.parametrize(
    ("id", "layout", "licence"),
    [
        ("starter", "SD1", "Apache-2.0"),
        ("sdxl", "SDXL", "CreativeML Open RAIL++-M"),
        ("mine", "SDXL", ""),
        ("mine", "FLUX1", "its family as published: FLUX.1 [dev] non-commercial, [schnell] Apache-2.0"),
        ("mine", "FLUX2_KLEIN", "its family as published: 4B Apache-2.0, 9B non-commercial"),
        ("mine", "QWEN_IMAGE", "its family as published: Apache-2.0"),
    ],
)
def test_a_licence_is_a_models_own_or_its_familys(id: str, layout: str, licence: str) -> None:
    model = generator.BaseModel(id=id, layout=generator.ModelLayout.Value(f"MODEL_LAYOUT_{layout}"))
    assert licence_of(model) == licence


def test_every_family_that_follows_a_flow_has_its_licence() -> None:
    names = {name.removeprefix("MODEL_LAYOUT_") for name in generator.ModelLayout.keys()}  # noqa: SIM118
    assert names - {"UNSPECIFIED", "SD1", "SD2", "SDXL"} == set(PUBLISHED_LICENCES)
