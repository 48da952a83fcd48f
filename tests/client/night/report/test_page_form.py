"""What the page's form of a night reads and writes: base models, prompts, pictures to learn from; what it refuses."""

import pytest

from konomi.errors import FailedPrecondition, InvalidArgument, NotFound
from konomi.home import Home
from konomi.taste import prompts
from konomi.v1 import rater_pb2
from konomi.web.nights import NightEndpoints, NightForm
from konomi.web.nights import form as night_form

ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def form(client, tmp_path) -> NightForm:
    return NightForm(Home(tmp_path / "home"), lambda: client)


def test_the_base_models_are_those_of_this_machine_each_with_what_it_can_draw(form):
    told = form.bases({})
    assert (told["chosen"], told["golden_minimum"], told["units"], told["images"]) == ("starter", 8, 3, 320)
    (starter,) = told["bases"]
    assert starter["id"] == "starter" and starter["fit"] == "REDUCED" and starter["here"]
    assert starter["draws"].startswith("illustrated portraits of one small world only")
    assert form.bases({"language": "ja"})["bases"][0]["draws"] != starter["draws"]


def test_prompts_are_read_and_written(form, stand_in):
    assert form.prompts({}) == {"prompts": [], "origin": ""}
    stand_in.rater.images[ONE] = rater_pb2.Image(digest=ONE, prompt="a boat", source=rater_pb2.SOURCE_IMPORTED)
    assert form.prompts({}) == {"prompts": ["a boat"], "origin": "pictures"}
    assert form.keep_prompts({"prompts": ["a cat", " a cat"]}) == {"prompts": ["a cat"], "origin": "kept"}
    assert form.prompts({}) == {"prompts": ["a cat"], "origin": "kept"}
    assert form.keep_prompts({"prompts": []}) == {"prompts": [], "origin": ""}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"prompts": "a cat"}, "a list of at most 512 texts in prompts"),
        ({"prompts": [1]}, "a list of at most 512 texts in prompts"),
        ({"prompts": ["x" * 5000]}, "shorter texts in prompts"),
        ({"prompts": ["two\nlines"]}, "prompt 1 cannot be used"),
    ],
)
def test_prompts_that_are_none_are_refused(form, asked, words):
    with pytest.raises(InvalidArgument, match=words) as caught:
        form.keep_prompts(asked)
    assert caught.value.field == "prompts"


def test_a_trial_without_prompts_says_where_they_come_from(form):
    with pytest.raises(FailedPrecondition, match="konomi taste prompts --suggest") as caught:
        form.trial({})
    assert caught.value.reason == "NO_PROMPTS"
    prompts.keep(form._home.root, "default", ["a cat"])
    told = form.trial({})
    assert told == {"needed": False, "digests": [], "sentence": "", "figures": [], "warning": False}
    with pytest.raises(NotFound, match="no base model sdxl here; at hand: starter"):
        form.trial({"base": "sdxl"})


def test_what_the_form_adds_becomes_options_of_the_command(tmp_path, png):
    asked = {"base": "sdxl", "anyway": True, "seed_images": [ONE, TWO, ONE]}
    asked["concepts"] = [{"word": "Tama", "class": "cat", "images": [TWO]}]
    words = night_form.options(asked, Home(tmp_path), lambda digest: png(1))
    assert words[:6] == ["--base", "sdxl", "--seed-image", ONE, "--seed-image", TWO]
    assert words[6] == "--concept" and words[8:] == ["--anyway"]
    name, folder = words[7].split(":", 1)
    assert name == "tama=cat" and folder.startswith(str(tmp_path / "concepts" / "tama-"))
    assert [path.name for path in (tmp_path / "concepts").glob("*/*")] == [f"{TWO}.png"]
    assert night_form.options({}, Home(tmp_path), lambda digest: b"") == []


@pytest.mark.parametrize(
    ("asked", "words", "field"),
    [
        ({"base": "--help"}, "expected the name of a base model", "base"),
        ({"base": 3}, "expected a short text in base", "base"),
        ({"seed_images": ["../x"]}, "expected digests of pictures in seed_images", "seed_images"),
        ({"seed_images": [ONE] * 6}, "a list of at most 5 texts in seed_images", "seed_images"),
        ({"concepts": {}}, "expected at most 8 concepts", "concepts"),
        ({"concepts": ["tama"]}, "expected a concept with a word, a class and pictures", "concepts"),
        ({"concepts": [{"word": "タマ"}]}, "expected a word of small letters, digits and hyphens", "concepts"),
        ({"concepts": [{"word": "tama", "class": "a:b"}]}, "expected what tama is one of", "concepts"),
        ({"concepts": [{"word": "tama", "class": "cat"}]}, "expected pictures of tama, got none", "concepts"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, asked, words, field):
    with pytest.raises(InvalidArgument, match=words) as caught:
        night_form.options(asked, Home(tmp_path), lambda digest: b"")
    assert caught.value.field == field


def test_a_plan_is_made_for_the_base_model_that_is_chosen(tmp_path):
    desk = NightEndpoints(Home(tmp_path))
    assert desk.plan({"system": "converge", "base": "sdxl"})["units"] == 3
    with pytest.raises(InvalidArgument, match="name of a base model"):
        desk.plan({"system": "converge", "base": "../x"})
