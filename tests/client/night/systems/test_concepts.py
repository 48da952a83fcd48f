"""Concepts: prompts that call them, what a later unit learns from; whole nights on stand-in services."""

import json
import sqlite3

import pytest

from konomi import errors
from konomi.night.draws import Turn
from konomi.night.engine import preparation
from konomi.night.guards import GuardSettings
from konomi.night.records.store import NightStore
from konomi.night.systems.concepts import policy
from konomi.night.systems.concepts.policy import ConceptsSettings
from konomi.night.systems.registry import night_settings

QUICK = {"KONOMI_NIGHT_CONCEPT_STEPS": "3", "KONOMI_GUARD_DOUBT_RATIO": "5", "KONOMI_GUARD_EXCEEDANCE_RATIO": "20"}


@pytest.fixture
def folders(bench, monkeypatch, nights_module):
    """A home, and two folders of two images each."""
    monkeypatch.syspath_prepend(str(nights_module.FOLDER))
    import stand_ins

    home = bench.home("concepts")
    for number, name in enumerate(("hat", "tie")):
        (home / name).mkdir()
        for index in range(2):
            (home / name / f"{index}.png").write_bytes(stand_ins.png(150 + 20 * index, 60 * number, 90))
    return home


def start(bench, home, *more, units="2"):
    words = ["concepts" if word == "converge" else word for word in bench.start(home)]
    words[words.index("--units") + 1] = units
    return (*words, *more)


def both(home):
    return ("--concept", f"red-hat=hat:{home / 'hat'}", "--concept", f"blue-tie=tie:{home / 'tie'}")


def state_of(home, result):
    return json.loads((home / "nights" / result["night"] / "night.json").read_text())


def items_of(home, unit):
    return json.loads((home / "artifacts" / unit["selection"]["manifest"]).read_text())["items"]


@pytest.mark.parametrize(("real", "base"), [("", 6), ("a" * 64, 0)])
def test_the_base_model_makes_regularisation_images_where_there_are_no_real_ones(real, base):
    settings = ConceptsSettings(images=20, regularisation_items=real)
    found = policy.draws(Turn(1, 2, 2, ["a <s> cat"], settings, 6.0, served_is_base=False))
    assert len(found) == 20
    assert sum(draw.origin == "base" for draw in found) == base


def test_the_first_unit_teaches_and_makes_no_pool():
    assert policy.planned(ConceptsSettings(images=50, concept_steps=7), 3) == (100, 21)
    assert policy.planned(ConceptsSettings(images=50, concept_steps=7, concept_model="tama"), 3) == (100, 14)


@pytest.mark.parametrize(("own", "chosen"), [(4, 32), (8, 4), (4, 0)])
def test_the_concepts_own_images_keep_their_share(own, chosen):
    heavy, light = policy.weighed(own, chosen)
    assert own * heavy / (own * heavy + chosen * light) >= 0.5 - 1e-9


def test_a_night_teaches_two_words_together_and_converges_within_them(bench, folders):
    home = folders
    code, result, err = bench.konomi(home, *start(bench, home, *both(home)), **QUICK)
    assert code == 0, err
    state = state_of(home, result)
    taught, later = (one for one in state["units"] if "stage" in one)
    assert taught["decision"] == "promote"
    assert taught["reason"]["name"] in ("taught", "better")
    assert taught["tokens"] == ["<red-hat>", "<blue-tie>"]
    assert taught["images"] == 16, "nothing but the evaluation was made for it"
    assert {item["caption"] for item in items_of(home, taught)} == {
        "photo of a <red-hat> hat",
        "photo of a <blue-tie> tie",
    }
    request = json.loads((home / "nights" / result["night"] / "request.json").read_text())
    assert "a portrait, <red-hat> hat, <blue-tie> tie" in request["prompts"], "composed"
    assert "a portrait, <red-hat> hat" in request["prompts"]
    items = items_of(home, later)
    own = {item["digest"]: item["weight"] for item in items_of(home, taught)}
    selected = {item["digest"]: item["weight"] for item in items if item["role"] == "selected"}
    assert own.keys() < selected.keys()
    share = sum(selected[digest] for digest in own) / sum(selected.values())
    assert share == pytest.approx(max(0.5, len(own) / len(selected)))
    called = [item["caption"] for item in items if item["role"] == "selected" and item["digest"] not in own]
    assert called
    assert all("<red-hat>" in caption or "<blue-tie>" in caption for caption in called)
    assert later["tokens"] == taught["tokens"], "one model knows the words and the taste"
    assert any(item["role"] == "base" for item in items)
    rows = sqlite3.connect(home / "databases" / "stand-in-images.sqlite").execute("SELECT v FROM t").fetchall()
    made = [json.loads(about) for (about,) in rows]
    assert all(("<" in one["prompt"]) == (one["unit"] != "base") for one in made), "nobody is told unknown words"


def test_words_can_be_taught_one_by_one_and_merged(bench, folders):
    home = folders
    merged = QUICK | {"KONOMI_NIGHT_CONCEPT_MERGE": "true"}
    code, result, err = bench.konomi(home, *start(bench, home, *both(home), units="1"), **merged)
    assert code == 0, err
    (taught,) = (one for one in state_of(home, result)["units"] if "stage" in one)
    assert taught["tokens"] == ["<red-hat>", "<blue-tie>"]
    done = (home / "calls.log").read_text()
    assert "train unit-1-red-hat" in done
    assert "merge unit-1" in done


def test_a_night_goes_on_from_a_model_taught_before_and_chains(bench, folders):
    home = folders
    code, first, err = bench.konomi(home, *start(bench, home, *both(home), units="1"), **QUICK)
    assert code == 0, err
    trained = (home / "calls.log").read_text().count("train")
    chain = [word for word in start(bench, home, "--concept-model", "unit-1") if word not in ("--units", "2")]
    chain = ["concepts:1+converge:1" if word == "concepts" else word for word in chain]
    code, result, err = bench.konomi(home, *chain, **QUICK)
    assert code == 0, err
    state = state_of(home, result)
    stages = [one for one in state["units"] if "stage" in one]
    assert [one["system"] for one in stages] == ["concepts", "converge"]
    assert stages[0]["model"] == state_of(home, first)["units"][1]["model"], "the same model, not taught again"
    assert (home / "calls.log").read_text().count("train") == trained + 1
    captions = [item["caption"] for item in items_of(home, stages[1])]
    assert not any("<" in caption for caption in captions), "a LoRA is taught no words"


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({}, errors.InvalidArgument, "concepts needs something to teach"),
        ({"concepts": ("hat",)}, errors.InvalidArgument, "expected NAME=CLASS:FOLDER"),
        ({"concepts": ("hat=hat:nowhere",)}, errors.NotFound, "nothing at nowhere"),
        ({"concepts": ("hat=hat:.",), "concept_prompt": "a hat"}, errors.InvalidArgument, "in the prompt, got a hat"),
        ({"concept_model": "unit-9"}, errors.NotFound, "knows concepts"),
    ],
)
def test_what_cannot_be_taught_is_refused(hands, more, error, words):
    settings = night_settings()(home=hands.home, units=1, **more)
    asked = preparation.new_request(
        "concepts", "tastes/default", 1, settings, GuardSettings(home=hands.home), ["a portrait"]
    )
    with pytest.raises(error, match=words):
        preparation.complete_request(asked, hands, NightStore(hands.home))


def test_a_regularisation_folder_without_captions_is_refused(hands):
    import stand_ins

    (hands.home / "hat").mkdir()
    (hands.home / "hat" / "0.png").write_bytes(stand_ins.png(9, 9, 9))
    folder = str(hands.home / "hat")
    settings = night_settings()(home=hands.home, units=1, concepts=(f"hat=hat:{folder}",), regularisation=folder)
    asked = preparation.new_request(
        "concepts", "tastes/default", 1, settings, GuardSettings(home=hands.home), ["a portrait"]
    )
    with pytest.raises(errors.InvalidArgument, match="has a caption"):
        preparation.complete_request(asked, hands, NightStore(hands.home))
