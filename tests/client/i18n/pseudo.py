"""A language made up from English: what is not written in it was never translated."""

import re
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from hatch_build import PACKAGE, PAGE, build

CODE = "eo"
"""Any code of a language there is none of."""
OPEN, CLOSE = "⟦", "⟧"
ACCENTS = str.maketrans("aeiouyAEIOUcn", "áéíóúýÁÉÍÓÚçñ")
KEPT = re.compile(r"(\{[^{}]*\})")


def pseudo(english: str) -> str:
    """Returns a sentence in the made-up language: between brackets, with accents, its `{names}` kept."""
    parts = KEPT.split(english)
    return OPEN + "".join(part if KEPT.fullmatch(part) else part.translate(ACCENTS) for part in parts) + CLOSE


def add_language(package: Path, code: str = CODE) -> None:
    """Adds the made-up language to a copy of the package's words, as a translator would: one .po file, then a build."""
    with (PACKAGE / "locale/ja/LC_MESSAGES/konomi.po").open("rb") as file:
        known = read_po(file, locale="ja")
    catalog = Catalog(locale=code, fuzzy=False)
    for message in known:
        if message.id:
            plural = not isinstance(message.id, str)
            words = tuple(pseudo(form) for form in message.id) if plural else pseudo(message.id)
            catalog.add(message.id, words, context=message.context)
    path = package / f"locale/{code}/LC_MESSAGES/konomi.po"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        write_po(file, catalog)
    (package / PAGE).mkdir(parents=True)
    (package / PAGE / "en.json").write_bytes((PACKAGE / PAGE / "en.json").read_bytes())
    build(package)
