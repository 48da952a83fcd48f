"""A line the parser refuses: in English as typer says it, in any other language as the catalogue does; exit code 2."""

import re

import pytest

from konomi.cli import commands, usage
from konomi.i18n import catalogue
from tests.client.i18n.pseudo import CODE, OPEN, add_language, pseudo

LINES = {
    ("nigth",): "No such command 'nigth'. Did you mean 'night'?",
    ("nosuch",): "No such command 'nosuch'.",
    ("night", "status", "--nigth", "x"): "No such option: --nigth (Possible options: --night)",
    ("night", "status", "--zzz"): "No such option: --zzz",
    ("night", "--"): "Missing command.",
    ("export",): "Missing argument 'kohya|webdataset|parquet'. Choose from:\n\tkohya,\n\twebdataset,\n\tparquet",
    ("explain",): "Missing argument 'digest'.",
    ("concepts", "teach", "cat-1=cat:photos"): "Missing option '--name'.",
    ("demo", "--units"): "Option '--units' requires an argument.",
    ("demo", "--json=yes"): "Option '--json' does not take a value.",
    ("explain", "3fa85f64", "more"): "Got unexpected extra argument(s) (more)",
    ("score", ".", "--write", "exif"): "Invalid value for '--write': 'exif' is not one of 'xmp'.",
    (
        "demo",
        "--units",
        "three",
    ): "Invalid value for '--units': Input should be a valid integer, unable to parse string as an integer",
    ("rater", "certify", "--alpha", "little"): "Invalid value for '--alpha': Input should be a valid number, unable to "
    "parse string as a number",
    ("demo", "--units", "0"): "Invalid value for '--units': Input should be greater than or equal to 1",
    ("demo", "--units", "9"): "Invalid value for '--units': Input should be less than or equal to 5",
}
refused = pytest.mark.parametrize("line", LINES, ids=" ".join)


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("LANG", "C.UTF-8")
    for name in ("LC_ALL", "LC_MESSAGES", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    yield
    catalogue.use("en")


def literals(sentence: str) -> list[str]:
    """Returns the words of a sentence, without the parts that are filled in."""
    return [piece for piece in re.split(r"\{\w+\}", sentence) if re.search(r"[A-Za-z]{2}", piece)]


@refused
def test_in_english_nothing_is_said_but_what_typer_says_less_the_prefix_of_pydantic(line, capsys):
    with pytest.raises(SystemExit) as ended:
        commands.command_for(line)(list(line), prog_name="konomi", standalone_mode=True)
    own = capsys.readouterr().err.replace(usage.PYDANTICS, "")
    assert commands.run(line) == ended.value.code == 2
    assert capsys.readouterr().err == own
    assert own.endswith(f"Error: {LINES[line]}\n")


@refused
@pytest.mark.parametrize("by", ["option", "environment"])
def test_in_japanese_no_sentence_is_english(line, by, capsys, monkeypatch):
    if by == "environment":
        monkeypatch.setenv("LANG", "ja_JP.UTF-8")
    assert commands.run([*(["--lang", "ja"] if by == "option" else []), *line]) == 2
    shown = capsys.readouterr().err
    head, empty, error = shown.rpartition("\n\n")
    assert error.startswith("エラー: ")
    assert head.startswith("使い方: konomi") or not empty
    assert not [words for sentence in usage.REFUSALS for words in literals(sentence) if words in shown]
    assert "Try '" not in shown and "Usage:" not in shown
    for name in re.findall(r"'[^']+'", LINES[line]):
        assert name in shown


@pytest.mark.slow
@refused
def test_in_a_made_up_language_every_sentence_is_translated(line, capsys, monkeypatch, tmp_path):
    add_language(tmp_path)
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path / "locale")
    assert commands.run(["--lang", CODE, *line]) == 2
    head, empty, error = capsys.readouterr().err.rpartition("\n\n")
    if empty:  # a wrong option is told without its command
        used, way = head.splitlines()
        command = used.removeprefix(pseudo("Usage:")).split("[")[0].strip()
        assert way == pseudo("Try '{command} {option}' for help.").format(command=command, option="-h")
    message = usage.translated(LINES[line])
    assert message.startswith(OPEN)
    assert error == pseudo("Error: {message}").format(message=message) + "\n"
    assert not [words for sentence in usage.REFUSALS for words in literals(sentence) if words in message]


def test_every_sentence_of_the_table_is_met_by_a_line():
    met = set()
    for message in LINES.values():
        while message:
            sentence = next(entry for entry in usage.REFUSALS if usage._pattern(entry).fullmatch(message))
            met.add(sentence)
            message = usage._pattern(sentence).fullmatch(message).groupdict().get(usage.REASON)
    assert met == set(usage.REFUSALS)


def test_a_sentence_that_is_not_known_stays_as_it_is():
    catalogue.use("ja")
    assert usage.translated("The moon is full.") == "The moon is full."


def test_a_command_called_bare_answers_with_its_help(capsys):
    assert commands.run(["--lang", "ja", "night"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("使い方: konomi night") and "エラー" not in shown
