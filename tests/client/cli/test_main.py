"""The table of commands: global options anywhere, help in two languages, exit codes, lazy imports."""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest
import typer

from konomi import errors
from konomi.cli import commands
from konomi.cli.console import exit_code
from konomi.client.messages import plain
from konomi.i18n import catalogue
from konomi.v1 import rater_pb2 as rater
from konomi.v1 import trainer_pb2 as trainer

JAPANESE_LETTERS = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


@pytest.fixture(autouse=True)
def english():
    yield
    catalogue.use("en")


def run(capsys, *arguments):
    code = commands.run(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_help_lists_every_command_and_imports_none(capsys):
    table = {"konomi.cli.commands", "konomi.cli.console", "konomi.cli.completion"}
    loaded = f"[name for name in sys.modules if name.startswith('konomi.cli.') and name not in {table}]"
    code = f"import sys; from konomi.cli import commands; commands.run(['--help']); print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in ("up", "doctor", "demo", "import", "label", "rater", "score", "explore", "night", "concepts", "models"):
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_has_help_with_an_example(name, capsys):
    found = getattr(importlib.import_module(commands.COMMANDS[name].module), commands.COMMANDS[name].name)
    lines = [[name]]
    if isinstance(found, typer.Typer):
        lines = [[name, info.name or info.callback.__name__] for info in found.registered_commands]
    for line in lines:
        code, out, _ = run(capsys, *line, "--help")
        assert code == 0
        assert f"Example: konomi {' '.join(line)}" in out


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_help_is_in_japanese_too(name, capsys):
    for line in ([name, "--help", "--lang", "ja"], ["--lang=ja", name, "--help"]):
        code, out, _ = run(capsys, *line)
        assert code == 0
        assert JAPANESE_LETTERS.search(out)
    command = commands.command_for([name]).commands[name]
    untranslated = [words for words in helps(command) if not JAPANESE_LETTERS.search(words)]
    assert untranslated == []


def helps(command):
    yield command.help
    yield from (parameter.help for parameter in command.params if getattr(parameter, "help", None))
    for child in getattr(command, "commands", {}).values():
        yield from helps(child)


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "de_DE", "LC_MESSAGES": "ja"}, "ja"),
    ],
)
def test_language_of_the_environment(environment, language):
    assert catalogue.choose(environment) == language


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Usage"),
        (["nope"], 2, "nope"),
        (["score"], 2, "PATH"),
        (["score", "--nope"], 2, "--nope"),
        (["--home"], 2, "--home"),
        (["--lang", "fr", "up"], 2, "fr"),
        (["models", "list"], 3, "konomi up"),
        (["models", "fetch", "x"], 2, "no model is called x"),
        (["models", "compare", "a"], 2, "two models"),
        (["score", "x.png", "--write", "exif"], 2, "xmp"),
        (["explore", "--count", "0"], 2, "count"),
        (["label", "--export", "a", "--import", "b"], 2, "--export"),
    ],
)
def test_bad_lines_say_why(arguments, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("KONOMI_HOME", str(tmp_path))
    found, out, err = run(capsys, *arguments)
    assert found == code
    assert said in err + out
    assert "Traceback" not in err


def test_version(capsys):
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert re.fullmatch(r"konomi \d+\.\d+\.\d+.*\n", out)


def test_home_may_stand_anywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KONOMI_HOME", "elsewhere")
    for line in (["--home", str(tmp_path), "models", "list"], ["models", "list", f"--home={tmp_path}"]):
        os.environ["KONOMI_HOME"] = "elsewhere"
        code, _, err = run(capsys, *line)
        assert code == 3
        assert str(tmp_path) in err


def test_double_dash_ends_the_options():
    options = commands.take_globals(["score", "--", "--home", "x"])
    assert (options.home, options.rest) == (None, ["score", "--", "--home", "x"])


def test_a_missing_module_of_an_extra_names_the_pip_line(monkeypatch, capsys):
    entry = commands.CommandEntry("no_such_night", "app", "help")
    monkeypatch.setitem(commands.COMMANDS, "night", entry)

    def lacking(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="dbos.workflow")

    monkeypatch.setattr(commands.importlib, "import_module", lacking)
    code, _, err = run(capsys, "night", "plan")
    assert code == 4
    assert "pip install" in err and "[overnight]'" in err


def test_a_module_that_no_extra_brings_is_a_bug(monkeypatch):
    monkeypatch.setitem(commands.COMMANDS, "night", commands.CommandEntry("no_such_night", "app", "help"))
    with pytest.raises(ModuleNotFoundError):
        commands.run(["night"])


def test_exit_codes():
    assert exit_code(errors.Internal("x")) == 1
    assert exit_code(errors.NotFound("x")) == 1
    assert exit_code(errors.InvalidArgument("x")) == 2
    assert exit_code(errors.Unimplemented("x")) == 2
    assert exit_code(errors.Unavailable("x")) == 3
    assert exit_code(errors.PermissionDenied("x")) == 4
    assert exit_code(errors.FailedPrecondition("x")) == 4


def test_messages_as_plain_json():
    version = rater.RaterVersion(name="v", label_count=2**40, metrics={"srcc": rater.Estimate(value=float("nan"), n=3)})
    version.create_time.FromJsonString("2026-01-02T03:04:05Z")
    found = json.loads(json.dumps(plain(version), allow_nan=False))
    assert found["label_count"] == 2**40
    assert found["metrics"] == {"srcc": {"value": None, "low": 0.0, "high": 0.0, "n": 3}}
    assert found["create_time"] == "2026-01-02T03:04:05Z"
    assert found["active"] is False
    assert plain(rater.Image(grade=rater.GRADE_SSR, parents=["a"])) | {"x": 1} == {
        **plain(rater.Image()),
        "grade": "SSR",
        "parents": ["a"],
        "x": 1,
    }
    assert plain(trainer.Model(method=trainer.TRAINING_METHOD_LORA))["method"] == "LORA"
    assert "score" not in plain(rater.Image())
    assert "signature" not in plain(rater.Score()) and plain(rater.Score(signature=b"ab"))["signature"] == "YWI="
    json.dumps(plain(rater.Image(score=rater.Score(utility=3.0, signature=b"ab"))))
