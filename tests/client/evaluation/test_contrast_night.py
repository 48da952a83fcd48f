"""A small night that turns away, on the real bundled models and services: what it records, trains on and says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

SMALL = {
    "KONOMI_DEMO_REFERENCE": "64",
    "KONOMI_DEMO_POOL": "128",
    "KONOMI_NIGHT_EVALUATION_IMAGES": "32",
    "KONOMI_NIGHT_STEPS": "20",
    "KONOMI_NIGHT_CONTRAST_BETA": "0.5",
}


def konomi(*arguments: str, home: Path) -> str:
    command = [sys.executable, "-c", "from konomi.cli import main; main()", *arguments, "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | SMALL, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_night_turns_away_from_the_worst_of_its_prompts_and_says_so_everywhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    konomi("demo", "--seed", "1", "--units", "2", "--labels", "40", "--images", "64", "--json", home=home)
    (path,) = home.glob("nights/*/night.json")
    night, request = json.loads(path.read_text()), json.loads(path.with_name("request.json").read_text())
    assert request["settings"]["contrast_beta"] == 0.5
    spent = 0.0
    for unit in (unit for unit in night["units"] if "selection" in unit):
        chosen = unit["selection"]
        items = json.loads(next(home.rglob(f"artifacts/*/{chosen['manifest']}")).read_bytes())
        assert items["schema"] == "konomi.manifest/2"
        roles = {
            role: [one for one in items["items"] if one["role"] == role] for role in ("selected", "avoided", "base")
        }
        away = sum(met["count"] for met in chosen["avoided"].values())
        assert len(roles["avoided"]) == away > 0 and len(roles["selected"]) == chosen["n"] >= away
        prompts = [one["caption"] for one in roles["selected"]]
        assert all(prompts.count(one["caption"]) for one in roles["avoided"])
        assert 0.2 < len(roles["base"]) / (chosen["n"] + len(roles["base"])) < 0.3
        assert 0 < chosen["avoided_nats"] < chosen["nats"]
        spent += chosen["nats"]
    assert spent == pytest.approx(night["nats"]) and spent <= 6.0
    report = (home / "report" / "index.html").read_text()
    assert "turned away from" in report and "the worst of the same prompts" in report
