"""`konomi demo` on stand-in services: what it prints, where it works, and that it goes on after a kill."""

import json

import pytest

KEYS = {"person", "labels", "seconds", "rater", "units", "served_unit", "report"}
UNIT_KEYS = {"unit", "images", "mean_utility", "ssr_rate", "ur_rate", "vendi", "seconds", "promoted"}
SMALL = {"KONOMI_DEMO_REFERENCE": "32", "KONOMI_DEMO_POOL": "40", "KONOMI_DEMO_ROUNDS": "2"}

pytestmark = pytest.mark.timeout(900)


def test_the_demo_prints_exactly_what_scripts_rely_on(bench, tmp_path):
    home = bench.home("demo")
    person = tmp_path / "person.json"
    person.write_text(json.dumps({"name": "Aki", "weights": {"colour=red": 1.0}, "noise": 0.1}))
    options = ("--units", "2", "--labels", "16", "--person", str(person), "--json")
    code, result, err = bench.konomi(home, "demo", "--home", str(home), *options, **SMALL)
    assert code == 0, err
    assert set(result) == KEYS
    assert set(result["rater"]) == {"srcc", "auc_ssr", "ap_ur"}
    assert [set(unit) for unit in result["units"]] == [UNIT_KEYS] * 3
    assert (result["person"], result["labels"]) == ("Aki", 16)
    base, served = result["units"][0], result["units"][result["served_unit"]]
    assert served["mean_utility"] > base["mean_utility"]
    assert result["report"] == str(home / "report" / "index.html")
    page = (home / "report" / "index.html").read_text()
    assert "A night for Aki" in page
    assert "g5" in page
    assert str(home) not in page


def test_the_demo_in_japanese_and_again_repeats_no_night(bench):
    home = bench.home("again")
    line = ("demo", "--home", str(home), "--units", "1", "--labels", "16", "--json")
    code, first, err = bench.konomi(home, *line, **SMALL)
    assert code == 0, err
    code, second, err = bench.konomi(home, *line, "--lang", "ja", **SMALL)
    assert code == 0, err
    assert [unit["mean_utility"] for unit in second["units"]] == [unit["mean_utility"] for unit in first["units"]]
    assert len(list(home.glob("nights/*/request.json"))) == 1
    assert 'lang="ja"' in (home / "report" / "index.html").read_text()


def test_attributes_are_listed_for_scripts(bench):
    code, result, _ = bench.konomi(bench.home("attributes"), "demo", "--attributes", "--json")
    assert (code, result) == (0, {"colour": ["red", "green"]})


def test_without_home_it_works_in_a_new_folder(bench):
    home = bench.home("plain")
    code, result, err = bench.konomi(home, "demo", "--units", "1", "--labels", "16", "--json", **SMALL)
    assert code != 0 or "/demo-" in result["report"], err
    assert any(path.name.startswith("demo-") for path in home.iterdir()), err
