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
from konomi.taste.rater_summary import alarms
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
    assert "証明済み: 60 枚のうち SSR 未満は 20 % 以下です(信頼度 95 %)" in again.stdout


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


def test_a_fits_own_alarms_are_said_in_both_languages(rater, library):
    rater.label(library.taste, grades_of(library, library.digests[:12]))
    version = rater.fit(library.taste)
    assert len(version.alarm_details) == len(version.alarms) > 0
    assert alarms(version) == list(version.alarms)
    catalogue.use("ja")
    try:
        assert all(JAPANESE.search(alarm) for alarm in alarms(version)), version
    finally:
        catalogue.use("en")
