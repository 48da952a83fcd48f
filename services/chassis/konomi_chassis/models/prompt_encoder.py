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
from itertools import chain
from typing import Any

import torch

from konomi_chassis.models.model_settings import Syntax
from konomi_chassis.models.prompt_weights import parse
from konomi_chassis.models.text_chunks import Chunk, chunks

COMMA = ",</w>"
"""How CLIP's vocabulary spells a comma that ends a word."""
BEFORE_LAST = 2
"""The layer XL reads, counted from the end."""


@dataclass(frozen=True)
class EncodedPrompt:
    """An encoded prompt: hidden states (1, T n, C) of n chunks of T tokens, 77, and for XL the pooled vector (1, P)."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None = None


class PromptEncoder:
    """The text encoders of one Stable Diffusion pipeline; not safe to use from several threads at once."""

    def __init__(self, pipe: Any, clip_skip: int = 1, syntax: Syntax = "weighted") -> None:
        """Takes a pipeline, the layer to read, and how prompts are read.

        Args:
            pipe: a StableDiffusionPipeline or StableDiffusionXLPipeline.
            clip_skip: which layer counts, from the end, 1 is the last; XL always reads the last but one.
            syntax: weighted as `prompt_weights` reads it, or plain: one chunk, in which every token counts as usual.
        """
        self._towers = [(pipe.tokenizer, pipe.text_encoder)]
        self._xl = getattr(pipe, "text_encoder_2", None) is not None
        if self._xl:
            self._towers.append((pipe.tokenizer_2, pipe.text_encoder_2))
        self._clip_skip, self._syntax = clip_skip, syntax

    def encode(self, prompt: str, length: int = 1) -> EncodedPrompt:
        """Returns a prompt encoded; gradients flow where the caller lets them.

        Args:
            prompt: the prompt.
            length: chunks at least; what is missing is filled up by empty ones.
        """
        return self.encode_all([prompt], length)[0]

    def encode_all(self, prompts: Sequence[str], length: int = 1, together: int = 1) -> list[EncodedPrompt]:
        """Returns prompts encoded; equal chunks once.

        Args:
            prompts: the prompts.
            length: chunks of each at least.
            together: chunks that go through an encoder at once; 1 keeps their bits free of one another.
        """
        cuts = [self._cut(prompt) for prompt in prompts]
        lengths = [max(length, *map(len, cut)) for cut in cuts]
        hidden: list[list[torch.Tensor]] = [[] for _ in prompts]
        pooled: list[torch.Tensor | None] = [None] * len(prompts)
        for number, (tokenizer, encoder) in enumerate(self._towers):
            size = _room(tokenizer, encoder)
            marks = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
            filled = [[*cut[number], *[Chunk()] * (n - len(cut[number]))] for cut, n in zip(cuts, lengths, strict=True)]
            ids = [[tuple(chunk.ids(*marks, size)) for chunk in row] for row in filled]
            encoded = self._encoded(encoder, list(dict.fromkeys(chain.from_iterable(ids))), together)
            for row, (own, chunk_ids) in enumerate(zip(filled, ids, strict=True)):
                states = [_weighted(encoded[key][0], chunk, size) for chunk, key in zip(own, chunk_ids, strict=True)]
                hidden[row].append(torch.cat(states, dim=1))
                pooled[row] = encoded[chunk_ids[0]][1]
        joined = [torch.cat(parts, dim=-1) for parts in hidden]
        return [EncodedPrompt(states, vector) for states, vector in zip(joined, pooled, strict=True)]

    def chunk_count(self, prompt: str) -> int:
        """Returns how many chunks a prompt has."""
        return max(map(len, self._cut(prompt)))

    def _cut(self, prompt: str) -> list[list[Chunk]]:
        """Returns the chunks of a prompt for each encoder; new words may make one's tokens fewer than the other's."""
        cut = []
        parts = parse(prompt)
        for tokenizer, encoder in self._towers:
            size, words = _room(tokenizer, encoder), partial(_tokens, tokenizer)
            if self._syntax == "plain":
                tokens = words(prompt)[:size]
                cut.append([Chunk(tokens, [1.0] * len(tokens))])
            else:
                cut.append(chunks(parts, words, tokenizer.convert_tokens_to_ids(COMMA), size))
        return cut

    def _encoded(
        self, encoder: Any, rows: Sequence[tuple[int, ...]], together: int
    ) -> dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor | None]]:
        """Returns hidden states (1, T, C), and for XL the pooled vector (1, P), of chunks by their token ids."""
        encoded: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor | None]] = {}
        for start in range(0, len(rows), together):
            batch = rows[start : start + together]
            output = encoder(torch.tensor(batch, device=encoder.device), output_hidden_states=True)
            states = self._layer(encoder, output)
            for place, row in enumerate(batch):
                own = slice(place, place + 1)
                encoded[row] = (states[own], output[0][own] if self._xl else None)
        return encoded

    def _layer(self, encoder: Any, output: Any) -> torch.Tensor:
        states: torch.Tensor
        if self._xl:
            states = output.hidden_states[-BEFORE_LAST]
        elif self._clip_skip <= 1:
            states = output[0]
        else:
            last = encoder.config.num_hidden_layers
            states = encoder.final_layer_norm(output.hidden_states[-min(self._clip_skip, last)])
        return states


def _room(tokenizer: Any, encoder: Any) -> int:
    """Returns how many tokens an encoder reads between begin and end."""
    return int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings)) - 2


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids)


def _weighted(states: torch.Tensor, chunk: Chunk, size: int) -> torch.Tensor:
    """Multiplies (1, T, C) states by their tokens' weights and gives the whole its mean back."""
    if chunk.is_plain:
        return states
    weights = torch.tensor(chunk.multipliers(size), dtype=states.dtype, device=states.device)
    weighed = states * weights[None, :, None]
    mean, own = states.float().mean(), weighed.float().mean()
    ratio = float((mean / own).detach())
    return weighed * (mean / own).to(states.dtype) if math.isfinite(ratio) else weighed
