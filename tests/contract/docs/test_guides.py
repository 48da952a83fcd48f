"""The guides: both languages give the same commands, every command and option is there, every link leads somewhere."""

import re
import shlex
from functools import cache

import pytest
from babel.messages import pofile

from konomi.cli.commands import command_for
from konomi_chassis.__main__ import _parser as chassis_parser
from tests.contract.source_tree import ROOT

PAGES = (
    "backup", "base-models", "faq", "grading", "index", "install", "library", "remote", "report", "security", "sorting",
    "systems",
)  # fmt: skip
"""Pages that put in italics, and in Japanese within brackets, what konomi says and nothing else."""
TWINS = (*PAGES, "cookbook", "first-night", "formats-in-practice", "other-tools", "python-sdk")
"""Pages whose blocks are the same in both languages, comments aside."""
GUIDES = tuple(f"{page}{language}.md" for page in TWINS for language in ("", ".ja"))
CHASSIS = "python -m konomi_chassis "


def told(guide: str) -> str:
    return (ROOT / "docs" / guide).read_text("utf-8")


def blocks(guide: str) -> list[str]:
    """What stands in the fenced blocks of a guide, line by line, without comments and what follows the prompts."""
    found = re.findall(r"^```\w+\n(.*?)^```", told(guide), re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"(^|\s+)#\s.*$", "", line).rstrip() for block in found for line in block.splitlines()]
    return [line for line in lines if line]


def commands(guide: str) -> list[str]:
    inline = re.findall(r"`((?:konomi|python -m konomi_chassis) [^`]+)`", told(guide))
    bare = [re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line) for line in blocks(guide)]
    return [line for line in bare if line.startswith(("konomi ", CHASSIS))] + inline


def problem(line: str) -> str:
    """What of a command line konomi does not know; empty where it knows all of it."""
    if line.startswith(CHASSIS):
        return chassis_problem(line)
    passed_on = r"^konomi night (schedule \d\d:\d\d|queue add) (?=\w)"
    line = re.sub(passed_on, "konomi night start ", line)  # which gets what follows
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


def chassis_problem(line: str) -> str:
    """What of a command about tokens is not known; empty where all of it is."""
    try:
        chassis_parser().parse_args(shlex.split(line)[3:])
    except SystemExit as ended:
        return f"{line} is refused" if ended.code else ""
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_and_option_of_a_guide_is_there(guide: str):
    lines = commands(guide)
    assert lines
    assert [found for line in lines if (found := problem(line))] == []


def test_a_command_or_an_option_that_is_not_there_is_named():
    for line in ("konomi night begin", "konomi night start converge --bass x", f"{CHASSIS}issue --scope everything"):
        assert problem(line)
    assert not problem("konomi --home . night start converge") and not problem(f"{CHASSIS}issue --help")


@pytest.mark.parametrize("page", TWINS)
def test_both_languages_give_the_same_commands(page: str):
    english, japanese = (f"{page}{language}.md" for language in ("", ".ja"))
    assert blocks(english) == blocks(japanese)
    if page in PAGES:
        assert sorted(set(commands(english))) == sorted(set(commands(japanese)))


def told_words(guide: str) -> list[str]:
    """What a guide says that konomi says, in its table of what to do: in Japanese within brackets, else in italics."""
    table = (ROOT / "docs" / guide).read_text("utf-8").rpartition("\n## ")[2]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    quoted = r"「([^」]+)」" if guide.endswith(".ja.md") else r"\*([^*]+)\*"
    return [words.strip() for cell in cells for words in re.findall(quoted, cell)]


@cache
def said(language: str) -> str:
    """Every sentence of konomi in a language, one after the other, each on a line."""
    folder = ROOT / "clients" / "python" / "konomi" / "locale" / "ja" / "LC_MESSAGES"
    with (folder / "konomi.po").open("rb") as file:
        catalogue = pofile.read_po(file)
    forms = [message.id if language == "en" else message.string for message in catalogue]
    sentences = [form for each in forms for form in ([each] if isinstance(each, str) else each)]
    sentences += [path.read_text("utf-8") for path in (ROOT / "services").rglob("*.py")] if language == "en" else []
    return "\n".join(sentences)


@pytest.mark.parametrize(("guide", "language"), [("first-night.md", "en"), ("first-night.ja.md", "ja")])
def test_every_message_a_guide_explains_is_one_that_konomi_says(guide: str, language: str):
    explained = told_words(guide)
    assert len(explained) > 12
    assert [words for words in explained if words not in said(language)] == []


def quoted(guide: str) -> list[str]:
    """What a page says that konomi says: in Japanese within brackets, else in italics; an ellipsis parts sentences."""
    text = re.sub(r"^```\w+\n.*?^```|`[^`\n]*`", "", told(guide), flags=re.MULTILINE | re.DOTALL)
    japanese = guide.endswith(".ja.md")
    found = re.findall(r"「([^」]+)」" if japanese else r"(?<!\*)\*([^*]+)\*(?!\*)", text)
    whole = [re.sub(r"\s*\n\s*", "" if japanese else " ", words) for words in found]
    return [part for words in whole for part in re.split(r"\s*…\s*", words) if part]


@pytest.mark.parametrize("guide", [f"{page}{language}.md" for page in PAGES for language in ("", ".ja")])
def test_whatever_a_page_quotes_is_what_konomi_says(guide: str):
    known = said("ja" if guide.endswith(".ja.md") else "en")
    assert [words for words in quoted(guide) if words not in known] == []


@pytest.mark.parametrize("guide", [path.name for path in sorted((ROOT / "docs").glob("*.md"))])
def test_every_link_of_a_guide_leads_somewhere(guide: str):
    text = (ROOT / "docs" / guide).read_text("utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (ROOT / "docs" / link).exists()] == []


RATER = "tests/benchmarks/rater/rater-taste_2-core-cpu_2026-11-30.md"


@pytest.mark.parametrize("guide", ["grading.md", "grading.ja.md"])
def test_the_order_a_guide_promises_is_the_one_on_file(guide: str):
    table = (ROOT / RATER).read_text("utf-8").partition("**Spearman**")[2]
    filed = table.partition("| **konomi** |")[2].splitlines()[0]
    figures = [f"{float(cell):.2f}".lstrip("0") for cell in filed.strip(" |").split("|")]
    assert len(figures) == 6 and f" {' | '.join(figures)} |" in told(guide) and RATER in told(guide)
