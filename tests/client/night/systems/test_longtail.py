"""Long tail: where its pictures come from, how it chooses, and when it ends; a whole night on stand-in services."""

import json
import random
import sqlite3

import pytest

from konomi.night.alarms import sentence
from konomi.night.draws import Turn
from konomi.night.gateway import messages
from konomi.night.records.state import Selection
from konomi.night.systems import converge, longtail
from konomi.night.systems.longtail import LongTailSettings
from konomi.v1 import rater_pb2

PROMPTS = ["portrait, red hair, glasses", "portrait, blue shirt", "portrait"]
ELITES = [{"digest": f"{number:064d}", "prompt": "portrait, beard", "lower_bound": 3.0} for number in range(4)]


def turn(elites=ELITES, unit=1, coverage=0.5, **known):
    seen = {"elites": elites, "coverage": coverage}
    settings = LongTailSettings(images=100)
    return Turn(3, unit, unit, PROMPTS, settings, 6.0, seen=seen, pool=400, **known)


def test_a_pool_has_three_hands():
    found = longtail.draws(turn(served_is_base=False))
    children = [draw for draw in found if draw.init]
    rare = [draw for draw in found if draw.rare]
    served = [draw for draw in found if draw.origin == "served"]
    assert (len(children), len(rare), len(served), len(found)) == (35, 35, 30, 100)
    assert {draw.init for draw in children} == {elite["digest"] for elite in ELITES}
    assert {draw.strength for draw in children} <= set(longtail.STRENGTHS)
    assert not any(draw.init and (draw.rare or draw.origin == "served") for draw in found)
    assert len({draw.seed for draw in found}) == 100


def test_without_elites_nothing_is_grown_and_without_a_unit_all_is_the_base_models():
    found = longtail.draws(turn(elites=[]))
    assert len(found) == 100
    assert not any(draw.init for draw in found)
    assert {draw.origin for draw in found} == {"base"}


def test_draws_depend_on_night_unit_and_index_alone():
    assert longtail.draws(turn()) == longtail.draws(turn())
    assert longtail.draws(turn()) != longtail.draws(turn(unit=2))


def test_a_recombined_prompt_takes_its_parts_from_two():
    rng = random.Random(1)
    found = {longtail.recombined(PROMPTS, rng) for _ in range(200)}
    parts = {part.strip() for prompt in PROMPTS for part in prompt.split(",")}
    assert all({part.strip() for part in prompt.split(",")} <= parts for prompt in found)
    assert "portrait, blue shirt, glasses" in found, "a prompt nobody wrote"
    assert all(prompt.startswith("portrait") for prompt in found)
    assert longtail.recombined(["one"], rng) == "one"


def test_its_choice_spends_what_converge_would_and_spreads_it():
    asked, plain = longtail.selection(turn()), converge.selection(turn())
    assert asked["count"] == plain["count"]
    assert (asked["quota"], asked["spread"], asked["prompt_quota"]) == (1.0, "farthest_point", 0.0)


@pytest.mark.parametrize(("before", "ends"), [(None, False), (0.4, False), (0.49, True), (0.6, True)])
def test_it_ends_when_a_turn_reached_no_new_region(before, ends):
    earlier = [] if before is None else [Selection(n=10, coverage=before)]
    end = longtail.verdict(turn(coverage=0.5), Selection(n=10), earlier)
    assert (end is not None) is ends
    assert longtail.verdict(turn(), Selection(n=10), [Selection(n=10)]) is None, "another system's set says nothing"


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        ({}, None),
        ({"liked_showings": 20.0, "unseen_likes": 0.049, "labels_since_island": 3.0, "islands": 2.0}, "unseen_likes"),
        ({"liked_showings": 20.0, "unseen_likes": 0.05, "labels_since_island": 99.0, "islands": 2.0}, None),
        ({"liked_showings": 19.0, "unseen_likes": 0.0, "labels_since_island": 3.0, "islands": 2.0}, None),
        ({"liked_showings": 30.0, "unseen_likes": 0.2, "labels_since_island": 100.0, "islands": 2.0}, "no_islands"),
    ],
)
def test_it_ends_when_slates_say_that_little_is_left_to_find(seen, name):
    asked = turn()
    asked.seen.update(seen)
    end = longtail.verdict(asked, Selection(n=10), [])
    assert (end.name if end else None) == name
    if end:
        assert sentence(end).endswith(".")
        assert sentence(end, "ja").endswith("。")


def test_what_slates_found_becomes_figures_of_the_unit():
    found = rater_pb2.ExploreNoveltyResponse()
    assert messages.discovery(found) == {}
    found.discovery.unseen_likes = 0.25
    found.discovery.islands.add(region=3)
    found.discovery.labels_since_island = 7
    assert messages.discovery(found) == {
        "islands": 1.0,
        "unseen_likes": 0.25,
        "liked_showings": 0.0,
        "labels_since_island": 7.0,
    }


def test_a_night_grows_children_of_elites_and_keeps_their_parents(bench):
    home = bench.home("longtail")
    start = ["longtail" if word == "converge" else word for word in bench.start(home)]
    code, result, err = bench.konomi(home, *start)
    assert code == 0, err
    code, result, err = bench.konomi(home, *[word if word != "7" else "8" for word in start])
    assert code == 0, err
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    steps = [step["name"] for step in state["steps"]]
    unit = next(one for one in state["units"] if "selection" in one)
    assert steps.index(f"unit-{unit['unit']}/observe") < steps.index(f"unit-{unit['unit']}/generate-000")
    assert 0 < unit["selection"]["coverage"] <= 1
    rows = sqlite3.connect(home / "databases" / "stand-in-images.sqlite").execute("SELECT k, v FROM t").fetchall()
    known = {digest: json.loads(about) for digest, about in rows}
    children = {digest: about["parents"] for digest, about in known.items() if about.get("parents")}
    assert children
    assert all(parent in known for parents in children.values() for parent in parents)
    assert result["reason"]["name"] in ("units", "longtail_flat", "patience")
