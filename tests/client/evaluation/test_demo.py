"""`konomi demo` on stand-in services: what it prints, where it works, and that it goes on after a kill."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from konomi.errors import FailedPrecondition
from konomi.evaluation.demo import TOO_FEW_LABELS, Demo, DemoSettings
from konomi.night.engine.progress import View
from konomi.v1 import rater_pb2
from tests.client.night import nights

KEYS = {"person", "labels", "seconds", "rater", "units", "served_unit", "report"}
UNIT_KEYS = {"unit", "images", "mean_utility", "ssr_rate", "ur_rate", "vendi", "seconds", "promoted"}
SMALL = {"KONOMI_DEMO_REFERENCE": "32", "KONOMI_DEMO_POOL": "40", "KONOMI_DEMO_ROUNDS": "2"}

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Shown:
    """A demo that ran: its home, the command's words, what it said, its report as it was written then."""

    home: Path
    line: tuple[str, ...]
    said: dict
    page: str


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """One bench for all; every test but that of a demo asked for again has a home of its own."""
    bench = nights.Bench(tmp_path_factory.mktemp("demos"))
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def shown(bench):
    """A demo of two units for a person."""
    home = bench.home("demo")
    person = bench.folder / "person.json"  # outside of the home, which no report names
    person.write_text(json.dumps({"name": "Aki", "weights": {"colour=red": 1.0}, "noise": 0.1}))
    options = ("--units", "2", "--labels", "16", "--person", str(person), "--json")
    line = ("demo", "--home", str(home), *options)
    code, result, err = bench.konomi(home, *line, **SMALL)
    assert code == 0, err
    return Shown(home, line, result, (home / "report" / "index.html").read_text())


def test_the_demo_prints_exactly_what_scripts_rely_on(shown):
    home, result = shown.home, shown.said
    assert set(result) == KEYS
    assert set(result["rater"]) == {"srcc", "auc_ssr", "ap_ur"}
    assert [set(unit) for unit in result["units"]] == [UNIT_KEYS] * 3
    assert (result["person"], result["labels"]) == ("Aki", 16)
    base, served = result["units"][0], result["units"][result["served_unit"]]
    assert served["mean_utility"] > base["mean_utility"]
    assert result["report"] == str(home / "report" / "index.html")
    page = shown.page
    assert "A night for Aki" in page
    assert "g5" in page
    assert str(home) not in page


def test_the_demo_in_japanese_and_again_repeats_no_night(bench, shown):
    home, first = shown.home, shown.said
    code, second, err = bench.konomi(home, *shown.line, "--lang", "ja", **SMALL)
    assert code == 0, err
    assert [unit["mean_utility"] for unit in second["units"]] == [unit["mean_utility"] for unit in first["units"]]
    assert len(list(home.glob("nights/*/request.json"))) == 1
    assert 'lang="ja"' in (home / "report" / "index.html").read_text()


def test_a_demo_of_the_fewest_labels_works_though_its_first_rounds_are_too_few_to_fit(bench):
    home = bench.home("few")
    line = ("demo", "--home", str(home), "--units", "1", "--labels", "8", "--json")
    code, result, err = bench.konomi(home, *line, **SMALL | {"KONOMI_DEMO_ROUNDS": "4"})
    assert code == 0, err
    assert result["labels"] == 8


class OneSided:
    """A rater that is fitted once it has two grades, and a person who gives the other grade only the ninth time."""

    def __init__(self, images: int) -> None:
        self.free = [f"{n:064x}" for n in range(images)]
        self.grades: list[int] = []
        self.fits: list[int] = []
        self.client = SimpleNamespace(rater=self)

    def tend(self) -> None:
        pass

    def state(self) -> SimpleNamespace:
        return SimpleNamespace(labels=len(self.grades), rater_version="")

    def suggest_images(self, count: int, **_) -> rater_pb2.SuggestImagesResponse:
        digests, self.free = self.free[:count], self.free[count:]
        images = [rater_pb2.Suggestion(image=rater_pb2.Image(digest=digest)) for digest in digests]
        return rater_pb2.SuggestImagesResponse(suggestions=images)

    def grade(self, digests: list[str], seed: int) -> list[int]:
        return [5 if len(self.grades) + n == 8 else 1 for n in range(len(digests))]

    def record_labels(self, labels: list[rater_pb2.Label], **_) -> None:
        self.grades += [label.grade for label in labels]

    def fit_rater(self, **_) -> list[object]:
        self.fits.append(len(self.grades))
        if len(set(self.grades)) < 2:
            raise FailedPrecondition("one grade", reason=TOO_FEW_LABELS)
        return []


class OneSidedDemo(Demo):
    gateway = property(lambda self: self.session)


def one_sided(images: int) -> OneSidedDemo:
    session = OneSided(images)
    view = View(lambda *_: None, lambda beat: None)
    return OneSidedDemo(session, session, [], 0, DemoSettings(), None, view)


def test_a_person_whose_first_grades_are_all_one_grades_on_until_the_rater_can_be_fitted():
    demo = one_sided(images=20)
    assert demo.label(8) == 10
    assert demo.session.fits == [2, 4, 6, 8, 10]
    with pytest.raises(FailedPrecondition, match="no ungraded images left after 8 labels") as refused:
        one_sided(images=8).label(8)
    assert refused.value.reason == "POOL_EMPTY"


def test_attributes_are_listed_for_scripts(bench):
    code, result, _ = bench.konomi(bench.home("attributes"), "demo", "--attributes", "--json")
    assert (code, result) == (0, {"colour": ["red", "green"]})


def test_without_home_it_works_in_a_new_folder(bench):
    home = bench.home("plain")
    code, result, err = bench.konomi(home, "demo", "--units", "1", "--labels", "16", "--json", **SMALL)
    assert code != 0 or "/demo-" in result["report"], err
    assert any(path.name.startswith("demo-") for path in home.iterdir()), err
