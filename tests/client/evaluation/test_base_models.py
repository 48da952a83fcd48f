"""Which base model suits a taste: equal prompts and seeds, figures with intervals, a warning where it is a guess."""

import importlib
import json
import re
from pathlib import Path

import pytest

from konomi.cli.models import compare as command
from konomi.cli.models.compare import _Attached, _sheet, advised
from konomi.client import Client, connect_home
from konomi.errors import FailedPrecondition, InvalidArgument, NotFound
from konomi.evaluation import base_models
from konomi.home import Home
from konomi.i18n import catalogue
from konomi.night.draws import image_seed
from konomi.night.gateway.services import NightServices
from konomi.taste import prompts
from konomi.v1 import generator_pb2

PROMPTS = ["a red portrait", "a portrait", "a portrait, hat"]


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "night"))
    stand_ins = importlib.import_module("stand_ins")
    started = {role: stand_ins.start(role, tmp_path) for role in ("rater", "generator", "trainer")}
    with Client.from_addresses({role: address for role, (_, address) in started.items()}) as client:
        yield NightServices(_Attached(client), "tastes/default")
    for server, _ in started.values():
        server.stop(None)


@pytest.mark.slow
def test_the_base_the_taste_likes_comes_first_with_intervals(gateway):
    done: list[int] = []
    base_models.check(gateway, ["starter", "redder"])
    found = base_models.compare(gateway, ["starter", "redder"], PROMPTS, 48, 3, done.append)
    assert [one["base"] for one in found] == ["redder", "starter"] and done[-1] == 96 and done == sorted(done)
    best, other = found
    assert best["utility"]["low"] > other["utility"]["high"] and best["wins"] is None
    assert other["wins"]["high"] < 0.5 and other["wins"]["n"] == 48
    assert best["prompts"] == other["prompts"] and set(best["prompts"]) == set(PROMPTS)
    assert all(
        one[name]["low"] <= one[name]["value"] <= one[name]["high"] for one in found for name in ("p_ur", "p_ssr")
    )
    assert found == base_models.compare(gateway, ["starter", "redder"], PROMPTS, 48, 3, done.append), "the same seed"
    assert advised(found)[0] == "in the rater's eyes redder suits this taste best: surely better than starter"
    assert gateway.count() == 0, "what was made to look at is no image of the taste"
    for language, title in (("en", "Base models under this taste"), ("ja", "この好みから見た元のモデル")):
        catalogue.use(language)
        page = _sheet(found, "default", gateway.client.artifacts.get)
        catalogue.use("en")
        assert title in page and page.count("<img") > 90 and not re.search(r"https?://(?!www\.w3\.org)", page)


def test_a_base_the_rater_does_not_know_carries_a_warning_and_never_surely_wins():
    figures = {"vendi": 9.0, "unknown_share": 0.4, "typical_share": 0.5}
    sure = {"wins": {"high": 0.2}, "warning": "", "unknown_share": 0.0, "typical_share": 1.0}
    lines = advised([{"base": "alien", "warning": "untypical", "wins": None, **figures}, {"base": "starter", **sure}])
    assert lines[0].startswith("in the rater's eyes alien is ahead, but starter may be as good")
    assert lines[1].startswith("alien: 50 % of its images are unlike anything known")


@pytest.mark.parametrize(
    ("bases", "error", "words"),
    [
        (["starter"], InvalidArgument, "two base models or more"),
        (["starter", "starter"], InvalidArgument, "each once"),
        (["starter", "dreamy"], NotFound, "at hand: redder, starter"),
    ],
)
def test_what_cannot_be_compared_is_refused(gateway, bases, error, words):
    with pytest.raises(error, match=words):
        base_models.check(gateway, bases)


def test_without_a_rater_nothing_can_be_told(gateway, tmp_path):
    (tmp_path / "no-rater").touch()
    with pytest.raises(FailedPrecondition, match="rater fit"):
        base_models.check(gateway, ["starter", "redder"])


KEPT = ["a dragon, red scales", "a cat (sitting:1.2)", "猫、赤い背景", *[f"a portrait, {n}" for n in range(34)]]
"""Prompts as somebody writes them down: weights, another script, commas."""


@pytest.fixture
def up(gateway, tmp_path, monkeypatch) -> Home:
    """A home on which the services of `gateway` are announced as `konomi up` announces its own."""
    home = Home(tmp_path / "home")
    monkeypatch.setenv("KONOMI_HOME", str(home.root))
    with home.held():
        home.announce(gateway.client.addresses)
        yield home


@pytest.mark.slow
@pytest.mark.parametrize("taste", ["default", "tastes/default"])
def test_bases_are_compared_on_the_prompts_that_were_kept_each_as_it_was_written(up, tmp_path, capsys, taste):
    written = prompts.keep(up.root, taste, KEPT)
    command.compare_bases(["starter", "redder"], taste, (), len(written), 0, tmp_path / "sheet.html", True)
    told = json.loads(capsys.readouterr().out)
    assert told["prompts"] == len(written) == 37
    for base in told["bases"]:
        assert sorted(base["prompts"]) == sorted(written), "all of them, once each"
        place = base["prompts"].index("猫、赤い背景")
        again = {"prompt": "猫、赤い背景", "seed": image_seed(0, "bases", place)}
        made = generator_pb2.GenerateImagesRequest(base_model=base["base"], images=[again], unit="base")
        with connect_home() as client:
            (image,) = client.generator.generate_images(made)
        assert image.artifact.digest == base["digests"][place], "the generator had the words as they were written"


def test_prompts_on_the_line_come_before_those_that_were_kept(up, tmp_path, capsys):
    prompts.keep(up.root, "default", KEPT)
    command.compare_bases(["starter", "redder"], "default", ["a dog"], 8, 0, tmp_path / "sheet.html", True)
    told = json.loads(capsys.readouterr().out)
    assert told["prompts"] == 1 and {prompt for base in told["bases"] for prompt in base["prompts"]} == {"a dog"}


def test_fewer_images_than_prompts_is_said_with_what_draws_them_all(up, tmp_path, capsys):
    prompts.keep(up.root, "default", KEPT)
    command.compare_bases(["starter", "redder"], "default", (), 8, 0, tmp_path / "sheet.html", True)
    told = capsys.readouterr()
    assert json.loads(told.out)["prompts"] == 8
    assert "8 of 37 prompts were drawn" in told.err and "--images 37" in told.err
