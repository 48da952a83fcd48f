"""The home folder: where it is, what an odd path or a missing home directory does."""

import os
import subprocess
import sys

import pytest

from konomi.errors import FailedPrecondition
from konomi.home import Home, default_home


def test_the_home_is_named_or_below_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KONOMI_HOME", raising=False)
    assert default_home() == tmp_path / ".local" / "share" / "konomi"
    monkeypatch.setenv("KONOMI_HOME", "~/mine")
    assert Home.locate().root == tmp_path / "mine"


def test_a_user_without_a_home_directory_is_told_what_to_name():
    with pytest.raises(FailedPrecondition, match="--home or KONOMI_HOME") as refused:
        Home.locate("~no-such-user-here/x")
    assert refused.value.reason == "NO_HOME"


NOBODY = "import os; os.getuid = lambda: 12345678; from konomi.cli import main; main()"
"""The command line as a user without an entry in the system's list, which a container's often is."""


@pytest.mark.slow
def test_commands_of_a_user_without_a_home_directory_end_in_a_sentence():
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "KONOMI_HOME")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", NOBODY, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    for command in (["doctor"], ["night", "status"], ["import", "/"]):
        done = run(*command)
        assert (done.returncode, "Traceback" in done.stderr) == (4, False), done.stderr
        assert "this user has no home directory" in done.stderr
    assert run("--help").returncode == run("--version").returncode == 0


@pytest.mark.parametrize("name", ["a%20b", "what?", "x#y", "u::v", "two\nlines", "s p a c e", "é", "-dash", "[red]"])
def test_a_home_of_any_name_is_held_and_announces(tmp_path, name):
    home = Home.locate(tmp_path / name)
    with home.held():
        home.announce({"rater": "127.0.0.1:1"})
        assert home.running() == {"rater": "127.0.0.1:1"}
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_home_that_is_a_file_or_locked_is_told_as_that(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="File exists"), Home.locate(tmp_path / "file").held():
        pass
    with pytest.raises(FailedPrecondition, match="Not a directory"), Home.locate(tmp_path / "file" / "x").held():
        pass
