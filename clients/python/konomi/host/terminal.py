"""Text on its way to a terminal: names, prompts and errors are data there, never orders to it and never lines of ours.

A file's name may hold any byte but "/" and zero: escape sequences, line feeds, bytes that are no UTF-8. What would act
is shown as Python writes it in a string.
"""

import json
import re
from collections.abc import Mapping
from typing import TextIO

ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # controls, C1 too: U+009B begins an escape sequence
    "\u2028\u2029"  # separators of lines
    "\u202a-\u202e\u2066-\u2069"  # they turn the order of what follows
    "\ufff9-\ufffb\U000e0000-\U000e007f"  # annotations and tags nobody sees
    "\ud800-\udfff]"  # bytes of a name that are no UTF-8
)
LAYOUT = "\n\t"
"""What lays out a text of several lines that is ours."""


def visible(words: str, *, lines: bool = False) -> str:
    """Returns text a terminal only shows.

    Args:
        words: the text.
        lines: keep line feeds and tabs: the text is a page of ours, as help is, and holds no names.
    """
    return ACTING.sub(lambda match: match[0] if lines and match[0] in LAYOUT else _written(match[0]), words)


def encodable(words: str, stream: TextIO) -> str:
    """Returns text a stream's encoding has; characters it lacks are written as escapes."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return words.encode(encoding, "backslashreplace").decode(encoding)


def json_line(value: Mapping[str, object], stream: TextIO) -> str:
    """Returns a value as one line of JSON that is valid in a stream's encoding and does nothing to a terminal.

    Raises:
        ValueError: a number in it is none, or infinite.
    """
    line = ACTING.sub(_escaped, json.dumps(value, ensure_ascii=False, allow_nan=False))
    try:
        line.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return line


def _written(character: str) -> str:
    """Returns a character as an escape: one that stands for a byte as that byte."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _escaped(match: re.Match[str]) -> str:
    """Returns a character as JSON escapes it."""
    return json.dumps(match[0])[1:-1] if ord(match[0]) != 0x7F else "\\u007f"
