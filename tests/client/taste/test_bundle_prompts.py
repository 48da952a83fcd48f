"""Prompts somebody wrote down travel with a taste; what a bundle brings is taken as the page takes it, or refused."""

import hashlib
import json
from pathlib import Path

import pytest

from konomi.errors import InvalidArgument
from konomi.home import Home
from konomi.taste import bundle, prompts
from konomi.taste.bundle_format import BundleEntry

HERE = ["a red portrait", "好み"]


def content(lines: object) -> bytes:
    return json.dumps({"kind": "konomi.prompts", "schema": 1, "prompts": lines}).encode()


def moved(home: Home, lines: list[str], taste: str, replace: bool = False) -> list[str]:
    """Returns what was said of prompts that were restored."""
    said: list[str] = []
    bundle.restore_prompts(home, lines, taste, replace, said.append)
    return said


def test_prompts_travel_and_a_taste_without_any_has_the_bundle_it_had(tmp_path):
    home, there = Home(tmp_path / "here"), Home(tmp_path / "there")
    bare = bundle.own_parts(home, [], "mine")
    assert set(bare) == {"nights", "settings"} and bare == bundle.own_parts(home, [])
    prompts.keep(home.root, "mine", HERE)
    parts = bundle.own_parts(home, [], "mine")
    assert {name: part for name, part in parts.items() if name != "prompts"} == bare
    lines = bundle._prompts(parts["prompts"])
    assert moved(there, lines, "tastes/other") == []
    assert prompts.kept(there.root, "other") == HERE
    assert bundle.own_parts(there, [], "tastes/other")["prompts"] == parts["prompts"]


def test_an_older_bundle_brings_none_and_takes_none_away(tmp_path):
    home = Home(tmp_path)
    prompts.keep(home.root, "mine", HERE)
    assert moved(home, bundle._prompts(b""), "mine", replace=True) == []
    assert prompts.kept(home.root, "mine") == HERE


def test_kept_prompts_are_never_overwritten_in_silence(tmp_path):
    home = Home(tmp_path)
    prompts.keep(home.root, "mine", HERE)
    assert moved(home, HERE, "mine") == []
    said = moved(home, ["b", "c", "d"], "tastes/mine")
    assert said == ["the prompts kept for tastes/mine stay as they are; the bundle's 3 were not written"]
    assert prompts.kept(home.root, "mine") == HERE
    said = moved(home, ["b"], "tastes/mine", replace=True)
    assert said == ["the prompts kept for tastes/mine were replaced by the bundle's 1"]
    assert prompts.kept(home.root, "mine") == ["b"]


def test_lines_are_cleaned_as_on_the_page():
    assert bundle._prompts(content([" a ", "a", "", "  ", "b"])) == ["a", "b"]


@pytest.mark.parametrize(
    ("lines", "words", "reason"),
    [
        (["a", "two\nlines"], "prompt 2 cannot be used: expected one line of at most 4096 bytes", "PROMPT_INVALID"),
        (["a\x1b[2J"], "prompt 1 cannot be used", "PROMPT_INVALID"),
        (["a\u2028b"], "prompt 1 cannot be used", "PROMPT_INVALID"),
        (["\ud800"], "prompt 1 cannot be used", "PROMPT_INVALID"),
        (["x" * 4097], "prompt 1 cannot be used", "PROMPT_INVALID"),
        ([str(number) for number in range(513)], "expected at most 512 prompts, got 513", "TOO_MANY_PROMPTS"),
        ([{"a": 1}], "expected the prompts of a taste in the bundle, found other content", "PROMPT_INVALID"),
        ("a", "expected the prompts of a taste in the bundle, found other content", "PROMPT_INVALID"),
        ({"a": 1}, "expected the prompts of a taste in the bundle, found other content", "PROMPT_INVALID"),
    ],
)
def test_hostile_lines_are_refused(lines, words, reason):
    with pytest.raises(InvalidArgument, match=words) as caught:
        bundle._prompts(content(lines))
    assert (caught.value.reason, caught.value.field) == (reason, "prompts")


@pytest.mark.parametrize("data", [b"no json", b"[1]", b"[" * 100_000, b"\xff"])
def test_what_is_no_document_is_refused(data):
    with pytest.raises(InvalidArgument, match="expected the prompts of a taste in the bundle"):
        bundle._prompts(data)


def test_more_than_can_be_kept_is_not_even_read():
    entry = BundleEntry(hashlib.sha256(b"").hexdigest(), "application/json", 2**40, "prompts")
    with pytest.raises(InvalidArgument, match="expected at most 512 prompts of 4096 bytes") as caught:
        bundle._check_size(entry)
    assert caught.value.reason == "TOO_MANY_PROMPTS"


@pytest.mark.parametrize("taste", ["../../up", "tastes/../x", "A", ""])
def test_a_name_that_leads_elsewhere_writes_nothing(tmp_path, taste):
    with pytest.raises(InvalidArgument):
        moved(Home(tmp_path / "home"), ["a"], taste)
    assert not list(Path(tmp_path).rglob("*.txt"))
