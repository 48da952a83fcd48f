"""Words and the LoRA they were learnt beside, to and from their file; see konomi_chassis.models.concept_format.

Several become one that knows the words of all: their rows side by side, and their changes added, which factors one
behind the other are: [B1 B2] [A1; A2] = B1 A1 + B2 A2.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch

from konomi.errors import FailedPrecondition
from konomi_chassis.models.concept_format import WORDS_FORMAT, token_of
from konomi_trainer.data.tensors import pack, unpack
from konomi_trainer.methods.concept_file import PREFIXES
from konomi_trainer.methods.concepts import Concept, from_rows

DOWN, UP, ALPHA, RANK = ".lora_A.weight", ".lora_B.weight", ".lora_alpha", ".r"
METADATA = "lora_adapter_metadata"


@dataclass(frozen=True)
class WordLora:
    """Words with their LoRA, in memory.

    Attributes:
        concepts: what it binds, in order.
        lora: diffusers' name of a tensor → the tensor.
        rows: token → one (D,) float32 row per text encoder that learns words.
        base_model: id of the base model.
        base_digest: digest of its weights.
        metadata: what diffusers' header of a LoRA says: rank, alpha, layers.
        record: where the model comes from.
    """

    concepts: tuple[Concept, ...]
    lora: Mapping[str, torch.Tensor]
    rows: Mapping[str, tuple[torch.Tensor, ...]]
    base_model: str
    base_digest: str
    metadata: Mapping[str, object] = field(default_factory=dict)
    record: Mapping[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """The rank of its layers."""
        return next(tensor.shape[0] for name, tensor in self.lora.items() if name.endswith(DOWN))

    def lora_file(self) -> bytes:
        """Returns the LoRA alone, as diffusers and peft load it."""
        record = json.dumps(dict(self.record), sort_keys=True)
        return pack(dict(self.lora), {METADATA: json.dumps(dict(self.metadata), sort_keys=True), "konomi": record})


def metadata_of(header: Mapping[str, str]) -> dict[str, object]:
    """Returns what the header of a LoRA's file says of rank, alpha and layers."""
    return dict(json.loads(header[METADATA]))


def to_bytes(model: WordLora) -> bytes:
    """Returns the file; the same model gives the same bytes."""
    rows = {
        f"{prefix}{token}": row for token, own in model.rows.items() for prefix, row in zip(PREFIXES, own, strict=False)
    }
    header = {
        "format": WORDS_FORMAT,
        "base_model": model.base_model,
        "base_digest": model.base_digest,
        "concepts": json.dumps([asdict(concept) for concept in model.concepts], sort_keys=True),
        METADATA: json.dumps(dict(model.metadata), sort_keys=True),
        "konomi": json.dumps(dict(model.record), sort_keys=True),
    }
    return pack({**model.lora, **rows}, header)


def from_bytes(data: bytes) -> WordLora:
    """Returns the model of a file.

    Raises:
        FailedPrecondition: the bytes are no such file, or a part is missing.
    """
    try:
        tensors, header = unpack(data)
        if header.get("format") != WORDS_FORMAT:
            raise ValueError(f"its format is {header.get('format', 'not said')!r}")
        concepts = from_rows(json.loads(header["concepts"]))
        rows = {
            c.token: tuple(tensors[f"{p}{c.token}"].float() for p in PREFIXES if f"{p}{c.token}" in tensors)
            for c in concepts
        }
        lora = {name: tensor for name, tensor in tensors.items() if token_of(name) is None}
        if not all(rows.values()) or not any(name.endswith(DOWN) for name in lora):
            raise ValueError("rows or a LoRA are missing")
        metadata, record = json.loads(header[METADATA]), json.loads(header["konomi"])
        return WordLora(concepts, lora, rows, header["base_model"], header["base_digest"], metadata, record)
    except (ValueError, KeyError, TypeError) as error:
        raise FailedPrecondition(
            f"expected words with their LoRA ({WORDS_FORMAT}); came a file that is none: {str(error)[:120]}",
            reason="ADAPTER_KIND",
        ) from error


def joined(models: Sequence[WordLora], record: Mapping[str, str]) -> WordLora:
    """Returns one model that knows the words of all and changes what all of them change, added up.

    Args:
        models: of one base, with different words; `merging.concepts.check` has let them pass.
        record: where the new model comes from.
    """
    names = sorted({name for model in models for name in model.lora})
    lora = {
        name: torch.cat(
            [model.lora[name] for model in models if name in model.lora], dim=0 if name.endswith(DOWN) else 1
        )
        for name in names
    }
    first, rank = models[0], sum(model.rank for model in models)
    metadata = {name: rank if name.endswith((ALPHA, RANK)) else value for name, value in first.metadata.items()}
    rows = {token: own for model in models for token, own in model.rows.items()}
    concepts = tuple(concept for model in models for concept in model.concepts)
    return WordLora(concepts, lora, rows, first.base_model, first.base_digest, metadata, record)
