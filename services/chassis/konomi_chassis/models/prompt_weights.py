r"""Emphasis in prompts, as the web UI of A1111 reads it: `(word)`, `((word))`, `[word]`, `(word:1.3)`, `BREAK`.

A round bracket lifts what it holds to 1.1 times its weight, a square one lowers it to a 1.1th, a number after a colon
at the end of a round one stands in place of the 1.1. Brackets nest. A backslash takes a bracket's meaning away, as in
`name \(series\)`, and itself away. A bracket that never closes counts as if it closed at the end; one that never
opened is text. `BREAK`, in capitals, ends a chunk (see text_chunks).
"""

import math
import re
from dataclasses import dataclass

LIFT = 1.1
"""What a bracket without a number multiplies by."""
MOST_WEIGHT = 100.0
"""Weights beyond it, either way, are cut: a hidden state times more is no picture in any number format."""
PIECES = re.compile(
    r"\\(?P<plain>[()\[\]\\])"
    r"|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)"
    r"|(?P<mark>[()\[\]])"
    r"|(?P<text>\\|:|[^\\()\[\]:]+)"
)
CHUNK_END = re.compile(r"\s*\bBREAK\b\s*")


@dataclass(frozen=True)
class WeightedText:
    """A piece of a prompt and how strongly it counts; 1 is as usual."""

    text: str
    weight: float = 1.0


class _Reader:
    """Pieces read so far, each as [text, weight], and where brackets have opened."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, float]] = []
        self._open: dict[str, list[int]] = {"(": [], "[": []}

    def open(self, mark: str) -> None:
        self._open[mark].append(len(self.pieces))

    def close(self, mark: str, factor: float) -> bool:
        """Weighs what came since a bracket of this kind opened; says False where none did."""
        if not self._open[mark]:
            return False
        start = self._open[mark].pop()
        self.pieces[start:] = [(text, weight * factor) for text, weight in self.pieces[start:]]
        return True

    def close_all(self) -> None:
        """Closes what is still open as if its bracket stood at the end."""
        for mark, factor in (("(", LIFT), ("[", 1 / LIFT)):
            while self.close(mark, factor):
                pass


def parse(prompt: str) -> list[list[WeightedText]]:
    """Returns the parts of a prompt between its BREAKs, each as pieces in order; neighbours never weigh the same.

    An empty prompt is one part without pieces.
    """
    reader = _Reader()
    for match in PIECES.finditer(prompt):
        if match["plain"] is not None:
            reader.pieces.append((match["plain"], 1.0))
        elif match["weight"] is not None:
            if not reader.close("(", float(match["weight"])):
                reader.pieces.append((match[0], 1.0))
        elif match["mark"] in ("(", "["):
            reader.open(match["mark"])
        elif match["mark"] is not None:
            mark, factor = ("(", LIFT) if match["mark"] == ")" else ("[", 1 / LIFT)
            if not reader.close(mark, factor):
                reader.pieces.append((match["mark"], 1.0))
        else:
            reader.pieces.append((match["text"], 1.0))
    reader.close_all()
    return _parts(reader.pieces)


def is_plain(prompt: str) -> bool:
    """Says whether every word of a prompt counts the same and nothing breaks it."""
    parts = parse(prompt)
    return len(parts) == 1 and all(piece.weight == 1 for piece in parts[0])


def _parts(pieces: list[tuple[str, float]]) -> list[list[WeightedText]]:
    parts: list[list[WeightedText]] = [[]]
    for text, weight in pieces:
        for number, words in enumerate(CHUNK_END.split(text)):
            if number:
                parts.append([])
            if words:
                _append(parts[-1], words, _bounded(weight))
    return parts


def _append(part: list[WeightedText], words: str, weight: float) -> None:
    """Adds words to the last piece where they weigh the same: a bracket in a word then parts no token."""
    if part and part[-1].weight == weight:
        words = part.pop().text + words
    part.append(WeightedText(words, weight))


def _bounded(weight: float) -> float:
    return max(-MOST_WEIGHT, min(MOST_WEIGHT, weight)) if math.isfinite(weight) else MOST_WEIGHT
