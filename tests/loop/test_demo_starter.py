"""`konomi demo` on the real bundled models: a small one, start to end, through the command line."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

UNIT_KEYS = {"unit", "images", "mean_utility", "ssr_rate", "ur_rate", "vendi", "seconds", "promoted"}
SMALL = {
    "KONOMI_DEMO_REFERENCE": "128",
    "KONOMI_DEMO_POOL": "192",
    "KONOMI_NIGHT_EVALUATION_IMAGES": "96",
    "KONOMI_NIGHT_STEPS": "100",
}


def konomi(*arguments: str, home, timeout: float = 800) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from konomi.cli import main; main()", *arguments, "--home", str(home)]
    environment = os.environ | SMALL
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, check=False)


def test_a_small_demo_learns_the_taste_and_makes_a_better_model(tmp_path):
    person = tmp_path / "person.json"
    weights = {"background=blue": 1.5, "hair_colour=pink": 1.2, "glasses=none": -1.0, "hair_length=long": 0.8}
    person.write_text(json.dumps({"name": "blue", "weights": weights, "noise": 0.1}))
    home = tmp_path / "home"
    asked = ["demo", "--person", str(person), "--units", "1", "--labels", "48", "--images", "96", "--json"]
    done = konomi(*asked, home=home)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert set(said) == {"person", "labels", "seconds", "rater", "units", "served_unit", "report"}
    assert (said["person"], said["labels"]) == ("blue", 48)
    assert all(set(unit) == UNIT_KEYS for unit in said["units"])
    assert said["rater"]["srcc"] > 0.5
    base, served = said["units"][0], said["units"][said["served_unit"]]
    assert served["unit"] == 1, "the first unit beats the base model"
    assert served["mean_utility"] > base["mean_utility"] + 0.1
    assert served["vendi"] > 0.6 * base["vendi"]
    report = (home / "report" / "index.html").read_text()
    assert "blue" in report
    assert "http://" not in report.replace("http://www.w3.org", ""), "the report needs no network"

    again = konomi(*asked, home=home)
    assert again.returncode == 0, again.stderr[-2000:]
    repeated = json.loads(again.stdout.strip().splitlines()[-1])
    assert [unit["ssr_rate"] for unit in repeated["units"]] == [unit["ssr_rate"] for unit in said["units"]]


def test_the_attributes_a_person_can_like_are_listed(tmp_path):
    done = konomi("demo", "--attributes", "--json", home=tmp_path)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["beard"] == ["none", "beard"]
    assert "shirt" not in found


def test_a_person_who_likes_what_does_not_exist_is_refused_before_anything_starts(tmp_path):
    person = tmp_path / "person.json"
    person.write_text('{"name": "x", "weights": {"hair_colour=mauve": 1}, "noise": 0}')
    done = konomi("demo", "--person", str(person), "--json", home=tmp_path / "home")
    assert done.returncode == 2
    assert "hair_colour=mauve" in done.stderr
    assert not (tmp_path / "home" / "artifacts").exists()
