"""Self-propagation: its draws, its shares, its ends, how a set is kept; whole nights on stand-in services."""

import json
import sqlite3
import time

import pytest

from konomi import errors
from konomi.night.draws import ConceptToken, Turn
from konomi.night.engine import preparation
from konomi.night.gateway.services import ImageFacts
from konomi.night.guards import GuardSettings
from konomi.night.records.state import Selection
from konomi.night.records.store import NightStore
from konomi.night.systems import propagate
from konomi.night.systems.propagate import growing_set, policy
from konomi.night.systems.propagate.policy import PropagateSettings
from konomi.night.systems.registry import night_settings
from konomi.v1 import rater_pb2

SMALL = {
    "KONOMI_NIGHT_PROPAGATE_STEPS": "3",
    "KONOMI_NIGHT_PROPAGATE_TARGET": "8",
    "KONOMI_NIGHT_SEED_CLASS": "portrait",
    "KONOMI_GUARD_DOUBT_RATIO": "5",
}


def member(number, depth=0):
    return {"digest": f"{number:064d}", "prompt": f"<s> portrait {number}", "depth": depth}


def turn(members, **settings):
    seen = {"members": members, "bare": "<s> portrait"}
    return Turn(3, 1, 1, ["<s> portrait, hat", "ink <s> portrait"], PropagateSettings(**settings), 6.0, seen=seen)


def test_candidates_come_from_nothing_and_from_every_member_at_every_strength():
    members = [member(0), member(1, 1)]
    found = policy.draws(turn(members))
    assert len(found) == 32
    children = [draw for draw in found if draw.init]
    assert len(children) == 12
    assert {(draw.init, draw.strength) for draw in children} == {
        (one["digest"], strength) for one in members for strength in (0.3, 0.5, 0.7)
    }
    assert all(draw.depth == (1 if draw.init == members[0]["digest"] else 2) for draw in children)
    free = [draw for draw in found if not draw.init]
    assert {draw.depth for draw in free} == {2}, "what comes from nothing descends from the whole set"
    assert sum(draw.prompt == "<s> portrait" for draw in free) == len(free) / 2
    assert {draw.origin for draw in found} == {"served"}
    assert len({draw.seed for draw in found}) == 32
    assert found == policy.draws(turn(members))


def test_past_the_cap_candidates_start_from_members_that_are_not():
    members = [member(0), member(1, 4), member(2, 3)]
    found = policy.draws(turn(members))
    assert {draw.init for draw in found} == {members[0]["digest"], members[2]["digest"]}
    assert {draw.depth for draw in found} == {1, 4}
    assert policy.draws(turn([member(1, 4)])) == []


@pytest.mark.parametrize(
    ("originals", "others", "share"), [(1, 0, 0.5), (1, 1, 0.5), (1, 7, 0.5), (4, 2, 0.5), (1, 31, 0.25), (5, 11, 0.25)]
)
def test_the_originals_keep_their_share_of_every_batch(originals, others, share):
    heavy, light = policy.weights(originals, others, share)
    whole = originals * heavy + others * light
    assert whole == pytest.approx(originals + others), "the mean weight is 1"
    assert originals * heavy / whole >= share - 1e-9
    assert heavy >= light > 0


def test_the_share_falls_once_the_set_has_sixteen_members():
    settings = PropagateSettings()
    assert [policy.least_share(settings, n) for n in (1, 15, 16, 40)] == [0.5, 0.5, 0.25, 0.25]


def rounds(*figures):
    known = [{"considered": 100, "passed": p, "mean_cosine": m, "standard_error": 0.01} for p, m in figures]
    return known


@pytest.mark.parametrize(
    ("size", "exhausted", "history", "name"),
    [
        (8, False, rounds((50, 0.8)), None),
        (32, False, rounds((1, 0.1)), "target"),
        (8, False, rounds((4, 0.8)), "acceptance"),
        (8, False, rounds((5, 0.8)), None),
        (8, True, rounds((50, 0.8)), "depth_cap"),
        (8, False, rounds((50, 0.8), (50, 0.7), (50, 0.6)), "drift"),
        (8, False, rounds((50, 0.8), (50, 0.7), (50, 0.68)), None),
        (8, False, rounds((50, 0.8), (50, 0.7)), None),
        (8, False, rounds((50, 0.6), (50, 0.7), (50, 0.6)), None),
    ],
)
def test_a_set_ends_at_its_target_its_acceptance_its_drift_and_its_depth(size, exhausted, history, name):
    end = policy.ending(PropagateSettings(), size, exhausted, history)
    assert (end.name if end else None) == name


@pytest.mark.parametrize(
    ("passed", "name"),
    [((0,), None), ((1,), None), ((0, 0), None), ((0, 0, 0), "acceptance"), ((1, 0, 0), None), ((0, 0, 1), None)],
)
def test_sixteen_candidates_alone_end_no_growth(passed, name):
    known = [{"considered": 16, "passed": one, "mean_cosine": 0.7, "standard_error": 0.1} for one in passed]
    end = policy.ending(PropagateSettings(), 1, False, known)
    assert (end.name if end else None) == name


def test_a_plan_doubles_the_set_every_turn():
    assert policy.planned(PropagateSettings(propagate_steps=10), 5) == (16 * (1 + 2 + 4 + 8 + 16), 50)
    assert policy.planned(PropagateSettings(seed_images=("a", "b"), propagate_target=6), 3)[0] == 16 * (2 + 4 + 6)
    assert propagate.SYSTEM.cost(PropagateSettings(), 1) == (16, 40)


def test_the_owner_is_asked_about_all_of_a_small_set_and_of_a_large_one_the_farthest_five_and_a_tenth():
    new = [str(number) for number in range(20)]
    assert policy.to_confirm(new[:4], 8) == new[:4]
    assert policy.to_confirm(new, 40) == ["0", "1", "2", "3", "4", "5", "15"]
    assert policy.to_confirm(new[:3], 40) == new[:3]


def test_a_set_begins_with_its_originals_and_loses_what_the_owner_grades_down():
    grown = growing_set.first(["a", "b"], {"a": ImageFacts("ink portrait")}, ConceptToken("<s>", "portrait"))
    assert [(one["prompt"], one["depth"]) for one in grown["members"]] == [("ink <s> portrait", 0), ("<s> portrait", 0)]
    known = {"prompt": "p", "depth": 1, "parents": ["a"], "unit": "u"}
    figures = {"considered": 4, "passed": 1, "mean_cosine": 0.5, "standard_error": 0.1}
    grown = growing_set.extended(grown, Selection(taken=("c",), cosines=(0.7,), **figures), {"c": ImageFacts(**known)})
    assert grown["members"][-1] == {"digest": "c", "cosine": 0.7, **known}
    assert grown["rounds"] == [figures | {"taken": 1, "size": 3}]
    kept, gone, doubted = growing_set.confirmed(grown, {"c": ImageFacts("", 3), "a": ImageFacts("", 1)})
    assert (gone, doubted, [one["digest"] for one in kept["members"]]) == (["c"], [], ["a", "b"])
    assert growing_set.confirmed(grown, {"c": ImageFacts("", 4)})[1] == []
    assert growing_set.token_of(["a", "b"]) == growing_set.token_of(["b", "a"]) != growing_set.token_of(["a"])


def test_what_one_turn_let_in_stands_or_falls_with_what_the_owner_looked_at():
    originals = growing_set.first(["a"], {"a": ImageFacts("ink portrait")}, ConceptToken("<s>", "portrait"))
    members = [
        {"digest": digest, "prompt": "p", "depth": 1, "unit": unit, "cosine": 0.7}
        for digest, unit in (("b", "u"), ("c", "u"), ("d", "u"), ("e", "u"), ("f", "v"), ("g", "v"))
    ]
    grown = originals | {"members": [*originals["members"], *members]}

    def left(grades, grown=grown):
        return growing_set.confirmed(grown, {digest: ImageFacts("", grade) for digest, grade in grades.items()})

    after, gone, doubted = left({"b": 3, "c": 1, "d": 5, "f": 2})
    assert gone == ["b", "c", "f"]
    assert doubted == ["e"], "nobody looked at it, and two of its turn were poor; one poor of another turn says little"
    assert [one["digest"] for one in after["members"]] == ["a", "d", "g"], (
        "what the owner likes stays, and the original"
    )
    assert left({"b": 3})[1:] == (["b"], [])
    once = left({"b": 3})[0]
    assert left({"c": 3}, once)[1:] == (["c"], ["d", "e"]), "what left a morning before still counts"


def seed(home):
    """Puts a reddish image file beside a home and returns its path."""
    import stand_ins

    path = home / "seed.png"
    path.write_bytes(stand_ins.png(140, 100, 100))
    return path


def start(bench, home, *more):
    words = ["propagate" if word == "converge" else word for word in bench.start(home)]
    words[words.index("--units") + 1] = "3"
    return (*words, *more)


@pytest.fixture
def stand_ins_path(monkeypatch, nights_module):
    monkeypatch.syspath_prepend(str(nights_module.FOLDER))


def test_a_night_doubles_a_set_and_the_next_one_honours_what_the_owner_says(bench, stand_ins_path):
    home = bench.home("grow")
    image = ("--seed-image", str(seed(home)))
    code, planned, err = bench.konomi(home, "night", "plan", "propagate", "--units", "3", *image, "--json", **SMALL)
    assert (code, planned["images"], planned["training_steps"]) == (0, 16 * (1 + 2 + 4) + 4 * 16, 9), err
    code, result, err = bench.konomi(home, *start(bench, home, *image), **SMALL)
    assert code == 0, err
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    turns = [one for one in state["units"] if "stage" in one]
    assert [one["selection"]["size"] for one in turns] == [2, 4, 8]
    assert (result["state"], result["reason"]["name"]) == ("finished", "target")
    steps = [step["name"] for step in state["steps"]]
    assert steps.index("unit-1/train") < steps.index("unit-1/generate-000") < steps.index("unit-1/grow")
    request = json.loads((home / "nights" / result["night"] / "request.json").read_text())
    token = request["settings"]["seed_token"]
    (original,) = request["settings"]["seed_images"]
    assert all(token in prompt for prompt in request["prompts"])

    last = turns[2]["selection"]
    manifest = json.loads((home / "artifacts" / last["manifest"]).read_text())["items"]
    weights = {item["digest"]: item["weight"] for item in manifest}
    assert len(weights) == 4, "the third unit was fitted on what the second took in"
    assert weights[original] / sum(weights.values()) == pytest.approx(0.5)
    assert all(token in item["caption"] for item in manifest)
    grown = json.loads((home / "artifacts" / last["set"]).read_text())
    assert grown["members"][0]["depth"] == 0
    assert all(1 <= one["depth"] <= 4 for one in grown["members"][1:])
    rows = sqlite3.connect(home / "databases" / "stand-in-images.sqlite").execute("SELECT k, v FROM t").fetchall()
    known = {digest: json.loads(about) for digest, about in rows}
    for one in grown["members"][1:]:
        assert known[one["digest"]]["parameters"]["depth"] == one["depth"]
        assert one["unit"] in {unit["model"] for unit in turns}
    asked = [warning["name"] for unit in turns for warning in unit["warnings"]]
    assert asked.count("confirm") == 3
    assert len(last["confirm"]) == 4, "every new member of a small set waits for the owner"

    labels = sqlite3.connect(home / "databases" / "stand-in-labels.sqlite")
    with labels:
        labels.execute("INSERT INTO t VALUES (?, ?)", (last["taken"][0], json.dumps(rater_pb2.GRADE_R)))
    again = start(bench, home, *image, "--request-id", "00000000-0000-4000-8000-000000000009")
    code, result, err = bench.konomi(home, *again, **SMALL | {"KONOMI_NIGHT_PROPAGATE_TARGET": "16"})
    assert code == 0, err
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    (removed,) = [one for unit in state["units"] for one in unit.get("warnings", []) if one["name"] == "removed"]
    assert removed["numbers"]["count"] == 1
    first = next(one for one in state["units"] if "stage" in one)
    assert first["selection"]["n"] + 7 == first["selection"]["size"]
    report = (home / "report" / "index.html").read_text()
    assert "left the set" in report
    assert "candidates were copies of an original" in report


def test_a_base_that_cannot_learn_words_gets_a_lora_and_plain_prompts(bench, stand_ins_path):
    home = bench.home("lora")
    (home / "no-words").touch()
    code, result, err = bench.konomi(
        home, *start(bench, home, "--seed-image", str(seed(home)), "--units", "1"), **SMALL
    )
    assert code == 0, err
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    unit = next(one for one in state["units"] if "stage" in one)
    assert unit["tokens"] == []
    assert unit["selection"]["considered"] > 0


def begun(hands, *seeds, prompts=("a portrait",)):
    """Returns the request of a night as it begins on stand-in services."""
    settings = night_settings()(home=hands.home, seed_images=seeds)
    asked = preparation.new_request(
        "propagate", "tastes/default", 1, settings, GuardSettings(home=hands.home), list(prompts)
    )
    return preparation.complete_request(asked, hands, NightStore(hands.home))


@pytest.mark.parametrize(
    ("seeds", "error", "words"),
    [
        ((), errors.FailedPrecondition, "propagate grows from 1 to 5 images, and 0 of the taste's are graded UR"),
        (("0" * 64,), errors.NotFound, "knows no image 000000000000"),
        (("nowhere.png",), errors.NotFound, "nothing at nowhere.png"),
        (tuple(str(n) * 64 for n in range(6)), errors.InvalidArgument, "from 1 to 5 images, 6 were named"),
    ],
)
def test_seeds_that_cannot_be_used_are_refused(hands, seeds, error, words):
    with pytest.raises(error, match=words):
        begun(hands, *seeds)


def test_a_folder_without_images_and_a_file_that_is_none_are_refused(hands):
    (hands.home / "empty").mkdir()
    with pytest.raises(errors.InvalidArgument, match="expected images in empty, found none"):
        begun(hands, str(hands.home / "empty"))
    with pytest.raises(errors.InvalidArgument, match=r"prompts\.txt"):
        begun(hands, str(hands.home / "prompts.txt"))


def test_without_seeds_the_images_graded_ur_are_grown_from_and_their_caption_names_the_class(hands):
    import stand_ins

    client = hands.client
    digests = [client.artifacts.put(stand_ins.png(200, n, n), "image/png").digest for n in range(2)]
    images = [
        rater_pb2.Image(digest=digest, prompt="ink cat, sunny", source=rater_pb2.SOURCE_IMPORTED) for digest in digests
    ]
    requests = [rater_pb2.AddImagesRequest(taste="tastes/default", image=image) for image in images]
    list(client.rater.add_images(iter(requests)))
    labels = [rater_pb2.Label(image_digest=digest, grade=rater_pb2.GRADE_UR) for digest in digests]
    client.rater.record_labels(taste="tastes/default", labels=labels)
    settings = begun(hands, prompts=["a dog"]).settings
    assert (settings["seed_images"], settings["seed_class"]) == (digests, "cat")
    assert settings["seed_token"] == growing_set.token_of(digests)
    assert begun(hands, prompts=["a dog"]).prompts == [f"{settings['seed_token']} cat, a dog"]


def test_a_killed_night_grows_the_very_set_an_unbroken_one_grows(bench, stand_ins_path, nights_module):
    sets = []
    for name, killed in (("whole", False), ("broken", True)):
        home = bench.home(name)
        begin = start(bench, home, "--seed-image", str(seed(home)))
        if killed:
            child = bench.spawn(home, *begin, **SMALL, STAND_IN_SECONDS="0.03")
            log = home / "calls.log"
            while child.poll() is None and not (log.exists() and log.read_text().count("train") >= 2):
                time.sleep(0.02)
            assert child.poll() is None, "killed while its second turn is under way"
            nights_module.kill(child.pid)
            child.communicate()
        code, result, err = bench.konomi(home, *begin, **SMALL)
        assert code == 0, err
        turns = [
            one
            for one in json.loads((home / "nights" / result["night"] / "night.json").read_text())["units"]
            if "stage" in one
        ]
        sets.append([(one["selection"]["manifest"], one["adapter"]) for one in turns])
        members = json.loads((home / "artifacts" / turns[-1]["selection"]["set"]).read_text())["members"]
        sets.append([(one["digest"], one["depth"]) for one in members])
        calls = (home / "calls.log").read_text()
        assert calls.count("train") == 3, "no fit was done twice"
    assert sets[:2] == sets[2:]
