"""A night that its own numbers would halt is refused with the number that works, or fills in what it lacks."""

import json
import sqlite3

import pytest

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.night.engine.feasibility import check_settings, check_taste
from konomi.night.engine.steps import NightSteps
from konomi.night.gateway.services import NightServices
from konomi.night.guards import GuardSettings
from konomi.night.records.request import NightRequest
from konomi.night.records.state import Reason, Selection
from konomi.night.systems.base import SELECTED_AGAIN
from konomi.night.systems.registry import night_settings, stages
from konomi.v1 import rater_pb2


def settings(**changes):
    return night_settings()(**changes)


@pytest.mark.parametrize(
    ("chain", "share", "guard", "refused"),
    [
        ("converge", 0.1, {}, True),
        ("longtail:1+golden:1", 0.0, {}, True),
        ("converge", 0.23, {}, False),
        ("converge", 0.1, {"off": ("base_share",)}, False),
        ("converge", 0.1, {"base_share": 0.1}, False),
        ("propagate", 0.1, {}, False),
    ],
)
def test_a_share_of_base_images_no_guard_lets_pass_is_refused_with_the_one_that_works(chain, share, guard, refused):
    asked = (settings(base_share=share), GuardSettings(**guard), stages(chain, 1))
    if not refused:
        return check_settings(*asked)
    with pytest.raises(InvalidArgument, match=r"set it to 0\.25, or lower base_share in the") as caught:
        check_settings(*asked)
    assert (caught.value.reason, caught.value.field) == ("BASE_SHARE", "base_share")
    return None


class Graded(NightServices):
    """A taste with some images graded UR."""

    def __init__(self, ur: int) -> None:
        super().__init__(None, "tastes/default")
        self.ur = ur

    def count(self, grades=(), sources=()):
        assert tuple(grades) == ("UR",) and "imported" in sources
        return self.ur


def test_golden_with_too_few_ur_is_refused_before_anything_is_made():
    with pytest.raises(
        FailedPrecondition, match="golden needs 8 images graded UR, and 3 are; grade 5 more UR"
    ) as caught:
        check_taste(Graded(3), settings(), stages("golden", 1))
    assert caught.value.reason == "TOO_FEW_UR"


@pytest.mark.parametrize(
    ("chain", "ur", "more"),
    [
        ("golden", 8, {}),
        ("golden", 3, {"golden_minimum": 3}),
        ("golden", 0, {"certificates": (1,)}),
        ("longtail:1+golden:1", 0, {}),
        ("converge", 0, {}),
    ],
)
def test_what_can_make_a_unit_is_let_begin(chain, ur, more):
    check_taste(Graded(ur), settings(**more), stages(chain, 1))


def steps(**changes) -> NightSteps:
    request = NightRequest("n", "", "tastes/default", "golden", 1, ["a"], ["a"], settings(**changes).model_dump(), {})
    return NightSteps(Graded(0), request, lambda name, done, total: None)


@pytest.mark.parametrize(
    ("n", "share", "lacking"), [(12, 0.0, 4), (12, 0.25, 0), (30, 0.1, 7), (1, 0.0, 1), (0, 0.0, 0), (70, 0.2472, 0)]
)
def test_what_a_training_set_lacks_of_base_images_is_counted(n, share, lacking):
    assert steps().lacking(Selection(n=n, base_share=share)) == lacking


def test_a_stage_that_ends_anyway_lacks_nothing():
    assert steps().lacking(Selection(n=12, base_share=0.0, end=Reason(name="golden_flat"))) == 0


def imported(home, count: int) -> None:
    """Makes all images of a home ones made elsewhere, graded UR, so that none of the base model's own is known."""
    images = sqlite3.connect(home / "databases" / "stand-in-images.sqlite")
    labels = sqlite3.connect(home / "databases" / "stand-in-labels.sqlite")
    with images, labels:
        rows = images.execute("SELECT k, v FROM t ORDER BY k").fetchall()
        for number, (digest, about) in enumerate(rows):
            foreign = json.loads(about) | {"source": rater_pb2.SOURCE_IMPORTED, "unit": ""}
            images.execute("UPDATE t SET v = ? WHERE k = ?", (json.dumps(foreign), digest))
            if number < count:
                labels.execute("INSERT INTO t VALUES (?, ?)", (digest, json.dumps(rater_pb2.GRADE_UR)))


def test_a_night_on_own_pictures_alone_makes_the_base_images_it_lacks_and_comes_to_its_morning(bench):
    home = bench.home("own")
    code, _, err = bench.konomi(home, *bench.start(home, "--units", "1"))
    assert code == 0, err
    imported(home, 12)
    start = ["golden" if word == "converge" else word for word in bench.start(home, "--units", "1")]
    code, result, err = bench.konomi(home, *start)
    assert (code, result["state"]) == (0, "finished"), err
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    trained = next(unit for unit in state["units"] if "selection" in unit)
    assert trained["selection"]["n"] == 12 and trained["selection"]["base_share"] == 0.25
    made = [step for step in state["steps"] if "generate-base" in step["name"]]
    assert sum(step["images"] for step in made) == 4
    assert [step["name"].partition("/")[2] for step in state["steps"] if "select" in step["name"]] == [
        "select",
        "select-again",
    ]


@pytest.mark.parametrize(
    ("thin", "rounds", "made"), [(3, 3, [4, 2, 2]), pytest.param(2, 2, [4, 2], marks=pytest.mark.chaos)]
)
def test_a_share_that_stays_short_is_made_up_for_in_more_rounds(bench, thin, rounds, made):
    home = bench.home(f"thin-{thin}")
    code, _, err = bench.konomi(home, *bench.start(home, "--units", "1"))
    assert code == 0, err
    imported(home, 12)
    (home / "thin-base").write_text(str(thin))
    start = ["golden" if word == "converge" else word for word in bench.start(home, "--units", "1")]
    code, result, err = bench.konomi(home, *start)
    assert (code, result["state"]) == (0, "finished"), err
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    trained = next(unit for unit in state["units"] if "selection" in unit)
    assert trained["selection"]["base_share"] == 0.25
    steps = [(step["name"].partition("/")[2], step["images"]) for step in state["steps"]]
    assert [name for name, _ in steps if "select" in name] == ["select", *SELECTED_AGAIN[:rounds]]
    drawn = [(name, images) for name, images in steps if "generate-base" in name]
    assert [images for _, images in drawn] == made
    assert len({name for name, _ in drawn}) == rounds, "none is taken for the one before"


def test_a_golden_night_with_too_few_ur_is_refused_and_none_is_begun(bench):
    home = bench.home("few")
    start = ["golden" if word == "converge" else word for word in bench.start(home)]
    code, _, err = bench.konomi(home, *start)
    assert code == 4 and "golden needs 8 images graded UR, and 0 are" in err
    assert not list((home / "nights").glob("*/request.json"))
