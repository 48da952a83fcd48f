"""The languages of help and messages: English is written in the code, Japanese stands in a table beside it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

LANGUAGES = ("en", "ja")

_language: ContextVar[str] = ContextVar("konomi_language", default="en")


def use(language: str) -> None:
    """Chooses the language of this process."""
    _language.set(language)


def choose(environment: Mapping[str, str]) -> str:
    """Returns the language an environment asks for by LC_ALL, LC_MESSAGES or LANG, in this order; English otherwise."""
    asked = next((environment[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(name)), "")
    return "ja" if asked.lower().startswith("ja") else "en"


def text(english: str, **values: object) -> str:
    """Returns a sentence in the language in use, its `{names}` filled in; English where there is no translation."""
    if _language.get() == "ja":
        from konomi.i18n.ja import JAPANESE

        english = JAPANESE.get(english, english)
    return english.format(**values) if values else english


def language() -> str:
    """Returns the language in use."""
    return _language.get()


@contextmanager
def speaking(reader: str) -> Iterator[None]:
    """Uses a reader's language, "ja" or "ja-JP", for as long as the block runs; afterwards the one before."""
    before = language()
    use(reader.replace("_", "-").partition("-")[0])
    try:
        yield
    finally:
        use(before)


def N_(english: str) -> str:
    """Marks a sentence that stands in a table, so that it is found for translation; `text` translates it when read."""
    return english
