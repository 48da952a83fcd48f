"""The captions of a set, encoded one by one and each as long as it is, and what of them was cut.

Where they meet in a batch they are padded and masked (see Condition).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from konomi_chassis.models.families.condition import Condition
from konomi_trainer.data.cache import Tensors

log = logging.getLogger(__name__)
CHUNK_TOKENS, CHUNK_STATES = 75, 77
"""Tokens of a chunk of a caption, and its hidden states: begin and end have theirs."""
MOST_CHUNKS = 3
"""Chunks that are read of a caption."""


def embedded(tensors: Tensors) -> Condition:
    """Returns what a base model embedded."""
    return Condition(tensors["hidden"], tensors.get("pooled"), tensors.get("mask"))


@dataclass(frozen=True)
class EncodedCaptions:
    """Captions of a set, each as long as it is.

    Attributes:
        hidden: M times (T, D) float32.
        pooled: (M, P) float32, or None.
        cut: how many of them were longer than is read.
    """

    hidden: tuple[torch.Tensor, ...]
    pooled: torch.Tensor | None
    cut: int = 0

    def rows(self, index: torch.Tensor) -> Condition:
        """Returns the captions at (n,) places, as long as the longest of these."""
        hidden = [self.hidden[place] for place in index.tolist()]
        pooled = None if self.pooled is None else self.pooled[index]
        lengths = torch.tensor([len(states) for states in hidden])
        if bool((lengths == lengths[0]).all()):
            return Condition(torch.stack(hidden), pooled)
        longest = torch.arange(int(lengths.max()))
        return Condition(pad_sequence(hidden, batch_first=True), pooled, longest[None] < lengths[:, None])


def collect(texts: Sequence[Tensors]) -> EncodedCaptions:
    """Returns captions as a base model encodes them one by one, in their order.

    Args:
        texts: "hidden" (T, D), "pooled" (P,) for SDXL, and "chunks" where a caption may have been cut.
    """
    pooled = torch.stack([text["pooled"] for text in texts]) if "pooled" in texts[0] else None
    cut = sum(int(text["chunks"]) > MOST_CHUNKS for text in texts if "chunks" in text)
    return EncodedCaptions(tuple(text["hidden"] for text in texts), pooled, cut)


def figures_of(cut: int) -> dict[str, float]:
    """Returns the figure of how many captions were cut, which is logged too; nothing where none was."""
    if not cut:
        return {}
    log.warning("%d captions are longer than the %d tokens that are read of one", cut, MOST_CHUNKS * CHUNK_TOKENS)
    return {"cut_captions": float(cut)}
