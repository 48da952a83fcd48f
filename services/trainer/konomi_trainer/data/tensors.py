"""Safetensors files as bytes that depend on nothing but their content.

The library writes a header with several metadata entries in an arbitrary order, so equal weights would get
unequal digests; here the header is written again in sorted order.
"""

import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save


def pack(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Returns the safetensors file of `tensors`, byte for byte the same for the same content.

    Args:
        tensors: any shapes, on any device.
        metadata: entries of the header; "format": "pt" is added, which other tools expect.
    """
    plain = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    data = save(plain)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = {"format": "pt", **(metadata or {})}
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def unpack(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Returns tensors and header metadata of a safetensors file.

    Raises:
        ValueError: the bytes are no complete safetensors file.
    """
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(
            f"expected a complete safetensors file; came {len(data)} bytes that are none: {error}"
        ) from error
    size = int.from_bytes(data[:8], "little")
    return tensors, dict(json.loads(data[8 : 8 + size]).get("__metadata__", {}))


def loadable_name(name: str) -> str:
    """Returns the name under which every loader finds an adapter's weight.

    peft writes the lengths of a DoRA's rows as `….lora_magnitude_vector`; transformers, which loads the adapters of
    text encoders, knows them as `….lora_magnitude_vector.weight` alone and starts the others anew.
    """
    return f"{name}.weight" if name.endswith(".lora_magnitude_vector") else name
