"""A Custom Diffusion model in memory, to and from its file; the layout is konomi_chassis.models.concept_format's."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch

from konomi.errors import FailedPrecondition
from konomi_chassis.models.concept_format import FORMAT, LEFT, RIGHT, TOKEN_PREFIXES, WHOLE, token_of
from konomi_trainer.data.tensors import pack, unpack
from konomi_trainer.methods.concepts import Concept, from_rows

PREFIXES = tuple(TOKEN_PREFIXES.values())
Factors = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class ConceptModel:
    """A Custom Diffusion model in memory.

    Attributes:
        concepts: what it binds, in order.
        deltas: module name, for example "….attn2.to_k" → (O, D) float32, or its factors (O, R) and (R, D).
        rows: token → one (D,) float32 row per text encoder.
        base_model: id of the base model.
        base_digest: digest of its weights.
        record: where the model comes from.
    """

    concepts: tuple[Concept, ...]
    deltas: Mapping[str, torch.Tensor | Factors]
    rows: Mapping[str, tuple[torch.Tensor, ...]]
    base_model: str
    base_digest: str
    record: Mapping[str, str] = field(default_factory=dict)

    def dense(self) -> dict[str, torch.Tensor]:
        """Returns every delta as one (O, D) float32 matrix."""
        return {name: delta[0] @ delta[1] if isinstance(delta, tuple) else delta for name, delta in self.deltas.items()}


def to_bytes(model: ConceptModel) -> bytes:
    """Returns the file; the same model gives the same bytes."""
    tensors: dict[str, torch.Tensor] = {}
    for name, delta in model.deltas.items():
        if isinstance(delta, tuple):
            tensors[f"{name}.{LEFT}"], tensors[f"{name}.{RIGHT}"] = delta
        else:
            tensors[f"{name}.{WHOLE}"] = delta
    for token, rows in model.rows.items():
        for prefix, row in zip(PREFIXES, rows, strict=False):
            tensors[f"{prefix}{token}"] = row
    header = {
        "format": FORMAT,
        "base_model": model.base_model,
        "base_digest": model.base_digest,
        "layout": "sdxl" if any(len(rows) == 2 for rows in model.rows.values()) else "sd",
        "concepts": json.dumps([asdict(concept) for concept in model.concepts], sort_keys=True),
        "konomi": json.dumps(dict(model.record), sort_keys=True),
    }
    return pack(tensors, header)


def from_bytes(data: bytes) -> ConceptModel:
    """Returns the model of a file.

    Raises:
        FailedPrecondition: the bytes are no such file, or a part is missing.
    """
    try:
        tensors, header = unpack(data)
        if header.get("format") != FORMAT:
            raise ValueError(f"its format is {header.get('format', 'not said')!r}")
        concepts = from_rows(json.loads(header["concepts"]))
        rows = {c.token: _rows(tensors, c.token) for c in concepts}
        names = sorted({name.rpartition(".")[0] for name in tensors if token_of(name) is None})
        return ConceptModel(
            concepts,
            {name: _delta(tensors, name) for name in names},
            rows,
            header["base_model"],
            header["base_digest"],
            json.loads(header["konomi"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FailedPrecondition(
            f"expected a Custom Diffusion model ({FORMAT}); came a file that is none: {str(error)[:120]}",
            reason="ADAPTER_KIND",
        ) from error


def _rows(tensors: Mapping[str, torch.Tensor], token: str) -> tuple[torch.Tensor, ...]:
    rows = tuple(tensors[f"{prefix}{token}"].float() for prefix in PREFIXES if f"{prefix}{token}" in tensors)
    if not rows:
        raise ValueError(f"the row of {token} is missing")
    return rows


def _delta(tensors: Mapping[str, torch.Tensor], name: str) -> torch.Tensor | Factors:
    if f"{name}.{WHOLE}" in tensors:
        return tensors[f"{name}.{WHOLE}"].float()
    return tensors[f"{name}.{LEFT}"].float(), tensors[f"{name}.{RIGHT}"].float()
