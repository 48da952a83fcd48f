"""Concepts of several Custom Diffusion models in one: features of their words, then the closed form layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_trainer.merging import closed_form, low_rank
from konomi_trainer.methods import token_rows
from konomi_trainer.methods.base import LoadedBase
from konomi_trainer.methods.concept_file import ConceptModel
from konomi_trainer.methods.word_lora import WordLora

SCHEMA = "konomi.merge/1"
"""Of the document that stands where a manifest would: the models, and captions that name their concepts."""
BATCH, LOSSLESS = 64, 1 - 1e-7


@dataclass(frozen=True)
class MergePart:
    """One model to merge, with captions its concepts were taught with, each naming one of its tokens."""

    model: ConceptModel
    captions: Sequence[str]


@dataclass(frozen=True)
class WordFeatures:
    """Features of the text encoder, float64: (S, D) of the concepts' words with their part, (N, D) of ordinary ones."""

    targets: torch.Tensor
    part: list[int]
    regular: torch.Tensor


def check(models: Sequence[ConceptModel] | Sequence[WordLora]) -> None:
    """Refuses models that cannot be one.

    Raises:
        FailedPrecondition: they have different bases.
        InvalidArgument: two bind the same token.
    """
    for model in models[1:]:
        if model.base_digest != models[0].base_digest:
            raise FailedPrecondition(
                f"expected models of one base; these are of {models[0].base_model} and {model.base_model} "
                f"({models[0].base_digest[:12]} and {model.base_digest[:12]}): merge those of one base",
                reason="BASES_DIFFER",
            )
    tokens = [concept.token for model in models for concept in model.concepts]
    double = sorted({token for token in tokens if tokens.count(token) > 1})
    if double:
        raise InvalidArgument(
            f"expected concepts with different tokens; {', '.join(double)} is in more than one model: train one "
            "of them again under another token",
            reason="TOKENS_COLLIDE",
        )


def merge_parts(
    base: LoadedBase, parts: Sequence[MergePart], regular: Sequence[str], keep_mass: float, record: Mapping[str, str]
) -> tuple[ConceptModel, dict[str, float]]:
    """Returns one model that knows the concepts of all, and its figures.

    Args:
        base: their base model, freshly loaded; its tokenizers and text encoders are changed.
        parts: the models; `check` has let them pass.
        regular: ordinary captions, whose words number at least the width of the text features.
        keep_mass: share of the singular values of the models to keep before they are merged; 0 keeps them whole. The
            merge itself has the rank of the concepts' words, and loses them where it is cut.
        record: where the new model comes from.

    Returns:
        The model; "constraint_error" and "drift" are the largest over the layers, as stored.
    """
    words = features(base, parts, regular)
    dense = [_cut(part.model, keep_mass) for part in parts]
    deltas: dict[str, Any] = {}
    error = moved = 0.0
    for name in sorted(set(chain.from_iterable(dense))):
        start: Any = base.network.get_submodule(name).weight
        layer = _merge_layer(start.detach().cpu().double(), [part.get(name) for part in dense], words, keep_mass)
        deltas[name] = layer.delta
        error, moved = max(error, layer.constraint_error), max(moved, layer.drift)
    first = parts[0].model
    concepts = tuple(chain.from_iterable(part.model.concepts for part in parts))
    rows = {token: row for part in parts for token, row in part.model.rows.items()}
    model = ConceptModel(concepts, deltas, rows, first.base_model, first.base_digest, record)
    return model, {
        "concepts": float(len(concepts)),
        "constraint_error": error,
        "drift": moved,
        "target_words": float(len(words.part)),
        "regular_words": float(len(words.regular)),
    }


@dataclass(frozen=True)
class _MergedLayer:
    """What the merge adds to one layer, whole or as two factors, and how exact it is as stored."""

    delta: Any
    constraint_error: float
    drift: float


def _merge_layer(
    weight: torch.Tensor, changes: Sequence[torch.Tensor | None], words: WordFeatures, keep_mass: float
) -> _MergedLayer:
    """Merges the changes of one layer (O, D), float64: of each part, None for one that leaves the layer as it is."""
    own = [weight if change is None else weight + change.double() for change in changes]
    values = torch.stack([own[part] @ row for row, part in zip(words.targets, words.part, strict=True)])
    merged = closed_form.closed_form(weight, words.targets, values, words.regular)
    whole = (merged - weight).float()
    delta = _stored(whole) if keep_mass else whole
    stored = weight + (delta[0] @ delta[1] if isinstance(delta, tuple) else delta).double()
    return _MergedLayer(
        delta,
        closed_form.constraint_error(stored, words.targets, values),
        closed_form.drift(stored, weight, words.regular),
    )


def _cut(model: ConceptModel, mass: float) -> dict[str, torch.Tensor]:
    """Returns a model's changes, with the share `mass` of their singular values where it is above 0."""
    if not mass:
        return model.dense()
    factors = {name: low_rank.factorise(delta, mass) for name, delta in model.dense().items()}
    return {name: up @ down for name, (up, down) in factors.items()}


def _stored(delta: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Returns the factors of a merged change where these are smaller than it: it has few singular values above 0."""
    up, down = low_rank.factorise(delta, LOSSLESS)
    return (up, down) if up.numel() + down.numel() < delta.numel() else delta


@torch.no_grad()
def features(base: LoadedBase, parts: Sequence[MergePart], regular: Sequence[str]) -> WordFeatures:
    """Returns the features of the concepts' words, from each V* to the end of its caption, and of ordinary words.

    The start token, the words before V* and padding are left out, as is what depends on rows before it.
    """
    towers = base.text_towers()
    ordinary = _words(base, list(dict.fromkeys(regular)), lambda ids: 1)
    concepts = tuple(chain.from_iterable(part.model.concepts for part in parts))
    bound = token_rows.bind(towers, concepts)
    for part in parts:
        for token, rows in part.model.rows.items():
            for parameter, row in zip(bound[token], rows, strict=True):
                parameter.copy_(row)
    tokenizer: Any = towers[0][0]
    part_features: list[torch.Tensor] = []
    owner: list[int] = []
    for number, part in enumerate(parts):
        ids_of = tokenizer.convert_tokens_to_ids([concept.token for concept in part.model.concepts])
        captions = sorted(set(part.captions))
        rows_ = _words(base, captions, lambda ids, own=ids_of: next(i for i, x in enumerate(ids) if x in own))
        part_features.append(rows_)
        owner += [number] * len(rows_)
    targets = torch.cat(part_features)
    kept = closed_form.independent(targets)
    return WordFeatures(targets[kept], [owner[index] for index in kept], ordinary)


def _words(base: LoadedBase, captions: Sequence[str], first: Any) -> torch.Tensor:
    """Returns (N, D) float64 features of captions' tokens from `first(ids)` to the end token."""
    tokenizer: Any = base.text_towers()[0][0]
    rows: list[torch.Tensor] = []
    for start in range(0, len(captions), BATCH):
        part = list(captions[start : start + BATCH])
        hidden = base.embed(part)["hidden"].double().cpu()
        given = tokenizer(part, padding="max_length", truncation=True, max_length=tokenizer.model_max_length)
        for ids, states in zip(given["input_ids"], hidden, strict=True):
            end = ids.index(tokenizer.eos_token_id, 1) if tokenizer.eos_token_id in ids[1:] else len(ids) - 1
            rows.append(states[first(ids) : end + 1])
    return torch.cat(rows) if rows else torch.zeros(0, 0, dtype=torch.float64)
