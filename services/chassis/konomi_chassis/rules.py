"""Kinds of field rules: each makes a function that says what is wrong with a value, or None."""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

Rule = Callable[[Any], str | None]
"""Returns what is wrong with a value, or None."""

MAX_TEXT = 4096


def pattern(expression: str, expected: str, *, optional: bool = False) -> Rule:
    """Text that matches a regular expression as a whole; where optional, the empty text is fine too."""
    compiled = re.compile(expression)

    def rule(value: str) -> str | None:
        if (optional and not value) or compiled.fullmatch(value):
            return None
        return f'{expected} was expected; "{value[:80]}" came.'

    return rule


def text(limit: int = MAX_TEXT) -> Rule:
    """Text of at most so many bytes of UTF-8, without control characters."""

    def rule(value: str) -> str | None:
        size = len(value.encode("utf-8"))
        if size > limit:
            return f"at most {limit} bytes of text were expected; {size} came."
        if any(unicodedata.category(letter) == "Cc" for letter in value):
            return "text without control characters was expected; one came."
        return None

    return rule


def between(low: float, high: float) -> Rule:
    """A finite number within [low, high]."""

    def rule(value: float) -> str | None:
        if math.isfinite(value) and low <= value <= high:
            return None
        return f"a number from {low:g} to {high:g} was expected; {value:g} came."

    return rule


def count(low: int, high: int) -> Rule:
    """A list of so many items."""

    def rule(value: Sequence[Any]) -> str | None:
        return None if low <= len(value) <= high else f"{low} to {high} items were expected; {len(value)} came."

    return rule


def multiple(of: int, high: int) -> Rule:
    """0, or a multiple of a number up to a limit."""

    def rule(value: int) -> str | None:
        if 0 <= value <= high and value % of == 0:
            return None
        return f"a multiple of {of} up to {high} was expected; {value} came."

    return rule


def known(low: int, high: int) -> Rule:
    """A value of the enum, without the unspecified one where low is 1."""

    def rule(value: int) -> str | None:
        return None if low <= value <= high else f"one of the named values was expected; {value} came."

    return rule
