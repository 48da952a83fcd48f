"""Which drafts are drawn again, and nights that draw their pools as drafts first."""

import json
import math
import sqlite3
import statistics

import pytest

from konomi.night import budgets
from konomi.night.drafts import choose, redrawn_share
from konomi.night.draws import Draw, Turn
from konomi.night.guards import PRESSURE_MARGIN
from konomi.night.systems.registry import night_settings
from tests.client.night.nights import calls
from tests.client.night.stand_in_store import colour


def turn(tmp_path, **fields) -> Turn:
    settings = night_settings()(home=tmp_path, **fields.pop("settings", {}))
    return Turn(
        **({"seed": 3, "unit": 1, "position": 1, "prompts": ["a"], "budget_nats": 6.0} | fields), settings=settings
    )


POOL = [Draw(f"prompt {n % 5}", n, "base" if n < 20 else "served") for n in range(40)]


def test_the_best_within_their_prompts_are_drawn_again_and_some_of_the_base_by_lot(tmp_path):
    bounds = [10 * (n % 5) + n / 100 for n in range(40)]  # one prompt is liked best by far
    choice = choose(POOL, bounds, turn(tmp_path, budget_nats=100.0))
    best, lots = choice.places[-10:], choice.places[:-10]
    assert best == tuple(range(30, 40)), "a quarter of forty: the two best of each prompt"
    assert len(lots) == 4 and all(POOL[place].origin == "base" for place in lots), "a quarter of the set they anchor"
    assert choice.nats == pytest.approx(math.log(40 / 10))
    assert choice == choose(POOL, bounds, turn(tmp_path, budget_nats=100.0))
    others = {choose(POOL, bounds, turn(tmp_path, budget_nats=100.0, unit=unit)).places for unit in range(1, 6)}
    assert len(others) > 1, "another unit, another lot"


def test_what_is_no_number_is_never_chosen_and_no_quota_takes_the_best(tmp_path):
    bounds = [float(n) for n in range(40)]
    bounds[39] = math.nan
    free = turn(tmp_path, budget_nats=100.0, settings={"prompt_quota": 0.0, "base_share": 0.0})
    assert choose(POOL, bounds, free).places == tuple(range(29, 39))


def test_the_pressure_of_a_night_is_never_spent_on_drafts_alone(tmp_path):
    for units, spent in ((1, 0.0), (3, 0.0), (3, 4.0), (3, 6.0)):
        now = turn(tmp_path, spent_nats=spent, settings={"units": units, "redrawn_share": 0.05})
        share, left = redrawn_share(now), PRESSURE_MARGIN * 6.0 - spent
        assert -math.log(share) * units <= max(left, 0.0) + 1e-9
    assert redrawn_share(turn(tmp_path, spent_nats=6.0)) == 1.0
    assert redrawn_share(turn(tmp_path, budget_nats=100.0)) == 0.25


def test_a_plan_counts_drafts_and_what_is_drawn_again(tmp_path):
    rates = {"generate": 10.0, "draft": 1.0, "evaluate": 10.0, "train": 1.0, "rest": 0.0}
    full, drafted = (
        budgets.forecast(
            night_settings()(home=tmp_path, units=1, images=100, evaluation_images=8, steps=1, draft=draft), rates, None
        )
        for draft in ("off", "on")
    )
    assert full.images == 100 + 16 and drafted.images == 100 + 25 + 9 + 16
    assert full.seconds - drafted.seconds == 1000 - (100 + 340)
    golden = budgets.forecast(night_settings()(home=tmp_path, units=1, draft="on"), rates, None, "longtail:1")
    assert golden == budgets.forecast(night_settings()(home=tmp_path, units=1), rates, None, "longtail:1")


def night(bench, home, draft: str, **environment: str):
    start = list(bench.start(home))
    start[start.index("--units") + 1] = "1"
    return bench.konomi(home, *start, KONOMI_NIGHT_DRAFT=draft, KONOMI_NIGHT_SERVED_SHARE="1.0", **environment)


def test_a_drafted_night_trains_and_is_evaluated_on_what_was_drawn_in_full(bench):
    home = bench.home("drafted")
    code, result, err = night(bench, home, "on")
    assert (code, result["state"]) == (0, "finished"), err
    lines = (home / "nights" / result["night"] / "steps.jsonl").read_text().splitlines()
    kept = {line["step"]: line["envelope"]["value"] for line in map(json.loads, lines)}
    drafts = [digest for name, value in kept.items() if "/draft-" in name for digest in value["digests"]]
    rating = kept["unit-1/rate"]
    redrawn = [value for name, value in kept.items() if "/generate-" in name]
    assert len(drafts) == rating["considered"] == 24
    assert [digest for value in redrawn for digest in value["drafts"]] == [drafts[n] for n in rating["places"]]
    images = {
        row[0] for row in sqlite3.connect(home / "databases" / "stand-in-images.sqlite").execute("SELECT k FROM t")
    }
    assert images == {digest for value in redrawn for digest in value["digests"]}, "the taste never knows a draft"
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    unit = state["units"][1]
    manifest = json.loads((home / "artifacts" / unit["selection"]["manifest"]).read_bytes())
    trained = {item["digest"] for item in manifest["items"]}
    assert trained <= images and not (trained | set(unit["evaluation"])) & set(drafts)
    assert unit["selection"]["considered"] == len(images), "the choice weighs what was drawn in full, each rated anew"
    red = {
        digest: colour((home / "artifacts" / digest).read_bytes())[0] / 255
        for digest in (*drafts, *images, *unit["evaluation"])
    }
    again = [(red[f], red[d]) for one in redrawn for f, d in zip(one["digests"], one["drafts"], strict=True)]
    assert all(0 <= full - draft <= 0.025 for full, draft in again) and any(full > draft for full, draft in again)
    utility = 1 + 4 * statistics.fmean(red[digest] for digest in unit["evaluation"])
    assert unit["scores"]["utility"]["value"] == pytest.approx(utility), "the unit is worth what it draws in full"
    assert (unit["drafts"], unit["images"]) == (24, 24 + len(images) + len(unit["evaluation"]))
    assert unit["selection"]["nats"] == pytest.approx(
        unit["draft_nats"] + math.log(len(images) / unit["selection"]["n"])
    )
    assert state["nats"] == pytest.approx(unit["selection"]["nats"]) and unit["draft_nats"] > 0
    done = calls(home)
    assert sum(line.startswith("redraw") for line in done) == len(images)
    assert sum(int(line.split()[-1]) for line in done if line.startswith("draft ")) == 24


def test_once_a_unit_is_served_it_draws_drafts_and_what_is_drawn_again(bench):
    home = bench.home("drafted-twice")
    environment = {"KONOMI_NIGHT_DRAFT": "on", "KONOMI_NIGHT_SERVED_SHARE": "0.5"}
    code, result, err = bench.konomi(home, *bench.start(home), **environment)
    assert (code, result["state"]) == (0, "finished"), err
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    assert state["units"][1]["decision"] == "promote", "the second unit's pool is half its own"
    lines = (home / "nights" / result["night"] / "steps.jsonl").read_text().splitlines()
    kept = {line["step"]: line["envelope"]["value"] for line in map(json.loads, lines)}
    pool = {
        digest for name, value in kept.items() if name.startswith("unit-2/generate-") for digest in value["digests"]
    }
    rows = sqlite3.connect(home / "databases" / "stand-in-images.sqlite").execute("SELECT k, v FROM t").fetchall()
    units = {json.loads(value)["unit"] for key, value in rows if key in pool}
    assert len(units) == 2 and "base" in units


def test_without_the_adapter_on_says_so_and_auto_draws_in_full(bench):
    home = bench.home("undrafted")
    (home / "no-few-step").touch()
    code, _, err = night(bench, home, "on")
    assert code != 0 and "Drafts need a few-step adapter." in err
    (home / "nights").rename(home / "nights-before")
    code, result, err = night(bench, home, "auto")
    assert (code, result["state"]) == (0, "finished"), err
    assert not any(line.startswith("draft ") for line in calls(home))
