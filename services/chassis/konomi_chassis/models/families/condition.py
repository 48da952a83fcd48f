"""What a network is told besides latents and time, row by row: of unequal length, padded and masked where rows meet.

What is padded is masked in attention, so a row's answer does not depend on the rows beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Condition:
    """What N rows are conditioned on; what a family has no use for is None.

    Attributes:
        hidden: (N, T, D) states of the text encoders; zeros behind a row's own end.
        pooled: (N, P) one vector a text.
        mask: (N, T) bool, true where a row has states of its own; None where all rows are T long.
        sizes: (N, 6) height and width of the original, top and left of the crop, height and width now, pixels.
        guidance: (N, G) the guidance, embedded, of a distilled network.
        images: one (N, …) tensor for each IP-Adapter on the network.
    """

    hidden: torch.Tensor
    pooled: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    sizes: torch.Tensor | None = None
    guidance: torch.Tensor | None = None
    images: tuple[torch.Tensor, ...] = ()

    def rows(self, index: Any) -> "Condition":
        """Returns the rows at (n,) places, or of a slice."""
        parts = {name: tensor[index] for name, tensor in self._tensors().items()}
        return Condition(**parts, images=tuple(image[index] for image in self.images))

    def to(self, device: torch.device) -> "Condition":
        """Returns the same on a device."""
        soon = device.type != "cpu"  # from pinned memory a card reads by itself
        parts = {name: tensor.to(device, non_blocking=soon) for name, tensor in self._tensors().items()}
        return Condition(**parts, images=tuple(image.to(device, non_blocking=soon) for image in self.images))

    def float(self) -> "Condition":
        """Returns the same with the texts in float32."""
        return replace(self, hidden=self.hidden.float(), pooled=None if self.pooled is None else self.pooled.float())

    def padded(self, length: int) -> "Condition":
        """Returns the same `length` tokens long, masked behind what was there."""
        count, own = self.hidden.shape[:2]
        if own == length:
            return self
        mask = self.mask if self.mask is not None else self.hidden.new_ones(count, own, dtype=torch.bool)
        more = length - own
        return replace(self, hidden=functional.pad(self.hidden, (0, 0, 0, more)), mask=functional.pad(mask, (0, more)))

    def trimmed(self) -> "Condition":
        """Returns the same without the padding that no row needs, and without a mask where none is padded then."""
        if self.mask is None:
            return self
        lengths = self.mask.sum(dim=1)
        longest = int(lengths.max())
        padded = bool((lengths < longest).any())
        hidden = self.hidden[:, :longest].contiguous()  # as rows that never were padded lie, for the same bits
        return replace(self, hidden=hidden, mask=self.mask[:, :longest] if padded else None)

    def present(self) -> torch.Tensor:
        """Returns (N, T) bool, true where a row has states of its own."""
        return _mask(self)

    def zeros(self) -> "Condition":
        """Returns texts of the same shape that are all zero."""
        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return replace(self, hidden=torch.zeros_like(self.hidden), pooled=pooled)

    def _tensors(self) -> dict[str, torch.Tensor]:
        named = {row.name: getattr(self, row.name) for row in fields(self) if row.name != "images"}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def join(parts: Sequence[Condition]) -> Condition:
    """Returns the texts of all parts, one part after another; there is at least one."""
    length = max(part.hidden.shape[1] for part in parts)
    whole = [part.padded(length) for part in parts]
    pooled = [part.pooled for part in whole if part.pooled is not None]
    return Condition(
        torch.cat([part.hidden for part in whole]),
        torch.cat(pooled) if pooled else None,
        torch.cat([_mask(part) for part in whole]) if any(part.mask is not None for part in whole) else None,
    )


def choose(first: torch.Tensor, one: Condition, other: Condition) -> Condition:
    """Returns the texts of one or the other, row for row.

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
    return Condition(torch.where(first[:, None, None], one.hidden, other.hidden), pooled, mask)


def _mask(part: Condition) -> torch.Tensor:
    return part.mask if part.mask is not None else part.hidden.new_ones(part.hidden.shape[:2], dtype=torch.bool)
