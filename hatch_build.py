"""The build step of the catalogue of words: every .po file becomes the .mo the commands read and the JSON of the page.

It runs with every build, the editable one of `make setup` too; Babel is needed here and never at run time.
"""

import json
from pathlib import Path
from typing import Any

from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path(__file__).parent / "clients/python/konomi"
SOURCE = "en"
"""The language the code is written in."""
PAGE = "web/static/i18n"


class CatalogueBuildHook(BuildHookInterface):
    """Called by hatchling before it collects files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles all languages and hands what came out to the wheel, though git ignores it."""
        written = build(PACKAGE)
        build_data["artifacts"] += [path.relative_to(self.root).as_posix() for path in written]


def build(package: Path) -> list[Path]:
    """Compiles every `locale/*/LC_MESSAGES/konomi.po` of a package and returns the files written.

    Raises:
        ValueError: a key stands twice among the words of the page.
    """
    english = page_words(package)
    names = {SOURCE: display_name(SOURCE)}
    written = []
    for path in sorted(package.glob("locale/*/LC_MESSAGES/konomi.po")):
        language = path.parts[-3]
        names[language] = display_name(language)
        with path.open("rb") as file:
            catalog = read_po(file, locale=language)
        written += [_compiled(catalog, path.with_suffix(".mo")), _page(package, catalog, language, english)]
    return [*written, _json(package / PAGE / "languages.json", names)]


def page_words(package: Path) -> dict[str, str]:
    """Returns the English of the page, by its keys; ValueError where a key stands twice."""
    pairs = json.loads((package / PAGE / f"{SOURCE}.json").read_text("utf-8"), object_pairs_hook=list)
    words = dict(pairs)
    if len(words) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"expected each key of the page once in {SOURCE}.json, got twice: {', '.join(twice)}")
    return words


def page_context(key: str) -> str:
    """Returns the context of a word of the page in a .po file."""
    return f"page.{key}"


def display_name(language: str) -> str:
    """Returns the name of a language in itself; its code where Babel knows none."""
    try:
        return Locale.parse(language).display_name or language
    except (ValueError, LookupError):
        return language


def _compiled(catalog: Catalog, path: Path) -> Path:
    with path.open("wb") as file:
        write_mo(file, catalog)
    return path


def _page(package: Path, catalog: Catalog, language: str, english: dict[str, str]) -> Path:
    """Writes the page's words of a language; English stands where a translation is missing."""
    translated = {}
    for key, words in english.items():
        message = catalog.get(words, page_context(key))
        translated[key] = (message.string if message and not message.fuzzy else "") or words
    return _json(package / PAGE / f"{language}.json", translated)


def _json(path: Path, words: dict[str, str]) -> Path:
    path.write_text(json.dumps(words, ensure_ascii=False, indent=0) + "\n", "utf-8")
    return path
