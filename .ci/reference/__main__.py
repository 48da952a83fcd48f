"""Keeps docs/reference and the example of settings true to the code: `update` writes them, `check` says what drifted.

Four pages are made of what the product itself says: its settings classes, the table of its refusals, the help of its
commands, the comments of its contract. Only the settings' Japanese is written here, in settings.ja.po.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import api_page
import commands_page
import errors_page
import settings_page

LANGUAGES = ("en", "ja")
EXAMPLE = "deploy/konomi.example.toml"


def pages(root: Path) -> Iterator[tuple[str, str]]:
    """Yields the path of every file that is made, and what is to stand in it."""
    tables = settings_page.tables(root)
    yield EXAMPLE, settings_page.example(tables)
    for language in LANGUAGES:
        suffix = ".md" if language == "en" else f".{language}.md"
        yield f"docs/reference/settings{suffix}", settings_page.page(tables, language)
        yield f"docs/reference/errors{suffix}", errors_page.page(root, language)
        yield f"docs/reference/commands{suffix}", commands_page.page(language)
    yield "docs/reference/api.md", api_page.page(root)


def main(what: str, root: Path) -> int:
    """Writes what is made anew, or names what differs; returns how many differed or lack their Japanese."""
    lacking = settings_page.translate(settings_page.tables(root), write=what == "update")
    for sentence in lacking:
        print(f"{settings_page.TRANSLATIONS.name}: no Japanese for: {sentence}", file=sys.stderr)
    drifted = [
        (path, made) for path, made in pages(root) if not (root / path).exists() or (root / path).read_text() != made
    ]
    for path, made in drifted:
        if what == "update":
            (root / path).write_text(made, "utf-8")
        else:
            print(f"{path}: differs from the code; run `make reference`.", file=sys.stderr)
    return len(lacking) + (len(drifted) if what == "check" else 0)


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1], Path(__file__).parents[2])))
