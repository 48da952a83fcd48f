"""What a night will take: forecast from one measured night, and near what another then takes."""

import json
from pathlib import Path

import pytest

from konomi.cli.night.plan import forecast_lines
from konomi.files import write_json
from konomi.night import budgets
from konomi.night.alarms import sentence
from konomi.night.budgets import forecast, mean_bytes, measured
from konomi.night.records.state import NightState, UnitRecord
from konomi.night.records.store import NightStore
from konomi.night.systems.registry import night_settings


def test_the_rates_are_those_of_the_newest_measured_night(tmp_path):
    nights = NightStore(tmp_path)
    steps = [
        ("plan", 2.0, 0),
        ("unit-0/evaluate-000", 16.0, 16),
        ("unit-0/score", 3.0, 0),
        ("unit-1/generate-000", 24.0, 12),
        ("unit-1/generate-001", 12.0, 12),
        ("unit-1/select", 1.0, 0),
        ("unit-1/train", 50.0, 0),
        ("unit-1/evaluate-000", 16.0, 16),
        ("unit-1/judge", 4.0, 0),
    ]
    unmeasured = steps[:4]
    for number, some in enumerate((steps, unmeasured)):
        night = f"night-{number}"
        fields = {"id": night, "asked": "", "taste": "tastes/default", "system": "converge", "seed": 0, "prompts": []}
        write_json(
            nights.folder / night / "request.json",
            fields | {"evaluation_prompts": [], "settings": {"steps": 100}, "guards": {}},
        )
        state = {
            "state": "finished",
            "units": [],
            "steps": [{"name": n, "seconds": s, "images": i} for n, s, i in some],
        }
        nights.write(night, state)
    assert measured(nights) == {"generate": 1.5, "evaluate": 1.0, "train": 0.5, "rest": 10.0}


def test_only_nights_of_the_same_base_say_what_one_on_it_takes(tmp_path):
    nights = NightStore(tmp_path)
    for night, base, seconds in (("night-0", "sdxl", 90.0), ("night-1", "starter", 10.0)):
        fields = {"id": night, "asked": night, "taste": "tastes/default", "system": "converge", "seed": 0}
        more = {"prompts": [], "evaluation_prompts": [], "settings": {"steps": 10, "base_model": base}, "guards": {}}
        write_json(nights.folder / night / "request.json", fields | more)
        steps = [("unit-1/generate-000", 10), ("unit-1/evaluate-000", 10), ("unit-1/train", 0)]
        told = [{"name": name, "seconds": seconds, "images": images} for name, images in steps]
        nights.write(night, {"state": "finished", "units": [], "steps": told})
    assert measured(nights, "sdxl")["generate"] == 9.0 and measured(nights, "starter")["generate"] == 1.0
    assert measured(nights) == measured(nights, "starter") and measured(nights, "sd15") == {}


def test_price_and_power_are_counted_where_they_are_given(tmp_path):
    settings = night_settings()(
        home=tmp_path, units=2, images=100, evaluation_images=50, steps=10, hour_price=2.0, watts=300
    )
    rates = {"generate": 9.0, "evaluate": 6.0, "train": 3.0, "rest": 30.0}
    found = forecast(settings, rates, 1000.0)
    assert found.images == 2 * 100 + 3 * 50
    assert found.seconds == 200 * 9 + 150 * 6 + 20 * 3 + 2 * 30
    assert found.gpu_hours == (200 * 9 + 150 * 6 + 20 * 3) / 3600, "what is left works without the accelerator"
    assert found.cost == found.seconds / 3600 * 2.0
    assert found.kwh == found.seconds / 3600 * 0.3
    assert found.disk_bytes == 350_000


def test_nothing_is_invented_where_nothing_was_measured(tmp_path):
    found = forecast(
        night_settings()(home=tmp_path), measured(NightStore(tmp_path)), mean_bytes(tmp_path / "artifacts")
    )
    assert [getattr(found, key) for key in ("seconds", "gpu_hours", "cost", "kwh", "disk_bytes")] == [None] * 5


RECORDED = json.loads((Path(__file__).parent / "engine" / "measured_nights.json").read_text())
"""What every step of four real nights took, with the bundled models on two cores (2026-11-22)."""


@pytest.mark.parametrize("night", range(len(RECORDED)))
def test_after_one_measured_unit_the_forecast_of_a_real_night_is_within_a_fifth(tmp_path, night):
    told = RECORDED[night]
    first = [name for name, _, _ in told["steps"]].index("unit-1/judge") + 1
    steps = [{"name": name, "seconds": seconds, "images": images} for name, seconds, images in told["steps"][:first]]
    nights = NightStore(tmp_path)
    fields = {"id": "n", "asked": "", "taste": "tastes/default", "system": "converge", "seed": 0, "prompts": []}
    request = fields | {"evaluation_prompts": [], "settings": told["settings"], "guards": {}}
    write_json(nights.folder / "n" / "request.json", request)
    nights.write("n", {"state": "stopped", "units": [], "steps": steps})
    found = forecast(night_settings()(home=tmp_path, **told["settings"]), measured(nights), None)
    assert found.seconds == pytest.approx(told["seconds"], rel=0.2)


def test_each_budget_ends_a_night_between_two_steps_with_its_own_sentence(tmp_path):
    settings = night_settings()(
        home=tmp_path, budget_hours=2, budget_images=100, budget_gpu_hours=1, budget_disk_gib=0.5, hour_price=0
    )
    state = NightState()
    state = budgets.note(state, "plan", {"seconds": 5.0, "stored": 1000}, 0)
    state = budgets.note(state, "unit-1/generate-000", {"seconds": 60.0, "stored": 4000}, 60)
    state = budgets.note(state, "unit-1/select", {"seconds": 10.0}, 0)
    assert (state.seconds, state.gpu_seconds, state.images, state.disk_bytes) == (75.0, 60.0, 60, 3000)
    assert budgets.exhausted(state, settings, 40) is None
    spent = {"images": 61, "seconds": 7200, "gpu_seconds": 3600, "disk_bytes": 2**29}
    for name, value in spent.items():
        alarm = budgets.exhausted(state.changed(**{name: value}), settings, 40)
        assert alarm.name == {"seconds": "budget_hours", "images": "budget_images"}.get(
            name, "budget_gpu_hours" if name == "gpu_seconds" else "budget_disk"
        )
        assert "budget" in sentence(alarm) and "予算" in sentence(alarm, "ja")
    unlimited = night_settings()(home=tmp_path)
    assert budgets.exhausted(state.changed(gpu_seconds=9e9, disk_bytes=2**60), unlimited, 40) is None


def test_what_a_step_took_is_added_to_the_unit_it_is_of():
    state = NightState(units=(UnitRecord(unit=1), UnitRecord(unit=11), UnitRecord(unit=2)))
    state = budgets.note(state, "unit-1/evaluate-000", {"seconds": 5.0}, 8)
    state = budgets.note(state, "unit-11/train", {"seconds": 7.0}, 0)
    state = budgets.note(state, "plan", {"seconds": 1.0}, 0)
    assert [(record.seconds, record.images) for record in state.units] == [(5.0, 8), (7.0, 0), (0.0, 0)]
    assert [step.name for step in state.steps] == ["unit-1/evaluate-000", "unit-11/train", "plan"]


def test_a_plan_says_which_budget_would_end_the_night(tmp_path):
    settings = night_settings()(
        home=tmp_path, units=2, images=100, evaluation_images=50, steps=10, budget_gpu_hours=0.5
    )
    rates = {"generate": 9.0, "evaluate": 6.0, "train": 3.0, "rest": 30.0, "bytes": 2**24}
    found = forecast(settings, rates, 1000.0)
    assert found.ends_by == ("gpu_hours",) and found.disk_bytes == 350 * 2**24
    lines = forecast_lines(found)
    assert "budgets: 12 hours, 50,000 images, 0.5 hours on the accelerator" in lines
    assert "the night would end early: more than 0.5 hours on the accelerator" in lines


def test_what_is_stored_is_counted_whatever_the_folders(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").write_bytes(b"x" * 10)
    (tmp_path / "a" / "b" / "two").write_bytes(b"x" * 32)
    assert budgets.stored(tmp_path) == 42 and budgets.stored(tmp_path / "nowhere") == 0


def test_what_was_collected_before_a_step_is_added_up_over_the_night():
    state = NightState(night="n", steps=(), units=())
    for number, collected in enumerate((0, 7, 5)):
        envelope = {"seconds": 1.0, "value": {}, "stored": 100, **({"collected": collected} if collected else {})}
        state = budgets.note(state, f"unit-1/generate-{number:03d}", envelope, 0)
    assert state.collected == 12 and NightState.model_validate(state.plain()).collected == 12
