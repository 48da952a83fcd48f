"""What the page's own files may hold: no markup from strings, no code from strings, no other host, every word twice."""

import re
from pathlib import Path

from hatch_build import PACKAGE, page_words
from konomi.web.static_files import FOLDER, StaticFiles

SCRIPTS = sorted(FOLDER.rglob("*.js"))
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.setHTML|srcdoc|on\w+=|javascript:"
    r"|setTimeout\(\s*[\"'`]|DOMParser|createContextualFragment"
)


def test_scripts_make_no_markup_and_no_code_from_text():
    assert len(SCRIPTS) > 15
    assert not [(path.name, hit[0]) for path in SCRIPTS for hit in FORBIDDEN.finditer(path.read_text("utf-8"))]


def test_the_page_is_plain_files_without_inline_code_or_foreign_hosts():
    page = (FOLDER / "index.html").read_text("utf-8")
    assert not re.findall(r"\son\w+=|<style|style=|<script(?![^>]*src=)", page)
    hosts = {
        hit
        for path in FOLDER.rglob("*.*")
        if path.suffix != ".png"
        for hit in re.findall(r"https?://[\w.]+", path.read_text("utf-8"))
    }
    assert hosts <= {"http://www.w3.org"}


def test_a_file_stays_small_and_says_what_it_is():
    for path in SCRIPTS:
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) < 320, path.name
        assert lines[0].startswith("// "), path.name


def test_no_test_lets_the_page_evaluate_a_string_over_and_over():
    """The page's policy forbids it, and playwright does it only where the first look was too early."""
    again = "wait_for_" + "function("
    tests = Path(__file__).parents[2].rglob("*.py")
    assert not [path.name for path in tests if again in path.read_text("utf-8")]


KEY_OF_MANY = re.compile(r"_(?:zero|one|two|few|many)$")
LITERAL = re.compile(r"[\"`](\w+)[\"`]")
CALLED = re.compile(r'\b(?:t|brief|many)\("(\w+)"')
STEM = re.compile(r"\b(?:t|brief)\(`(\w+?)\$\{")
OF_THE_SERVER = {
    "new",
    "running",
    "stopped",
    "interrupted",
    "finished",
    "halted",
    "abandoned",
    "damaged",
    "promote",
    "halt",
    "start",
}
"""States of a night and decisions on a unit, which the page translates as they come."""


def test_every_word_that_is_used_exists_and_none_is_left_over():
    words = page_words(PACKAGE)
    scripts = "\n".join(path.read_text("utf-8") for path in SCRIPTS)
    assert set(CALLED.findall(scripts)) | OF_THE_SERVER <= set(words)
    stems = tuple(STEM.findall(scripts))
    assert all(any(key.startswith(stem) for key in words) for stem in stems)
    named = set(LITERAL.findall(scripts)) | OF_THE_SERVER
    assert not [key for key in words if KEY_OF_MANY.sub("", key) not in named and not key.startswith(stems)]


def test_every_word_is_given_what_it_leaves_to_be_filled_in():
    words = page_words(PACKAGE)
    scripts = "\n".join(path.read_text("utf-8") for path in SCRIPTS)
    calls = re.findall(r'\b(?:t|brief)\("(\w+)"(?:, (\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}))?\)', scripts)
    assert len(calls) > 150
    unfilled = [
        (key, name)
        for key, values in calls
        for name in re.findall(r"\{(\w+)\}", words[key])
        if not re.search(rf"\b{name}\b", values)
    ]
    assert unfilled == []


def test_the_shell_serves_each_file_once_and_the_worker_knows_them_all():
    static = StaticFiles()
    worker = (FOLDER / "sw.js").read_text("utf-8")
    assert "%VERSION%" in worker and "%FILES%" in worker
    assert {"/", "/sw.js", "/manifest.webmanifest", "/static/app.js", "/icon-192.png"} <= set(static._answers)
    assert {f"/static/i18n/{name}.json" for name in ("languages", "en", "ja")} <= set(static._answers)
    assert b"%" + b"FILES%" not in static._answers["/sw.js"][0]
