"""Shell completion as bash asks for it: commands, options, and names of what is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from konomi.cli import completion

ASK = """
COMP_WORDS=({words}) COMP_CWORD={place} COMPREPLY=()
_konomi_completion konomi
echo "${{COMPREPLY[*]}}"
"""


def bash(environment: dict[str, str], script: str) -> list[str]:
    tools = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environment | {"PATH": tools},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def completed(environment: dict[str, str], *lines: tuple[str, ...]) -> list[list[str]]:
    """Returns what bash offers for the last word of each line."""
    asked = [ASK.format(words=" ".join(f"'{word}'" for word in line), place=len(line) - 1) for line in lines]
    script = 'source /dev/stdin <<< "$(konomi --show-completion)"' + "".join(asked)
    return [offered.split() for offered in bash(environment, script)]


@pytest.mark.timeout(240)
def test_bash_completes_commands_options_and_names(live, png):
    for shade, taste in enumerate(("default", "second")):
        (live.home / f"{shade}.png").write_bytes(png(shade))
        live.json("import", "--taste", taste, str(live.home / f"{shade}.png"))
    assert completed(
        live.environment,
        ("konomi", "ex"),
        ("konomi", "score", "--ta"),
        ("konomi", "rater", "show", "--taste", ""),
        ("konomi", "models", "show", "unit"),
        ("konomi", "--lang", "ja", "night", "start", "gol"),
        ("konomi", "score", "--home"),  # half typed: nothing to add, and no complaint
    ) == [["explore", "explain", "export"], ["--taste"], ["default", "second"], ["unit-1", "unit-2"], ["golden"], []]


def test_where_nothing_runs_nothing_is_completed(command_line):
    assert completed(command_line.environment, ("konomi", "models", "show", "")) == [[]]


def test_the_newest_words_are_read_whatever_the_shell():
    assert completion.typed({}) is None
    assert completion.typed({"_KONOMI_COMPLETE": "complete_bash", "COMP_WORDS": "konomi\nmodels\nsh"}) == [
        "models",
        "sh",
    ]
    asked = {"_KONOMI_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "konomi night "}
    assert completion.typed(asked) == ["night"]


def test_nights_are_completed_from_the_home_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("KONOMI_HOME", str(tmp_path))
    assert completion.nights("") == []
    for name in ("6975f30d-a", "6975f30d-b", "7"):
        (tmp_path / "nights" / name).mkdir(parents=True)
    assert completion.nights("69") == ["6975f30d-a", "6975f30d-b"]


def test_the_completion_of_a_shell_is_installed_in_its_home(command_line, tmp_path):
    mine = tmp_path / "me"
    mine.mkdir()
    environment = command_line.environment | {"HOME": str(mine)}
    bash(environment, "konomi --install-completion > /dev/null; true")
    assert "konomi" in (mine / ".bashrc").read_text()
