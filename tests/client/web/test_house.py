"""What the page's own files may hold: no markup from strings, no code from strings, no other host, every word twice."""

import json
import re

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


def test_every_word_that_is_used_exists_in_both_languages():
    words = (FOLDER / "i18n/words.js").read_text("utf-8")
    known = dict(re.findall(r"^  (\w+): \[(.*?)\],?$", words.replace(",\n    ", ", "), re.MULTILINE))
    pairs = {key: json.loads(f"[{value}]") for key, value in known.items()}
    assert all(len(pair) == 2 and all(pair) for pair in pairs.values())
    used = set()
    for path in SCRIPTS:
        used |= set(re.findall(r'\b(?:t|brief)\("(\w+)"', path.read_text("utf-8")))
    assert used <= set(pairs)
    for english, japanese in pairs.values():
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", japanese)), english


def test_the_shell_serves_each_file_once_and_the_worker_knows_them_all():
    static = StaticFiles()
    worker = (FOLDER / "sw.js").read_text("utf-8")
    assert "%VERSION%" in worker and "%FILES%" in worker
    assert {"/", "/sw.js", "/manifest.webmanifest", "/static/app.js", "/icon-192.png"} <= set(static._answers)
    assert b"%" + b"FILES%" not in static._answers["/sw.js"][0]
