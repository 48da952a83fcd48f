"""The embeddings of a taste's images as one safetensors file: for every space its digests and its unit vectors."""

import json
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from konomi_chassis.storage.snapshots import invalid

SCHEMA = "konomi.vectors/1"
MEDIA_TYPE = "application/vnd.konomi.vectors+safetensors"

Spaces = Mapping[str, Mapping[str, np.ndarray]]
"""Name of a space to digest to vector (D,) float32."""


def to_bytes(spaces: Spaces) -> bytes:
    """Serialises vectors; equal vectors make equal bytes."""
    tensors: dict[str, np.ndarray] = {}
    names = sorted(spaces)
    for number, name in enumerate(names):
        digests = sorted(spaces[name])
        tensors[f"{number}.digests"] = np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, 32).copy()
        tensors[f"{number}.vectors"] = np.stack([np.asarray(spaces[name][digest], np.float32) for digest in digests])
    return save(tensors, metadata={"konomi": json.dumps({"schema": SCHEMA, "spaces": names})})


def from_bytes(data: bytes) -> dict[str, dict[str, np.ndarray]]:
    """Reads vectors back.

    Raises:
        InvalidArgument: the bytes are no such file, or a vector is not finite.
    """
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        facts = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["konomi"])
        if facts["schema"] != SCHEMA:
            raise KeyError(facts["schema"])
        spaces = {name: _space(tensors, number) for number, name in enumerate(facts["spaces"])}
    except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
        raise invalid(f"its embeddings are no {SCHEMA} ({type(error).__name__})") from error
    return spaces


def _space(tensors: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    digests, vectors = tensors[f"{number}.digests"], tensors[f"{number}.vectors"]
    fits = digests.dtype == np.uint8 and digests.shape == (len(vectors), 32) and vectors.ndim == 2
    if not fits or vectors.dtype != np.float32 or not np.isfinite(vectors).all():
        raise ValueError("tensors do not fit each other")
    return {row.tobytes().hex(): vector for row, vector in zip(digests, vectors, strict=True)}
