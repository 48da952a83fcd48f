"""The guides: both languages give the same commands, every command and option is there, every link leads somewhere."""

import re
import shlex

import pytest
from babel.messages import pofile

from konomi.cli.commands import command_for
from tests.contract.source_tree import ROOT

GUIDES = ("first-night.md", "first-night.ja.md")


def commands(guide: str) -> list[str]:
    text = (ROOT / "docs" / guide).read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`(konomi [^`]+)`", text)
    return [line for block in blocks for line in block.splitlines()] + inline


def problem(line: str) -> str:
    """What of a command line konomi does not know; empty where it knows all of it."""
    words = shlex.split(line)[1:]
    command = command_for(words)
    context = command.make_context("konomi", [], resilient_parsing=True)
    while hasattr(command, "get_command") and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            return f"{words[0]} in {line}"
        command, words = found, words[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return next((f"{word} in {line}" for word in words if word.startswith("--") and word not in known), "")


@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_and_option_of_a_guide_is_there(guide: str):
    lines = commands(guide)
    assert len(lines) > 12
    assert [found for line in lines if (found := problem(line))] == []
    assert problem("konomi night begin") and problem("konomi night start converge --bass x")


def test_both_languages_give_the_same_commands():
    english, japanese = (
        re.findall(r"^konomi .*$", (ROOT / "docs" / g).read_text("utf-8"), re.MULTILINE) for g in GUIDES
    )
    assert english == japanese


def told_words(guide: str) -> list[str]:
    """What a guide says that konomi says, in its table of what to do: in Japanese within brackets, else in italics."""
    table = (ROOT / "docs" / guide).read_text("utf-8").rpartition("\n## ")[2]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    quoted = r"「([^」]+)」" if guide.endswith(".ja.md") else r"\*([^*]+)\*"
    return [words.strip() for cell in cells for words in re.findall(quoted, cell)]


@pytest.mark.parametrize(("guide", "language"), [("first-night.md", "en"), ("first-night.ja.md", "ja")])
def test_every_message_a_guide_explains_is_one_that_konomi_says(guide: str, language: str):
    folder = ROOT / "clients" / "python" / "konomi" / "locale" / "ja" / "LC_MESSAGES"
    with (folder / "konomi.po").open("rb") as file:
        catalogue = pofile.read_po(file)
    said = [str(message.id if language == "en" else message.string) for message in catalogue]
    said += [path.read_text("utf-8") for path in (ROOT / "services").rglob("*.py")] if language == "en" else []
    explained = told_words(guide)
    assert len(explained) > 12
    assert [words for words in explained if not any(words in sentence for sentence in said)] == []


@pytest.mark.parametrize("guide", [path.name for path in sorted((ROOT / "docs").glob("*.md"))])
def test_every_link_of_a_guide_leads_somewhere(guide: str):
    text = (ROOT / "docs" / guide).read_text("utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (ROOT / "docs" / link).exists()] == []
