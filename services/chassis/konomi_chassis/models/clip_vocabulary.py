"""CLIP's byte-pair vocabulary, rebuilt from the merges that open_clip ships; single-file checkpoints carry none."""

import gzip
import importlib.util
from functools import cache
from pathlib import Path

from konomi.errors import FailedPrecondition

MERGES = 49152 - 256 - 2
START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def clip_vocabulary() -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """Returns CLIP's token ids, 49408 of them, and its merges in order.

    Raises:
        FailedPrecondition: open_clip, whose package holds the merges, is not installed (reason EXTRA_MISSING).
    """
    lines = gzip.decompress(_merges_file().read_bytes()).decode("utf-8").split("\n")
    merges = tuple((left, right) for left, right in (line.split() for line in lines[1 : MERGES + 1]))
    letters = _letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), START, END]
    return {token: id for id, token in enumerate(tokens)}, merges


def _letters() -> list[str]:
    """Returns the printable stand-ins of the 256 bytes in CLIP's order: printable bytes first, then the rest."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = 256 - len(plain)
    return [chr(byte) for byte in plain] + [chr(256 + n) for n in range(others)]


def _merges_file() -> Path:
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise FailedPrecondition(
            "A single-file checkpoint needs CLIP's vocabulary, which open_clip has: pip install 'konomi[generator]'.",
            reason="EXTRA_MISSING",
        )
    return Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
