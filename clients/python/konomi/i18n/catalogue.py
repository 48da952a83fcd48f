"""The front of the catalogue of words: English is written in the code, a language is one compiled file beside it.

A language is `locale/CODE/LC_MESSAGES/konomi.po`, which the build compiles; whatever stands there can be chosen.
"""

import functools
import gettext
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "locale"
DOMAIN = "konomi"
SOURCE = "en"
"""The language the code is written in, and what stands where a translation is missing."""

_CJK = re.compile("[\u3005-\u30ff\u4e00-\u9fff]")
"""A character that is set without spaces around it."""

_language: ContextVar[str] = ContextVar("konomi_language", default=SOURCE)


def languages() -> tuple[str, ...]:
    """Returns the codes of the languages there are, English first."""
    return _languages(FOLDER)


def use(language: str) -> None:
    """Chooses the language of this process; one there is not is English."""
    _language.set(language if language in languages() else SOURCE)


def choose(environment: Mapping[str, str]) -> str:
    """Returns the language an environment asks for by LC_ALL, LC_MESSAGES or LANG, in this order; English otherwise."""
    asked = next((environment[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(name)), "")
    code = re.split(r"[_.@-]", asked.lower())[0]
    return code if code in languages() else SOURCE


def accepted(header: str) -> str:
    """Returns the first language of an Accept-Language header that there is; English where there is none."""
    asked = (re.split(r"[-;]", part.strip().lower())[0] for part in header.split(","))
    available = languages()
    return next((code for code in asked if code in available), SOURCE)


def text(english: str, **values: object) -> str:
    """Returns a sentence in the language in use, its `{names}` filled in; English where there is no translation."""
    words = _translations(FOLDER, _language.get()).gettext(english) if english else ""
    return _filled(words, values) if values else words


class Translatable(str):
    """A sentence in the language it was asked for, which keeps what it is made of: another reader gets it in theirs.

    Attributes:
        english: the sentence in English, its `{names}` not filled in.
        values: what fills them.
    """

    english: str
    values: Mapping[str, object]

    def again(self) -> "Translatable":
        """Returns the sentence in the language in use now."""
        return translatable(self.english, **self.values)


def translatable(english: str, **values: object) -> Translatable:
    """Returns what `text` does, for a sentence that is recorded or passed on to a reader of another language."""
    sentence = Translatable(text(english, **values))
    sentence.english, sentence.values = english, values
    return sentence


def plural(singular: str, many: str, count: int, **values: object) -> str:
    """Returns the sentence that fits a number, `{count}` and the other `{names}` filled in.

    Args:
        singular: the English for one.
        many: the English for any other number.
        count: the number.
        values: what else is filled in.
    """
    words = _translations(FOLDER, _language.get()).ngettext(singular, many, count)
    return _filled(words, {"count": count, **values})


def listing(parts: Iterable[str]) -> str:
    """Returns the parts of a list in one line, with the comma of the language in use."""
    return text(", ").join(parts)


def percent(share: float, digits: int = 0) -> str:
    """Returns a share of 1 as every sentence prints it, in any language: "65 %"."""
    return f"{100 * share:.{digits}f} %"


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


@contextmanager
def spoken_by_libraries() -> Iterator[None]:
    """Lets libraries that use gettext, as typer does for its headings, find their words in this catalogue meanwhile."""
    domain, before = gettext.textdomain(), os.environ.get("LANGUAGE")
    gettext.bindtextdomain(DOMAIN, str(FOLDER))
    gettext.textdomain(DOMAIN)
    os.environ["LANGUAGE"] = language()
    try:
        yield
    finally:
        gettext.textdomain(domain)
        if before is None:
            del os.environ["LANGUAGE"]
        else:
            os.environ["LANGUAGE"] = before


def _filled(words: str, values: Mapping[str, object]) -> str:
    """Returns a sentence with its `{names}` filled in.

    It leaves a space beside a Latin name ("unit-1 とのペア"); beside a Japanese one ("元のモデルとの") there is none.
    """
    sentence = words.format(**values)
    if not _CJK.search(words):
        return sentence
    own = _CJK.pattern
    names = {re.escape(shown) for shown in map(str, values.values()) if shown and _CJK.search(shown[0] + shown[-1])}
    for name in names:
        sentence = re.sub(f"(?<={own}) (?={name})(?={own})", "", sentence)
        sentence = re.sub(f"(?<={own})(?<={name}) (?={own})", "", sentence)
    return sentence


@functools.cache
def _languages(folder: Path) -> tuple[str, ...]:
    return (SOURCE, *sorted(path.parts[-3] for path in folder.glob(f"*/LC_MESSAGES/{DOMAIN}.mo")))


@functools.cache
def _translations(folder: Path, language: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, folder, [language], fallback=True)
