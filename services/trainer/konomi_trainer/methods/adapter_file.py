"""Adapters as files: what diffusers and peft load, and beside it the own weights of kinds that are no LoRA.

The first is `pytorch_lora_weights.safetensors` of diffusers. The second, format konomi.lycoris/1, holds peft's names.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.tensors import pack
from konomi_trainer.methods.base import Files

MEDIA_TYPE = "application/vnd.konomi.adapter+safetensors"
TARGETS: Mapping[str, tuple[str, ...]] = {
    "unet": ("to_q", "to_k", "to_v", "to_out.0"),
    "text_encoder": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "text_encoder_2": ("q_proj", "k_proj", "v_proj", "out_proj"),
}
"""The layers an adapter sits on, by part of the pipeline."""
RELATIVE_ZERO = 1e-6


def lora_file(own: Tensors, parts: Iterable[str], rank: int, record: Mapping[str, str], dora: bool) -> Files:
    """Returns the file of an adapter that is a LoRA.

    Args:
        own: its weights under peft's names, each after its part of the pipeline and a dot.
        parts: of the pipeline that learned.
        rank: r, which is alpha too.
        record: where the adapter comes from; it becomes the header entry "konomi".
        dora: whether the lengths of rows are learnt apart.
    """
    return Files(pack(own, _header(parts, rank, record, dora)))


def other_file(own: Tensors, deltas: Tensors, parts: Iterable[str], rank: int, record: Mapping[str, str]) -> Files:
    """Returns the file of the LoRA that equals an adapter of another kind, and the adapter's own weights beside it.

    Args:
        own: see lora_file.
        deltas: part, dot and module → (O, D) change of its weight.
        parts: see lora_file.
        rank: r of its own weights.
        record: see lora_file.
    """
    native = pack(own, {"konomi": _json({**record, "schema": "konomi.lycoris/1", "rank": str(rank)})})
    tensors, width = as_lora(deltas)
    record = {**record, "native": hashlib.sha256(native).hexdigest()}
    return Files(pack(tensors, _header(parts, width, record, False)), (native,))


def as_lora(deltas: Tensors) -> tuple[Tensors, int]:
    """Returns LoRA weights whose products are the given changes to the last bits of float32, and their common rank.

    Args:
        deltas: module → (O, D) change of its weight.
    """
    parts = {}
    for name, delta in deltas.items():
        left, values, right = torch.linalg.svd(delta.double(), full_matrices=False)
        kept = max(1, int((values > RELATIVE_ZERO * values[0]).sum()))
        root = values[:kept].sqrt()
        parts[name] = (left[:, :kept] * root, root[:, None] * right[:kept])
    width = max(down.shape[0] for _, down in parts.values())
    tensors = {}
    for name, (up, down) in parts.items():
        more = width - down.shape[0]
        tensors[f"{name}.lora_B.weight"] = torch.nn.functional.pad(up, (0, more)).float()
        tensors[f"{name}.lora_A.weight"] = torch.nn.functional.pad(down, (0, 0, 0, more)).float()
    return tensors, width


def _header(parts: Iterable[str], rank: int, record: Mapping[str, str], dora: bool) -> dict[str, str]:
    metadata: dict[str, Any] = {}
    for part in parts:
        metadata |= {
            f"{part}.lora_alpha": rank,
            f"{part}.r": rank,
            f"{part}.target_modules": sorted(TARGETS[part]),
            f"{part}.peft_type": "LORA",
            f"{part}.lora_dropout": 0.0,
            f"{part}.bias": "none",
            f"{part}.use_dora": dora,
            f"{part}.use_rslora": False,
        }
    return {"lora_adapter_metadata": _json(metadata), "konomi": _json(record)}


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), sort_keys=True)
