"""Files with words on a pipeline: Custom Diffusion's, with deltas of keys and values, and words beside a LoRA.

Kumari et al. 2023, 2212.04488. The file's layout is konomi_chassis.models.concept_format's.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors.torch import load

from konomi.errors import FailedPrecondition
from konomi_chassis.models.concept_format import FORMAT, LEFT, RIGHT, WHOLE, WORDS_FORMAT, change_of, token_of
from konomi_chassis.models.safetensors_check import Header
from konomi_generator.sampling import AdapterFile

TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


@dataclass(frozen=True, eq=False)
class Concepts:
    """What one file holds.

    Attributes:
        deltas: parameter of the UNet, for example "….attn2.to_k.weight" → (O, D) float32.
        rows: text encoder → word → (D,) row.
    """

    deltas: Mapping[str, torch.Tensor]
    rows: Mapping[str, Mapping[str, torch.Tensor]]


def is_concepts(header: Header) -> bool:
    """Says whether a safetensors file calls itself a Custom Diffusion file."""
    return header.metadata.get("format") == FORMAT


def without_words(header: Header) -> Header:
    """Returns what a header says of a LoRA alone, where its file brings words beside it; of any other the same."""
    if header.metadata.get("format") != WORDS_FORMAT:
        return header
    return replace(header, tensors={n: entry for n, entry in header.tensors.items() if token_of(n) is None})


def read_words(adapter: AdapterFile, header: Header) -> Concepts | None:
    """Returns the words that the checked bytes of a LoRA bring; None where they bring none.

    Raises:
        FailedPrecondition: a row holds numbers that are none.
    """
    if header.metadata.get("format") != WORDS_FORMAT:
        return None
    rows: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load(adapter.data).items():
        token = token_of(name)
        if token is None:
            continue
        if not torch.isfinite(tensor).all():
            raise _odd(adapter, f"{name} holds numbers that are none")
        rows.setdefault(token[0], {})[token[1]] = tensor.float()
    return Concepts({}, rows)


def read(adapter: AdapterFile) -> Concepts:
    """Returns what the checked bytes of a Custom Diffusion file hold.

    Raises:
        FailedPrecondition: a tensor has no place in such a file, half of a pair is missing, or a number is none.
    """
    tensors = {name: tensor.float() for name, tensor in load(adapter.data).items()}
    deltas: dict[str, torch.Tensor] = {}
    rows: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        token = token_of(name)
        module, kind = change_of(name) or ("", "")
        if not torch.isfinite(tensor).all():
            raise _odd(adapter, f"{name} holds numbers that are none")
        if token:
            rows.setdefault(token[0], {})[token[1]] = tensor
        elif kind == WHOLE:
            deltas[name] = tensor
        elif kind == LEFT and f"{module}.{RIGHT}" in tensors:
            deltas[f"{module}.{WHOLE}"] = tensor @ tensors[f"{module}.{RIGHT}"]
        elif not (kind == RIGHT and f"{module}.{LEFT}" in tensors):
            raise _odd(adapter, f"{name} has no place in it")
    return Concepts(deltas, rows)


class WordBinder:
    """Binds new words to rows in a pipeline's text encoders, and takes them off again to the last bit."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._tokenizers: dict[str, Any] = {}
        self._embeddings: dict[str, Any] = {}
        self._ends: list[tuple[Any, int]] = []

    def bind(self, files: Sequence[Concepts]) -> None:
        """Makes the words of these files known, and no others.

        Raises:
            FailedPrecondition: two files bind one word, the model knows it already, or its row does not fit.
        """
        self.release()
        rows: dict[str, dict[str, torch.Tensor]] = {}
        for concepts in files:
            for encoder, words in concepts.rows.items():
                twice = rows.get(encoder, {}).keys() & words.keys()
                if twice:
                    raise _clash(f"Two adapters bind {', '.join(sorted(twice))}")
                rows.setdefault(encoder, {}).update(words)
        try:
            for name, words in rows.items():
                self._bind(name, words)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Puts tokenizers and embeddings back as they were."""
        for name, tokenizer in self._tokenizers.items():
            setattr(self._pipe, TOKENIZERS[name], tokenizer)
        for name, embedding in self._embeddings.items():
            getattr(self._pipe, name).set_input_embeddings(embedding)
        for module, end in self._ends:
            module.eos_token_id = end
        self._tokenizers, self._embeddings, self._ends = {}, {}, []

    def _bind(self, name: str, words: Mapping[str, torch.Tensor]) -> None:
        encoder = getattr(self._pipe, name, None)
        if encoder is None:
            raise _clash(f"The adapter has rows for {name}, which this base model has not")
        plain, embedding = getattr(self._pipe, TOKENIZERS[name]), encoder.get_input_embeddings()
        tokenizer, order = copy.deepcopy(plain), sorted(words)
        for word in order:
            if words[word].shape != embedding.weight.shape[1:]:
                raise _clash(f"The row of {word} has shape {tuple(words[word].shape)}, not {embedding.weight.shape[1]}")
            tokenizer.add_tokens([word])
        if len(tokenizer) != len(plain) + len(order):  # add_tokens itself counts words it knew before
            raise _clash(f"The base model knows one of the words {', '.join(order)} already")
        self._tokenizers[name], self._embeddings[name] = plain, embedding
        setattr(self._pipe, TOKENIZERS[name], tokenizer)
        encoder.set_input_embeddings(_Extended(embedding, len(plain), torch.stack([words[word] for word in order])))
        for module in encoder.modules():  # one that takes the largest id for the end would take the new words
            if hasattr(module, "eos_token_id"):
                self._ends.append((module, module.eos_token_id))
                module.eos_token_id = tokenizer.eos_token_id


class _Extended(torch.nn.Module):
    """An embedding followed by more rows."""

    def __init__(self, frozen: Any, first: int, rows: torch.Tensor) -> None:
        """Takes the embedding, the id of the first new row and the (n, D) rows."""
        super().__init__()
        self.frozen, self.first = frozen, first
        self.rows = torch.nn.Parameter(rows.to(frozen.weight.device, frozen.weight.dtype), requires_grad=False)

    @property
    def weight(self) -> torch.Tensor:
        """The model's own (V, D) rows, whose type and device other code asks for."""
        weight: torch.Tensor = self.frozen.weight
        return weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, T) ids → (B, T, D)."""
        own = self.frozen(ids.clamp(max=self.first - 1))
        new = self.rows[(ids - self.first).clamp(min=0)]
        return torch.where((ids >= self.first)[..., None], new, own)


def _odd(adapter: AdapterFile, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"The adapter {adapter.digest[:12]} is no Custom Diffusion file: {why[:160]}. Export it again.",
        reason="ADAPTER_KIND",
    )


def _clash(what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{what}. Give adapters of this base model, each with words of its own.", reason="ADAPTER_MISMATCH"
    )
