"""A made-up language over every help page, error and word of the page: what is still English was never translated."""

import importlib
import json
import re

import pytest
import typer

from hatch_build import PACKAGE, PAGE, page_words
from konomi.cli import commands
from konomi.i18n import catalogue
from tests.client.i18n.pseudo import CODE, OPEN, add_language, pseudo

NO_WORDS = re.compile(
    rf"^{pseudo('Usage:')}(?:.+\n)+"
    rf"|{pseudo('Example:')}(?:.+\n)+"  # the command stays as it is typed
    r"|^  (?!⟦)\S.*?(?:  +|$(?=\n +⟦))"  # the first column: a name, and a type
    r"|⟦[^⟧]*?(?:⟧|\.\.\.$)"  # translated; a list of commands cuts what is long
    r"|--?[\w-]+|\b[A-Z][A-Z\d_]+\b",  # an option, a placeholder
    re.MULTILINE,
)
WORD = re.compile(r"[A-Za-z]{2,}")


def command_lines() -> list[tuple[str, ...]]:
    """Returns every command and subcommand, and konomi itself."""
    lines: list[tuple[str, ...]] = [()]
    for name, entry in commands.COMMANDS.items():
        target = getattr(importlib.import_module(entry.module), entry.name)
        lines.append((name,))
        if isinstance(target, typer.Typer):
            lines += [(name, info.name or info.callback.__name__) for info in target.registered_commands]
    return lines


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A folder with the made-up language, built as every other."""
    package = tmp_path_factory.mktemp("package")
    add_language(package)
    return package


@pytest.fixture(autouse=True)
def made_up(words, monkeypatch):
    monkeypatch.setattr(catalogue, "FOLDER", words / "locale")
    yield
    catalogue.use("en")


def untranslated(shown: str) -> list[str]:
    """Returns the words of an output that are neither translated nor names of something."""
    return WORD.findall(NO_WORDS.sub(" ", shown))


@pytest.mark.parametrize("line", command_lines(), ids=" ".join)
def test_every_help_page_is_translated(line, capsys):
    assert commands.run(["--lang", CODE, *line, "--help"]) == 0
    shown = capsys.readouterr().out
    assert OPEN in shown
    assert untranslated(shown) == []


def test_the_sieve_finds_what_is_not_translated():
    head = f"{pseudo('Usage:')} konomi night [OPTIONS] {{system}}\n\n"
    assert (
        untranslated(f"{head}  {pseudo('Plan.')}\n\n{pseudo('Options')}:\n  --json <str>  {pseudo('Print.')}\n") == []
    )
    assert untranslated(f"{head}  Say what is missing.\n") == ["Say", "what", "is", "missing"]
    assert untranslated(f"{pseudo('Options')}:\n  --seed <int>  Seed of all.\n") == ["Seed", "of", "all"]


@pytest.mark.parametrize(
    "line",
    [
        ("--home",),
        ("models", "list"),
        ("models", "fetch", "x"),
        ("models", "compare", "a"),
        ("label", "--export", "a", "--import", "b"),
        ("night", "status", "--night", "none"),
        ("night", "resume"),
        ("night", "schedule", "25:00", "converge"),
        ("night", "queue", "add"),
        ("night", "queue", "move", "x", "1"),
        ("night", "queue", "remove", "x"),
        ("night", "queue", "run", "--then-run", "no-such-command"),
        ("night", "queue", "run", "--then-call", "nowhere"),
        ("night", "start", "no-such-plan.toml"),
        ("night", "verdict", "--keep", "--roll-back"),
        ("concepts", "teach", "wrong", "--name", "x"),
        ("import", "x.png", "--consent", "a", "--scraped"),
        ("sources", "revoke"),
        ("explain", "zz"),
        ("map", "--out", "x.png"),
        ("explore", "--favourites", "--skip", "3"),
        ("rater", "certify", "--stages", "x"),
        ("export", "kohya", "out", "--grade", "Z"),
    ],
    ids=" ".join,
)
def test_every_error_a_wrong_line_raises_is_translated(line, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("KONOMI_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANG", CODE)
    code = commands.run(list(line))
    shown = capsys.readouterr().err
    assert code != 0
    assert shown.startswith(f"konomi: {pseudo('error')}: {OPEN}"), shown
    assert not re.search(r"\{\w+\}", shown)


def test_every_word_of_the_page_is_translated_and_fills_what_the_english_fills(words):
    shown = json.loads((words / PAGE / f"{CODE}.json").read_text("utf-8"))
    english = page_words(PACKAGE)
    assert shown == {key: pseudo(text) for key, text in english.items()}


def test_every_sentence_keeps_its_names(words):
    for language in ("ja", CODE):
        folder = PACKAGE if language == "ja" else words
        translated = json.loads((folder / PAGE / f"{language}.json").read_text("utf-8"))
        for key, english in page_words(PACKAGE).items():
            assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", translated[key])), key
