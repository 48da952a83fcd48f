"""New tokens in a base model's text encoders: one trainable row each, everything else frozen.

Kumari et al. 2023 (2212.04488), section 3.2: the token starts from a rarely used one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from konomi.errors import InvalidArgument
from konomi_trainer.methods.concepts import Concept

CLIP_VOCABULARY, CLIP_RARE = 49408, (42170, 47629, 48136, 46817, 45512, 44203, 43391, 48729)
"""Ids of rare tokens of OpenAI's vocabulary; the first two are the paper's."""
BYTE_RARE = 170
"""First of the rare tokens of any other vocabulary in CLIP's order: bytes no English caption contains."""
Tower = tuple[Any, torch.nn.Module]


class TokenRows(torch.nn.Module):
    """A frozen token embedding, followed by trainable rows for new tokens.

    Attributes:
        rows: one (D,) float32 parameter per new token, in the order of their ids.
    """

    def __init__(self, frozen: torch.nn.Embedding, first: int, rows: Sequence[torch.Tensor]) -> None:
        """Takes the base model's embedding, the id of the first new token and the rows to start from."""
        super().__init__()
        self.frozen, self.first = frozen, first
        self.rows = torch.nn.ParameterList([torch.nn.Parameter(row.detach().float().clone()) for row in rows])

    @property
    def weight(self) -> torch.Tensor:
        """The base model's own (V, D) rows, whose type and device other code asks for."""
        weight: torch.Tensor = self.frozen.weight
        return weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, T) ids → (B, T, D)."""
        own: torch.Tensor = self.frozen(ids.clamp(max=self.first - 1))
        new = torch.stack(list(self.rows))[(ids - self.first).clamp(min=0)].to(own.dtype)
        return torch.where((ids >= self.first)[..., None], new, own)


def bind(
    towers: Sequence[Tower], concepts: Sequence[Concept], start: "Start | None" = None
) -> dict[str, tuple[torch.nn.Parameter, ...]]:
    """Adds the concepts' tokens to tokenizers and text encoders, which are frozen, and returns their rows.

    Args:
        towers: tokenizer and text encoder, two pairs for SDXL; changed in place.
        concepts: what to bind.
        start: gives the row one starts from; a rare token's, or that of its initial word, without it.

    Returns:
        token → one (D,) float32 parameter per tower.

    Raises:
        InvalidArgument: a token is in the vocabulary already, or an initial word is more than one token.
    """
    parameters: dict[str, list[torch.nn.Parameter]] = {concept.token: [] for concept in concepts}
    for tokenizer, encoder in towers:
        encoder.requires_grad_(False)
        frozen: Any = encoder.get_input_embeddings()
        begin = start or rare_row
        starts = [begin(tokenizer, frozen.weight, concept, n) for n, concept in enumerate(concepts)]
        first = len(tokenizer)
        for concept in concepts:
            size = len(tokenizer)
            tokenizer.add_tokens([concept.token])  # its own answer counts a known word as added
            if len(tokenizer) != size + 1:
                message = f"expected a token the base model does not know; it knows {concept.token}: choose another"
                raise InvalidArgument(message, reason="CONCEPTS", field="concepts")
        rows = TokenRows(frozen, first, starts).to(frozen.weight.device)
        encoder.set_input_embeddings(rows)  # type: ignore[operator]
        for concept, row in zip(concepts, rows.rows, strict=True):
            parameters[concept.token].append(row)
        for module in encoder.modules():  # an encoder that takes the largest id for the end would take the new tokens
            if hasattr(module, "eos_token_id"):
                module.eos_token_id = tokenizer.eos_token_id
    return {token: tuple(rows) for token, rows in parameters.items()}


Start = Callable[[Any, torch.Tensor, Concept, int], torch.Tensor]
"""(tokenizer, (V, D) rows, concept, its place among the concepts) → the (D,) row its token starts from."""


def rare_row(tokenizer: Any, weight: torch.Tensor, concept: Concept, number: int) -> torch.Tensor:
    """Returns the row of `start_id`."""
    return weight[start_id(tokenizer, concept, number)]


def mean_row(tokenizer: Any, weight: torch.Tensor, concept: Concept, number: int) -> torch.Tensor:
    """Returns the mean of the rows of a concept's initial word, else of its class word, however many tokens it is."""
    ids = tokenizer(concept.initial_word or concept.class_word, add_special_tokens=False)["input_ids"]
    return weight[torch.tensor(ids, device=weight.device)].float().mean(dim=0)


def start_id(tokenizer: Any, concept: Concept, number: int) -> int:
    """Returns the id of the token a concept's embedding starts from.

    Args:
        tokenizer: of the base model.
        concept: the concept.
        number: its place among the concepts; each gets a rare token of its own.

    Raises:
        InvalidArgument: its initial word is more than one token.
    """
    if not concept.initial_word:
        size = tokenizer.vocab_size
        return CLIP_RARE[number % len(CLIP_RARE)] if size == CLIP_VOCABULARY else (BYTE_RARE + number) % size
    ids = tokenizer(concept.initial_word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise InvalidArgument(
            f"expected an initial word of one token; {concept.initial_word!r} is {len(ids)} in this base model: choose "
            "a shorter word, or none for a rare token",
            reason="CONCEPTS",
            field=f"concepts[{number}].initial_word",
        )
    return int(ids[0])
