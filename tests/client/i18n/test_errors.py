"""Every error a person can cause takes its words from the catalogue, and the page answers in its reader's language."""

import ast
import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hatch_build import PACKAGE
from konomi import errors
from konomi.i18n import catalogue
from konomi.web.responses import SpokenByReader, in_worker
from tests.contract.source_tree import product

MADE_BY = {kind.__name__ for kind in (errors.KonomiError, *errors.KonomiError.__subclasses__())} | {"from_item"}
TRANSLATES = {"text", "plural", "translatable"}
ELSEWHERE = {
    "client/calls.py _message": "a mistake of who programs with the client",
    "client/infotext.py _refused": "the sentences of its callers, each from the catalogue",
    "evaluation/simulated_person.py starter": "the last line of a child",
    "evaluation/simulated_person.py _gone": "the last line of a child",
    "web/nights/endpoints.py run": "the last line of a command, which speaks the reader's language",
    "web/nights/endpoints.py begin": "the last line of a command, which speaks the reader's language",
    "cli/storage/migrate.py _refusal": "the words of the service that would not move its rows",
    "cli/doctor/elsewhere.py _finding": "the words of what asked database, bucket and cluster",
    "night/gateway/concepts.py prior": "the rater's words",
    "night/engine/drafting.py drafts_wanted": "the generator's words",
    "cli/models/import_model.py put": "the importer's words",
    "taste/search.py by_text": "the sentences of its own file, each from the catalogue; else the rater's words",
}
"""File and function of the errors whose words come from elsewhere, and from where."""


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def translated(words: ast.expr, function: ast.FunctionDef) -> bool:
    """Says whether an expression is a sentence of the catalogue, the words of another error, or made of these alone."""
    match words:
        case ast.Call():
            return name_of(words.func) in TRANSLATES
        case ast.Attribute(attr="message"):
            return True
        case ast.BoolOp():
            return all(translated(part, function) for part in words.values)
        case ast.JoinedStr():
            return not any(isinstance(part, ast.Constant) and part.value.strip(" :") for part in words.values)
        case ast.Name():
            bound = [
                node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign) and any(name_of(target) == words.id for target in node.targets)
            ]
            return bool(bound) and all(translated(value, function) for value in bound)
    return False


def untranslated() -> Iterator[str]:
    """Yields file and function of every error whose words are not of the catalogue."""
    for source in product():
        if source.package != "konomi" or source.module == "konomi.errors":
            continue
        file = source.path.relative_to(PACKAGE).as_posix()
        for function in ast.walk(source.tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                made = (node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args)
                for call in made:
                    words = call.args[2] if name_of(call.func) == "from_item" else call.args[0]
                    if name_of(call.func) in MADE_BY and not translated(words, function):
                        yield f"{file} {function.name}"


def test_every_error_takes_its_words_from_the_catalogue():
    assert sorted(set(untranslated())) == sorted(ELSEWHERE)


def ask(accepts: str) -> str:
    """Returns what an endpoint in a worker says to a reader."""
    said = []

    def refuse() -> str:
        return catalogue.text("there is no unfinished night")

    async def app(scope, receive, send):
        with ThreadPoolExecutor(1) as workers:
            said.append(await in_worker(workers, refuse))

    headers = [(b"accept-language", accepts.encode())] if accepts else []
    asyncio.run(SpokenByReader(app)({"type": "http", "headers": headers}, None, None))
    return said[0]


@pytest.mark.parametrize(
    ("accepts", "language"),
    [("", "en"), ("ja", "ja"), ("ja-JP,ja;q=0.9,en;q=0.8", "ja"), ("fr, ja;q=0.5", "ja"), ("fr", "en"), ("*", "en")],
)
def test_a_browser_says_which_language_it_accepts(accepts, language):
    assert catalogue.accepted(accepts) == language


def test_the_page_answers_in_its_readers_language():
    assert ask("") == "there is no unfinished night"
    assert ask("ja-JP,en;q=0.5") == "終わっていない夜はありません"
    assert ask("fr") == "there is no unfinished night"
