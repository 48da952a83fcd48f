"""Tensors kept on disk under the digest of what they were made from: latents of images, embeddings of captions.

The folder is no input: every file carries the digest of its tensors, and one that does not match is made again,
so it may be deleted at any time.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from konomi_trainer.data.tensors import pack, unpack

Tensors = dict[str, torch.Tensor]


def key(*parts: str) -> str:
    """Returns the sha256 of the parts, which no other list of parts has."""
    return hashlib.sha256("\0".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()


class TensorCache:
    """A folder of safetensors files, complete or absent, shared by every run."""

    def __init__(self, folder: Path) -> None:
        """Uses `folder`, made when first needed."""
        self.folder = folder

    def get(self, name: str, make: Callable[[], Tensors]) -> Tensors:
        """Returns the tensors of a key; makes and keeps them where they are absent or damaged."""
        path = self.folder / name[:2] / f"{name}.safetensors"
        tensors = _read(path)
        if tensors is None:
            tensors = make()
            _write(path, tensors)
        return tensors


def _read(path: Path) -> Tensors | None:
    try:
        tensors, metadata = unpack(path.read_bytes())
    except (OSError, ValueError):
        return None
    return tensors if metadata.get("sha256") == _digest(tensors) else None


def _write(path: Path, tensors: Tensors) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pack(tensors, {"sha256": _digest(tensors)}))
        Path(temporary).rename(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _digest(tensors: Tensors) -> str:
    return hashlib.sha256(pack(tensors)).hexdigest()
