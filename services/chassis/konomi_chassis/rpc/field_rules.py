"""The kinds of field rules, and the rules of what requests of every service hold: digests, names, ids and pages."""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Rule = Callable[[Any], str | None]
"""Returns what is wrong with a value, or None."""

RequestRules = Mapping[str, Mapping[str, Rule]]
"""Request message to its fields' rules; in a path "a.b" descends and "a[]" means each item."""

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


def between(low: float, high: float, *, optional: bool = False) -> Rule:
    """A finite number within [low, high]; where optional, 0 too, which is what an unset number reads as."""
    expected = f"a number from {low:g} to {high:g}" + (", or 0 for the default," if optional and low > 0 else "")

    def rule(value: float) -> str | None:
        if (optional and value == 0) or (math.isfinite(value) and low <= value <= high):
            return None
        return f"{expected} was expected; {value:g} came."

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


def enum_value(enum: Any, *, optional: bool = False) -> Rule:
    """A named value of an enum of the contract; the unspecified one, 0, only where optional."""
    numbers = {number for number in enum.values() if number or optional}

    def rule(value: int) -> str | None:
        return None if value in numbers else f"one of the named values was expected; {value} came."

    return rule


def digests(field: str, least: int, most: int) -> dict[str, Rule]:
    """Returns the rules of a list of digests."""
    return {field: count(least, most), f"{field}[]": DIGEST}


TASTE_ID, _UUID = r"[a-z0-9-]{1,40}", r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
PART = r"[A-Za-z0-9._-]{1,64}"
DIGEST = pattern(r"[0-9a-f]{64}", "a sha256 digest of 64 lower-case hexadecimal digits")
DIGEST_OR_NONE = pattern(r"[0-9a-f]{64}", "a sha256 digest of 64 lower-case hexadecimal digits", optional=True)
TASTE = pattern(f"tastes/{TASTE_ID}", '"tastes/{id}"')
TASTE_OR_NONE = pattern(f"tastes/{TASTE_ID}", '"tastes/{id}"', optional=True)
BASE_OR_NONE = pattern(r"[a-z0-9][a-z0-9._-]{0,63}", "a base model id", optional=True)
BASE = pattern(r"[a-z0-9][a-z0-9._-]{0,63}", "a base model id")
UUID = pattern(_UUID, "a UUID")
UUID_OR_NONE = pattern(_UUID, "a UUID", optional=True)
PAGE = {"page_size": between(0, 1000), "page_token": text()}
