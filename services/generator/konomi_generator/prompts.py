"""Prompt templates: "{name}" becomes one of its words, drawn by their weights and the image's own seed.

No file is ever read and no other syntax means anything: words come with the request.
"""

import math
import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from konomi.errors import InvalidArgument

MAX_BYTES = 4096
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
PLACE = re.compile(r"\{([A-Za-z0-9_-]{1,64})\}")


@dataclass(frozen=True)
class Wildcard:
    """Alternatives of a place.

    Attributes:
        words: the alternatives; "" leaves the place empty.
        weights: how often each is drawn, relative to the others; none for equal shares.
    """

    words: Sequence[str]
    weights: Sequence[float] = ()

    def draw(self, rng: random.Random) -> str:
        """Returns one of the words."""
        return rng.choices(self.words, self.weights)[0] if self.weights else rng.choice(self.words)


def check_wildcards(wildcards: Mapping[str, Wildcard]) -> None:
    """Raises InvalidArgument unless every wildcard has a plain name, plain words and fitting weights."""
    for name, wildcard in wildcards.items():
        field = f"wildcards[{name[:64]}]"
        if not NAME.fullmatch(name):
            raise InvalidArgument(
                f"A wildcard's name has 1 to 64 letters, digits, '_' or '-'; {name[:64]!r} came.",
                reason="WILDCARD",
                field=field,
            )
        if not wildcard.words:
            raise InvalidArgument(
                f'The wildcard "{name}" has no words; give at least one.', reason="WILDCARD", field=field
            )
        _check_weights(name, wildcard, field)
        for word in wildcard.words:
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


def fill(template: str, wildcards: Mapping[str, Wildcard], seed: int) -> str:
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
        return words.draw(random.Random(f"{seed}/{position}/{match[1]}"))

    prompt = PLACE.sub(draw, template)
    check_text(prompt, "images.prompt")
    return prompt


def _check_weights(name: str, wildcard: Wildcard, field: str) -> None:
    weights = wildcard.weights
    if weights and len(weights) != len(wildcard.words):
        raise InvalidArgument(
            f'The wildcard "{name}" has {len(wildcard.words)} words and {len(weights)} weights; '
            "give as many weights as words, or none.",
            reason="WILDCARD",
            field=field,
        )
    if weights and (not all(math.isfinite(weight) and 0 <= weight <= 1e6 for weight in weights) or not any(weights)):
        raise InvalidArgument(
            f'The wildcard "{name}" needs weights from 0 to 1000000, one of them above 0.',
            reason="WILDCARD",
            field=field,
        )
