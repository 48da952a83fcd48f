"""`konomi rater certify` against a real rater: graded blind by single keys, left and taken up again, in two tongues."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from konomi.home import Home
from konomi.i18n import catalogue
from konomi.i18n.ja import SPOKEN
from konomi.taste.rater_summary import spoken
from konomi_rater.measures import overoptimisation
from konomi_rater.usecases import selection
from tests.rater.conftest import Library, Rater, grades_of

JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


class Shell:
    """Runs `konomi` as the owner does."""

    def __init__(self, home: Path):
        self.home = home

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess:
        environment = {**os.environ, "KONOMI_HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        command = [sys.executable, "-m", "konomi", "rater", "certify", *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=environment, timeout=120, check=False
        )


@pytest.fixture
def shell(rater: Rater) -> Iterator[Shell]:
    home = Home(rater.home)
    with home.held():
        home.up_file.write_text(json.dumps({"rater": rater.address}))
        yield Shell(rater.home)


@pytest.fixture
def members(library: Library, tmp_path: Path) -> Path:
    path = tmp_path / "members.txt"
    path.write_text("\n".join(library.digests[:60]))
    return path


def test_a_set_is_certified_key_by_key_over_two_sittings(shell: Shell, members: Path):
    typo = shell.run("--set", str(members), stdin="5\n7\n")
    assert typo.returncode == 2 and "expected one of 1-5, z and q" in typo.stderr
    first = shell.run("1", stdin="1\nz\n4\n4\nq\n")
    assert first.returncode == 0
    assert "27 of 30 images are left to grade; go on with: konomi rater certify 1" in first.stdout
    assert "utility" not in first.stderr
    done = shell.run("1", "--json", stdin="4\n" * 25 + "1\n2\n")
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["certified"], said["ended"], said["rejections"], said["certified_size"]) == (True, True, 2, 60)
    again = shell.run("--set", str(members), "--lang", "ja")
    assert "証明済み: 60 枚のうち SSR 未満は 20% 以下です(信頼度 95%)" in again.stdout


def test_the_raters_own_choice_is_audited_and_may_fail(shell: Shell, fitted: Library):
    done = shell.run("--count", "30", "--stages", "10,99", "--rejections", "0", stdin="1\n" * 40)
    assert done.returncode == 0, done.stderr
    assert "not certified: " in done.stdout and "may be below SSR" in done.stdout


REFUSED = [
    (("--set", "{home}/nothing"), 2, "expected a readable file of digests"),
    (("--set", "{bad}"), 2, "expected a sha256 digest on each line"),
    (("--set", "{good}", "--stages", "ten"), 2, "expected sizes such as 50,100"),
    (("--set", "{good}", "--threshold", "SSSR"), 2, "expected a grade N, R, SR, SSR or UR"),
    (("--set", "{good}", "--alpha", "0"), 2, "expected alpha above 0 and below 1"),
    (("7",), 1, "found no certificate 7"),
    (("--policy", "golden"), 4, "selected no image"),
]


def test_what_cannot_be_certified_is_said(shell: Shell, members: Path, tmp_path: Path):
    bad = tmp_path / "bad.txt"
    bad.write_text("not-a-digest\n")
    places = {"home": tmp_path, "bad": bad, "good": members}
    for arguments, code, words in REFUSED:
        done = shell.run(*(argument.format(**places) for argument in arguments))
        assert (done.returncode, words in done.stderr) == (code, True), (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def samples() -> list[str]:
    numbers = {"first": "base", "last": "unit-2", "proxy": 0.5, "human": -0.1, "ratio": 2.5, "share": 0.3, "base": 0.1}
    numbers |= {"nats": 7.0, "limit": 6.0, "n": 40, "against": 3, "srcc": 0.2, "earlier": 0.5}
    numbers |= {"needed": 500, "labels": 40, "rate": 0.2, "count": 12, "admitted": 20}
    return [words.format(**numbers) for words in (*overoptimisation.SENTENCES.values(), *selection.SENTENCES.values())]


@pytest.mark.parametrize("sentence", samples())
def test_what_the_server_says_is_said_in_japanese_too(sentence):
    catalogue.use("ja")
    try:
        said = spoken(sentence)
    finally:
        catalogue.use("en")
    assert JAPANESE.search(said) and "{" not in said
    assert spoken(sentence) == sentence


def test_a_fits_own_alarms_are_translated(rater, library):
    rater.label(library.taste, grades_of(library, library.digests[:12]))
    found = rater.fit(library.taste).alarms
    assert found
    catalogue.use("ja")
    try:
        assert all(JAPANESE.search(spoken(alarm)) for alarm in found), found
    finally:
        catalogue.use("en")
    assert len(SPOKEN) >= len(overoptimisation.SENTENCES) + len(selection.SENTENCES)
