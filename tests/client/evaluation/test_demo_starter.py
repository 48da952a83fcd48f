"""`konomi demo` on the real bundled models: a small one, start to end, through the command line."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import offline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

UNIT_KEYS = {"unit", "images", "mean_utility", "ssr_rate", "ur_rate", "vendi", "seconds", "promoted"}
SMALL = {
    "KONOMI_DEMO_REFERENCE": "64",
    "KONOMI_DEMO_POOL": "128",
    "KONOMI_NIGHT_EVALUATION_IMAGES": "64",
    "KONOMI_NIGHT_STEPS": "80",
}


def konomi(*arguments: str, home, before=(), timeout: float = 800) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-c", "from konomi.cli import main; main()", *arguments, "--home", str(home)]
    environment = os.environ | SMALL
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, check=False)


@dataclass(frozen=True)
class Learned:
    """A demo that ran: what was asked, the home it left, what it said."""

    asked: list[str]
    home: Path
    said: dict


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Learned:
    """A small demo, run in a network namespace of its own where there is one."""
    folder = tmp_path_factory.mktemp("demo")
    person, home, elsewhere = folder / "person.json", folder / "home", folder / "elsewhere.json"
    weights = {"background=blue": 1.5, "hair_colour=pink": 1.2, "glasses=none": -1.0, "hair_length=long": 0.8}
    person.write_text(json.dumps({"name": "blue", "weights": weights, "noise": 0.1}))
    asked = ["demo", "--person", str(person), "--units", "1", "--labels", "48", "--images", "96", "--json"]
    alone = not offline.unavailable()
    done = konomi(*asked, home=home, before=offline.prefix(elsewhere) if alone else ())
    assert done.returncode == 0, done.stderr[-2000:]
    assert not alone or json.loads(elsewhere.read_text()) == {"4": 0, "6": 0}, "a night asks no other machine"
    return Learned(asked, home, json.loads(done.stdout.strip().splitlines()[-1]))


def test_a_small_demo_learns_the_taste_and_makes_a_better_model(learned):
    said, home = learned.said, learned.home
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

    assert [str(path) for path in (home, *home.rglob("*")) if path.stat().st_mode & 0o077] == [], "its owner's alone"


@pytest.mark.chaos
def test_a_demo_asked_for_again_tells_the_same(learned):
    """On stand-ins test_demo.py holds it in every run of the tests."""
    again = konomi(*learned.asked, home=learned.home)
    assert again.returncode == 0, again.stderr[-2000:]
    repeated = json.loads(again.stdout.strip().splitlines()[-1])
    assert [unit["ssr_rate"] for unit in repeated["units"]] == [unit["ssr_rate"] for unit in learned.said["units"]]


def test_an_image_the_demo_trained_on_is_explained(learned):
    home = learned.home
    (night,) = (json.loads(path.read_text()) for path in home.glob("nights/*/night.json"))
    chosen = next(unit["selection"]["selected"][0] for unit in night["units"] if "selection" in unit)
    with running(home):
        done = konomi("explain", chosen[:12], "--json", home=home)
        unknown = konomi("explain", "0" * 64, home=home)
        short = konomi("explain", chosen[:5], home=home)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["image"]["digest"] == chosen
    assert found["image"]["prompt"].startswith("portrait")
    assert 1 <= found["score"]["utility"] <= 5
    (entered,) = found["training_sets"]
    assert (entered["display_name"], entered["role"], entered["current"]) == ("unit-1", "selected", True)
    assert (unknown.returncode, short.returncode) == (1, 2)
    assert "first 6 digits" in short.stderr


@contextmanager
def running(home):
    """Runs `konomi up` on a home."""
    command = [sys.executable, "-c", "from konomi.cli import main; main()", "up", "--json", "--home", str(home)]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert json.loads(up.stdout.readline())["rater"]
        yield
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(timeout=120) == 0


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


@pytest.mark.skipif(offline.unavailable() != "", reason=f"no network namespace here: {offline.unavailable()}")
@pytest.mark.parametrize(
    ("tried", "counted"),
    [
        ("s.create_connection(s.create_server(('127.0.0.1', 0)).getsockname())", {"4": 0, "6": 0}),
        ("s.create_connection(('192.0.2.1', 80))", {"4": 1, "6": 0}),
        ("s.create_connection(('2001:db8::1', 80))", {"4": 0, "6": 1}),
        ("s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 53))", {"4": 1, "6": 0}),
    ],
)
def test_whatever_is_sent_elsewhere_is_counted(tmp_path, tried, counted):
    out = tmp_path / "counts.json"
    subprocess.run([*offline.prefix(out), sys.executable, "-c", f"import socket as s; {tried}"], stderr=subprocess.PIPE)
    assert json.loads(out.read_text()) == counted
