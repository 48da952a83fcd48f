"""Prompts of any length, with emphasis, to what a UNet is conditioned on; generator and trainer read prompts by it.

Each chunk (see text_chunks) goes through the text encoder alone, so no other text changes its bits. A token's hidden
state is multiplied by its weight, then the whole chunk is scaled so that its mean stays what it was, as A1111's web UI
does. Stable Diffusion 1.x and 2.x take the last layer, or one before it (clip skip), through the final layer norm; XL
takes the last but one of both encoders, joined, and the pooled vector of the second encoder's first chunk.

With `loading`, the chassis' only other file that imports torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import torch

from konomi_chassis.models.prompt_weights import parse
from konomi_chassis.models.text_chunks import Chunk, chunks

COMMA = ",</w>"
"""How CLIP's vocabulary spells a comma that ends a word."""
BEFORE_LAST = 2
"""The layer XL reads, counted from the end."""


@dataclass(frozen=True)
class EncodedPrompt:
    """An encoded prompt: hidden states (1, 77 n, C) of its n chunks, and for XL the pooled vector (1, P)."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None = None


class PromptEncoder:
    """The text encoders of one Stable Diffusion pipeline; not safe to use from several threads at once."""

    def __init__(self, pipe: Any, clip_skip: int = 1) -> None:
        """Takes a pipeline and the layer to read.

        Args:
            pipe: a StableDiffusionPipeline or StableDiffusionXLPipeline.
            clip_skip: which layer counts, from the end, 1 is the last; XL always reads the last but one.
        """
        self._towers = [(pipe.tokenizer, pipe.text_encoder)]
        self._xl = getattr(pipe, "text_encoder_2", None) is not None
        if self._xl:
            self._towers.append((pipe.tokenizer_2, pipe.text_encoder_2))
        self._clip_skip = clip_skip

    def encode(self, prompt: str, length: int = 1, most: int | None = None) -> EncodedPrompt:
        """Returns a prompt encoded; gradients flow where the caller lets them.

        Args:
            prompt: with emphasis as `prompt_weights` reads it.
            length: chunks at least; what is missing is filled up by empty ones.
            most: chunks that are read; the rest is left out.
        """
        hidden, pooled = [], None
        for (tokenizer, encoder), own in zip(self._towers, self._cut(prompt, length, most), strict=True):
            states, first = self._tower(tokenizer, encoder, own)
            hidden.append(states)
            pooled = first
        return EncodedPrompt(torch.cat(hidden, dim=-1), pooled if self._xl else None)

    def encode_together(self, prompts: Sequence[str], most: int) -> list[EncodedPrompt]:
        """Returns prompts encoded in one pass of each encoder, which texts that learn want; gradients flow.

        Args:
            prompts: with emphasis as `prompt_weights` reads it.
            most: chunks that are read of each; the rest is left out.
        """
        cut = [self._cut(prompt, 1, most) for prompt in prompts]
        hidden: list[list[torch.Tensor]] = [[] for _ in prompts]
        pooled = None
        for number, (tokenizer, encoder) in enumerate(self._towers):
            rows = [own[number] for own in cut]
            output = _run(tokenizer, encoder, [chunk for row in rows for chunk in row])
            states = self._layer(encoder, output).split(1)
            first = 0
            for place, row in enumerate(rows):
                own = [_weighted(*pair) for pair in zip(states[first : first + len(row)], row, strict=True)]
                hidden[place].append(torch.cat(own, dim=1))
                first += len(row)
            pooled = output[0] if self._xl else None
        starts = list(accumulate([len(own[0]) for own in cut[:-1]], initial=0))
        return [
            EncodedPrompt(torch.cat(own, dim=-1), None if pooled is None else pooled[first : first + 1])
            for own, first in zip(hidden, starts, strict=True)
        ]

    def _cut(self, prompt: str, length: int, most: int | None = None) -> list[list[Chunk]]:
        """Returns the chunks of a prompt for each encoder, `length` at least and `most` at most, as many for all."""
        parts, cut = parse(prompt), []
        for tokenizer, _ in self._towers:
            comma = tokenizer.convert_tokens_to_ids(COMMA)
            cut.append(chunks(parts, partial(_tokens, tokenizer), comma)[:most])
        length = max(length, *map(len, cut))
        return [[*own, *[Chunk()] * (length - len(own))] for own in cut]

    def chunk_count(self, prompt: str) -> int:
        """Returns how many chunks a prompt has."""
        tokenizer, parts = self._towers[0][0], parse(prompt)
        comma = tokenizer.convert_tokens_to_ids(COMMA)
        return len(chunks(parts, partial(_tokens, tokenizer), comma))

    def _tower(self, tokenizer: Any, encoder: Any, cut: Sequence[Chunk]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the hidden states (1, 77 n, C) of one encoder and the first chunk's pooled vector, for XL."""
        states, pooled = [], None
        for number, chunk in enumerate(cut):
            output = _run(tokenizer, encoder, [chunk])
            if number == 0 and self._xl:
                pooled = output[0]
            states.append(_weighted(self._layer(encoder, output), chunk))
        return torch.cat(states, dim=1), pooled

    def _layer(self, encoder: Any, output: Any) -> torch.Tensor:
        states: torch.Tensor
        if self._xl:
            states = output.hidden_states[-BEFORE_LAST]
        elif self._clip_skip <= 1:
            states = output[0]
        else:
            states = encoder.final_layer_norm(output.hidden_states[-self._clip_skip])
        return states


def _run(tokenizer: Any, encoder: Any, cut: Sequence[Chunk]) -> Any:
    """Returns what a text encoder answers to (N, 77) ids."""
    special = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    ids = torch.tensor([chunk.ids(*special) for chunk in cut], device=encoder.device)
    return encoder(ids, output_hidden_states=True)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids)


def _weighted(states: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """Multiplies (1, 77, C) states by their tokens' weights and gives the whole its mean back."""
    if chunk.is_plain:
        return states
    weights = torch.tensor(chunk.multipliers(), dtype=states.dtype, device=states.device)
    weighed = states * weights[None, :, None]
    mean, own = states.float().mean(), weighed.float().mean()
    ratio = float((mean / own).detach())
    return weighed * (mean / own).to(states.dtype) if math.isfinite(ratio) else weighed
