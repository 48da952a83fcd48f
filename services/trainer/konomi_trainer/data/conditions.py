"""Encoded captions as the UNet is conditioned on them: of unequal length, padded and masked where they meet in a batch.

What is padded is masked in cross-attention, so a row's answer does not depend on the rows beside it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from konomi_trainer.data.cache import Tensors

log = logging.getLogger(__name__)
CHUNK_TOKENS, CHUNK_STATES = 75, 77
"""Tokens of a chunk of a caption, and its hidden states: begin and end have theirs."""
MOST_CHUNKS = 3
"""Chunks that are read of a caption."""


@dataclass(frozen=True)
class Conditions:
    """What N rows are conditioned on.

    Attributes:
        hidden: (N, T, D) states of the text encoders; zeros behind a row's own end.
        pooled: (N, P), or None.
        mask: (N, T) bool, true where a row has states of its own; None where all rows are T long.
    """

    hidden: torch.Tensor
    pooled: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    @classmethod
    def of(cls, tensors: Tensors) -> "Conditions":
        """Returns what a base model embedded."""
        return cls(tensors["hidden"], tensors.get("pooled"), tensors.get("mask"))

    def rows(self, index: torch.Tensor) -> "Conditions":
        """Returns the rows at (n,) places."""
        return Conditions(*(None if part is None else part[index] for part in self._parts()))  # type: ignore[arg-type]

    def to(self, device: torch.device) -> "Conditions":
        """Returns the same on a device."""
        return Conditions(*(None if part is None else part.to(device) for part in self._parts()))  # type: ignore[arg-type]

    def float(self) -> "Conditions":
        """Returns the same in float32."""
        return replace(self, hidden=self.hidden.float(), pooled=None if self.pooled is None else self.pooled.float())

    def padded(self, length: int) -> "Conditions":
        """Returns the same `length` tokens long, masked behind what was there."""
        count, own = self.hidden.shape[:2]
        if own == length:
            return self
        mask = self.mask if self.mask is not None else self.hidden.new_ones(count, own, dtype=torch.bool)
        more = length - own
        return replace(self, hidden=functional.pad(self.hidden, (0, 0, 0, more)), mask=functional.pad(mask, (0, more)))

    def _parts(self) -> tuple[torch.Tensor | None, ...]:
        return self.hidden, self.pooled, self.mask


def join(parts: Sequence[Conditions]) -> Conditions:
    """Returns the rows of all parts, one part after another; there is at least one."""
    length = max(part.hidden.shape[1] for part in parts)
    whole = [part.padded(length) for part in parts]
    pooled = [part.pooled for part in whole if part.pooled is not None]
    return Conditions(
        torch.cat([part.hidden for part in whole]),
        torch.cat(pooled) if pooled else None,
        torch.cat([_mask(part) for part in whole]) if any(part.mask is not None for part in whole) else None,
    )


def choose(first: torch.Tensor, one: Conditions, other: Conditions) -> Conditions:
    """Returns row for row one or the other.

    Args:
        first: (N,) bool, true for the rows of `one`.
        one: N rows.
        other: N rows, or a single one for all.
    """
    length = max(one.hidden.shape[1], other.hidden.shape[1])
    one, other = one.padded(length), other.padded(length)
    mask = pooled = None
    if one.mask is not None or other.mask is not None:
        mask = torch.where(first[:, None], _mask(one), _mask(other))
    if one.pooled is not None and other.pooled is not None:
        pooled = torch.where(first[:, None], one.pooled, other.pooled)
    return Conditions(torch.where(first[:, None, None], one.hidden, other.hidden), pooled, mask)


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

    def rows(self, index: torch.Tensor) -> Conditions:
        """Returns the captions at (n,) places, as long as the longest of these."""
        hidden = [self.hidden[place] for place in index.tolist()]
        pooled = None if self.pooled is None else self.pooled[index]
        lengths = torch.tensor([len(states) for states in hidden])
        if bool((lengths == lengths[0]).all()):
            return Conditions(torch.stack(hidden), pooled)
        longest = torch.arange(int(lengths.max()))
        return Conditions(pad_sequence(hidden, batch_first=True), pooled, longest[None] < lengths[:, None])


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


def _mask(part: Conditions) -> torch.Tensor:
    return part.mask if part.mask is not None else part.hidden.new_ones(part.hidden.shape[:2], dtype=torch.bool)
