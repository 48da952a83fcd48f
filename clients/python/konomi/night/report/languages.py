"""One page in several languages: words that differ stand beside each other, pictures and figures only once.

The page is built once in each language. What is equal is placed as it is; a text that differs becomes `Words`, one
span a language, of which the style sheet shows the one that is chosen. No script is needed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from markupsafe import Markup, escape


class Words(str):
    """A text in several languages. As markup one span a language; as plain text, for attributes, all in one line."""

    by_language: Mapping[str, str]

    @classmethod
    def of(cls, by_language: Mapping[str, str]) -> "Words":
        """Returns the text of several languages."""
        words = cls(" / ".join(dict.fromkeys(by_language.values())))
        words.by_language = by_language
        return words

    def __html__(self) -> Markup:
        """Returns one span a language; a drawing is placed as it is, every other text escaped."""
        spans = (
            Markup('<span class="w" lang="{}">{}</span>').format(code, kept_together(words))
            for code, words in self.by_language.items()
        )
        return Markup("").join(spans)


def joined(versions: Mapping[str, Any]) -> Any:
    """Returns what stands for equal parts of one page in several languages.

    Args:
        versions: language to a text, a number, a list of parts, or a part as a dataclass; all of the same shape.

    Raises:
        ValueError: the parts are not of the same shape.
    """
    first, *others = versions.values()
    if all(other == first for other in others):
        return first
    if all(isinstance(version, str) for version in versions.values()):
        return Words.of(versions)
    if is_dataclass(first) and not isinstance(first, type):
        _same(isinstance(other, type(first)) for other in others)
        names = [field.name for field in fields(first)]
        parts = {name: {code: getattr(part, name) for code, part in versions.items()} for name in names}
        return replace(first, **{name: joined(part) for name, part in parts.items()})
    _same(isinstance(version, Sequence) and len(version) == len(first) for version in versions.values())
    return [joined(dict(zip(versions, items, strict=True))) for items in zip(*versions.values(), strict=True)]


def kept_together(value: object) -> object:
    """Returns a text whose percent signs stay on the line of their number; anything else as it is."""
    if isinstance(value, Words | Markup) or not isinstance(value, str):
        return value
    return escape(re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", value))


def _same(equal: Any) -> None:
    if not all(equal):
        raise ValueError("expected a page of the same parts in every language, got others")
