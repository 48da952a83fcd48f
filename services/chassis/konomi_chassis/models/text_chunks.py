"""Prompts longer than a text encoder reads: cut into chunks of 75 tokens, each encoded by itself.

A chunk ends where a prompt says BREAK, where it is full, or at the last comma of its last 20 tokens, so that a tag is
not torn in two: the way A1111's web UI cuts. The chunks' hidden states are then joined along the tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from konomi_chassis.models.prompt_weights import WeightedText

LENGTH = 75
"""Tokens of a chunk between its begin and its end token, where a text encoder reads 77."""
LOOK_BACK = 20
"""How far from a chunk's end a comma may be for the chunk to end there."""


@dataclass
class Chunk:
    """Tokens of a chunk, and the weight of each."""

    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    @property
    def is_plain(self) -> bool:
        """Says whether all of its tokens count as usual."""
        return all(weight == 1 for weight in self.weights)

    def ids(self, begin: int, end: int, pad: int, size: int = LENGTH) -> list[int]:
        """Returns the size + 2 token ids: begin, the tokens, end, and padding."""
        return [begin, *self.tokens, end, *[pad] * (size - len(self.tokens))]

    def multipliers(self, size: int = LENGTH) -> list[float]:
        """Returns size + 2 weights, 1 for begin, end and padding."""
        return [1.0, *self.weights, *[1.0] * (size + 1 - len(self.weights))]


def chunks(
    parts: Sequence[Sequence[WeightedText]], tokenize: Callable[[str], list[int]], comma: int, size: int = LENGTH
) -> list[Chunk]:
    """Cuts a prompt into chunks.

    Args:
        parts: the prompt, as `prompt_weights.parse` reads it.
        tokenize: returns the tokens of a piece, without begin and end.
        comma: the token "," with a space before what follows.
        size: tokens of a chunk at most.

    Returns:
        One chunk at least; an empty prompt is one empty chunk.
    """
    cut = [Chunk()]
    for number, part in enumerate(parts):
        if number:
            cut.append(Chunk())
        last_comma = -1
        for piece in part:
            for token in tokenize(piece.text):
                chunk = cut[-1]
                if token == comma:
                    last_comma = len(chunk.tokens)
                if len(chunk.tokens) == size:
                    cut.append(_rest(chunk, last_comma) if token != comma else Chunk())
                    chunk, last_comma = cut[-1], -1
                chunk.tokens.append(token)
                chunk.weights.append(piece.weight)
    return cut if len(cut) == 1 else _without_empty_end(cut)


def _rest(chunk: Chunk, last_comma: int) -> Chunk:
    """Returns the next chunk, with what stands behind a full chunk's last comma where that is near its end."""
    if last_comma < 0 or len(chunk.tokens) - last_comma > LOOK_BACK:
        return Chunk()
    start = last_comma + 1
    rest = Chunk(chunk.tokens[start:], chunk.weights[start:])
    del chunk.tokens[start:], chunk.weights[start:]
    return rest


def _without_empty_end(cut: list[Chunk]) -> list[Chunk]:
    return cut[:-1] if not cut[-1].tokens else cut
