"""Which base model suits a taste: equal prompts and seeds, figures with intervals, a warning where it is a guess."""

import importlib
import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from konomi.cli.models import compare as command
from konomi.cli.models.compare import _Attached, _sheet, advised
from konomi.client import Client
from konomi.errors import FailedPrecondition, InvalidArgument, NotFound
from konomi.evaluation import base_models
from konomi.i18n import catalogue
from konomi.night.gateway.services import NightServices
from konomi.taste import prompts

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


@pytest.mark.parametrize(("given", "asked"), [((), ["a dragon", "a cat"]), (("a dog",), ["a dog"])])
def test_bases_are_compared_on_the_prompts_that_were_kept(tmp_path, monkeypatch, given, asked):
    monkeypatch.setenv("KONOMI_HOME", str(tmp_path / "home"))
    prompts.keep(tmp_path / "home", "default", ["a dragon", "a cat"])
    compared = []

    def judged(gateway, bases, asked, count, seed, update):
        compared.append(asked)
        return []

    client = SimpleNamespace(artifacts=SimpleNamespace(get=None))
    monkeypatch.setattr(command, "attached", lambda: nullcontext(client))
    monkeypatch.setattr(command, "check", lambda gateway, bases: None)
    monkeypatch.setattr(command, "compare", judged)
    monkeypatch.setattr(command, "_sheet", lambda *_: "")
    for taste in ("default", "tastes/default"):
        command.compare_bases(["starter", "sdxl"], taste, given, 2, 0, tmp_path / "sheet.html", True)
    assert compared == [asked, asked]
