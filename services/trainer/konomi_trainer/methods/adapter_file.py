"""Adapters as files: what diffusers and peft load, and beside it the own weights of kinds that are no LoRA.

The first is `pytorch_lora_weights.safetensors` of diffusers. The second, format konomi.lycoris/1, holds peft's names.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from konomi_chassis.models.families.unet.sdxl import SDXL
from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.tensors import pack, unpack
from konomi_trainer.methods import exact_factors
from konomi_trainer.methods.base import Files

MEDIA_TYPE = "application/vnd.konomi.adapter+safetensors"
Targets = Mapping[str, tuple[str, ...]]
"""Part of the pipeline → names of the layers an adapter sits on."""
UNET_TARGETS: Targets = SDXL.targets
"""Of Stable Diffusion, whose files do not say more."""
ADAPTER, NATIVE = "konomi.adapter/1", "konomi.lycoris/1"
LARGEST_BYTES = (2 << 30) - (16 << 20)
"""Largest LoRA that is published for a kind that is none: what a generator reads, less the room of a header."""


def lora_file(
    own: Tensors,
    parts: Iterable[str],
    rank: int,
    record: Mapping[str, str],
    dora: bool,
    targets: Targets = UNET_TARGETS,
) -> Files:
    """Returns the file of an adapter that is a LoRA.

    Args:
        own: its weights under peft's names, each after its part of the pipeline and a dot.
        parts: of the pipeline that learned.
        rank: r, which is alpha too.
        record: where the adapter comes from; it becomes the header entry "konomi".
        dora: whether the lengths of rows are learnt apart.
        targets: of the base model's family.
    """
    return Files(pack(own, _header(parts, rank, record, dora, targets=targets)))


def other_file(own: Tensors, rank: int, record: Mapping[str, str], targets: Targets = UNET_TARGETS) -> Files:
    """Returns the file of the LoRA that equals an adapter of another kind, and the adapter's own weights beside it.

    Where the LoRA would be larger than a generator reads, the own weights are the file: a generator adds them as well.

    Args:
        own: see lora_file.
        rank: r of its own weights.
        record: see lora_file.
        targets: see lora_file.
    """
    native = pack(own, {"konomi": _json({**record, "schema": NATIVE, "rank": str(rank)})})
    factors = exact_factors.of_modules(own)
    if lora_bytes(factors) > LARGEST_BYTES:
        return Files(native)
    return Files(_equal_lora(factors, {**record, "native": hashlib.sha256(native).hexdigest()}, targets), (native,))


def loadable(data: bytes) -> bytes:
    """Returns an adapter's file as every tool loads it: the LoRA that equals it where it holds weights of another kind.

    Args:
        data: of a file this module made.
    """
    tensors, header = unpack(data)
    record = json.loads(header["konomi"])
    if record["schema"] != NATIVE:
        return data
    return _equal_lora(exact_factors.of_modules(tensors), {**record, "schema": ADAPTER})


def lora_bytes(factors: Mapping[str, exact_factors.Factors]) -> int:
    """Returns how many bytes factors take as a LoRA, float32."""
    return sum(4 * (up.numel() + down.numel()) for up, down in factors.values())


def _equal_lora(
    factors: Mapping[str, exact_factors.Factors], record: Mapping[str, str], targets: Targets = UNET_TARGETS
) -> bytes:
    """Returns the file of a LoRA of given factors, each layer with a rank of its own."""
    tensors: Tensors = {}
    ranks: dict[str, int] = {}
    for module, (up, down) in factors.items():
        tensors |= {f"{module}.lora_B.weight": up, f"{module}.lora_A.weight": down}
        ranks[module] = down.shape[0]
    parts = sorted({module.partition(".")[0] for module in factors})
    usual = Counter(ranks.values()).most_common(1)[0][0]
    return pack(tensors, _header(parts, usual, record, False, ranks, targets))


def _header(
    parts: Iterable[str],
    rank: int,
    record: Mapping[str, str],
    dora: bool,
    ranks: Mapping[str, int] | None = None,
    targets: Targets = UNET_TARGETS,
) -> dict[str, str]:
    metadata: dict[str, Any] = {}
    for part in parts:
        own = {name.partition(".")[2]: r for name, r in (ranks or {}).items() if name.startswith(f"{part}.")}
        others = {name: r for name, r in own.items() if r != rank}
        metadata |= {
            f"{part}.lora_alpha": rank,
            f"{part}.r": rank,
            f"{part}.target_modules": sorted(targets[part]),
            f"{part}.peft_type": "LORA",
            f"{part}.lora_dropout": 0.0,
            f"{part}.bias": "none",
            f"{part}.use_dora": dora,
            f"{part}.use_rslora": False,
        }
        if others:
            metadata |= {f"{part}.rank_pattern": others, f"{part}.alpha_pattern": others}
    return {"lora_adapter_metadata": _json(metadata), "konomi": _json(record)}


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), sort_keys=True)
