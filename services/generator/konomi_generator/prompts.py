"""Prompt templates: "{name}" becomes one of its words, drawn by the image's own seed; no file is ever read."""

import random
import re
import unicodedata
from collections.abc import Mapping, Sequence

from konomi.errors import InvalidArgument

MAX_BYTES = 4096
PLACE = re.compile(r"\{([A-Za-z0-9_-]{1,64})\}")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_wildcards(wildcards: Mapping[str, Sequence[str]]) -> None:
    """Raises InvalidArgument unless every wildcard has a plain name and at least one plain word."""
    for name, words in wildcards.items():
        field = f"wildcards[{name[:64]}]"
        if not NAME.fullmatch(name):
            raise InvalidArgument(
                f"A wildcard's name has 1 to 64 letters, digits, '_' or '-'; {name[:64]!r} came.",
                reason="WILDCARD",
                field=field,
            )
        if not words:
            raise InvalidArgument(
                f'The wildcard "{name}" has no words; give at least one.', reason="WILDCARD", field=field
            )
        for word in words:
            check_text(word, field)


def check_text(text: str, field: str) -> None:
    """Raises InvalidArgument unless the text has at most 4 KiB of UTF-8 and no control characters."""
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_BYTES:
        raise InvalidArgument(
            f"At most {MAX_BYTES} bytes of text were expected; {size} came.", reason="TEXT", field=field
        )
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise InvalidArgument(
            "Text without control characters was expected; remove line breaks and the like.", reason="TEXT", field=field
        )


def fill(template: str, wildcards: Mapping[str, Sequence[str]], seed: int) -> str:
    """Returns the prompt of one image.

    Each place draws by itself, from the image's seed and its position among the places; words are not templates
    themselves, and a name nobody defined stays as it is.

    Args:
        template: text with places such as "{hair}".
        wildcards: words by name.
        seed: of this image.

    Raises:
        InvalidArgument: the filled prompt is too long.
    """
    position = 0

    def draw(match: re.Match[str]) -> str:
        nonlocal position
        words = wildcards.get(match[1])
        if words is None:
            return match[0]
        position += 1
        return random.Random(f"{seed}/{position}/{match[1]}").choice(words)

    prompt = PLACE.sub(draw, template)
    check_text(prompt, "images.prompt")
    return prompt
