"""Tensors kept on disk under the digest of what they were made from: latents of images, embeddings of captions.

The folder is no input: every file carries the digest of its tensors, and one that does not match is made again,
so it may be deleted at any time. The file of an image's tensors bears the image's digest in its name, by which it goes
when the image has to.
"""

import contextlib
import hashlib
import os
import shutil
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

    def get(self, name: str, make: Callable[[], Tensors], image: str = "") -> Tensors:
        """Returns the tensors of a key; makes and keeps them where they are absent or damaged.

        Args:
            name: the key.
            make: makes the tensors.
            image: digest of the image they were made from; empty where it is none.
        """
        folder = self.folder / ("images" if image else "texts") / name[:2]
        path = folder / (f"{image}-{name}.safetensors" if image else f"{name}.safetensors")
        tensors = _read(path)
        if tensors is not None:
            with contextlib.suppress(OSError):
                os.utime(path)  # a file nobody uses grows old
        else:
            tensors = make()
            _write(path, tensors)
        return tensors

    def clear_unnamed(self) -> None:
        """Removes what earlier versions kept: nothing in its names said which image it was made from."""
        for old in self.folder.glob("[0-9a-f][0-9a-f]"):
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old, ignore_errors=True)


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
