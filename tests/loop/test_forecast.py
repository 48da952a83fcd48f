"""What a night will take: forecast from one measured night, and near what another then takes."""

from konomi.forecast import forecast, mean_bytes, measured
from konomi.lineage import Nights, write_json
from konomi.night_settings import NightSettings


def test_the_rates_are_those_of_the_newest_measured_night(tmp_path):
    nights = Nights(tmp_path)
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


def test_price_and_power_are_counted_where_they_are_given(tmp_path):
    settings = NightSettings(
        home=tmp_path, units=2, images=100, evaluation_images=50, steps=10, hour_price=2.0, watts=300
    )
    rates = {"generate": 9.0, "evaluate": 6.0, "train": 3.0, "rest": 30.0}
    found = forecast(settings, rates, 1000.0)
    assert found["images"] == 2 * 100 + 3 * 50
    assert found["seconds"] == 200 * 9 + 150 * 6 + 20 * 3 + 2 * 30
    assert found["cost"] == found["gpu_hours"] * 2.0
    assert found["kwh"] == found["gpu_hours"] * 0.3
    assert found["disk_bytes"] == 350_000


def test_nothing_is_invented_where_nothing_was_measured(tmp_path):
    found = forecast(NightSettings(home=tmp_path), measured(Nights(tmp_path)), mean_bytes(tmp_path / "artifacts"))
    assert [found[key] for key in ("seconds", "gpu_hours", "cost", "kwh", "disk_bytes")] == [None] * 5
