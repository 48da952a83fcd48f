"""Checkpoints of a training run: one safetensors file each, and a JSON file that commits it last.

A checkpoint exists when its JSON file does and names the digest of the safetensors file beside it; anything
else in the folder is the rest of an interrupted save and is ignored.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from konomi_trainer.data.tensors import pack, unpack

SCHEMA = "konomi.checkpoint/1"
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: tensors by name, and plain numbers."""

    step: int
    tensors: dict[str, torch.Tensor]
    numbers: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run in one folder."""

    def __init__(self, folder: Path, fault: Callable[[str], None] = lambda point: None) -> None:
        """Uses `folder`, made when first needed; `fault` is called at every point where a kill may hit."""
        self.folder = folder
        self.fault = fault

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]) -> None:
        """Commits a checkpoint durably, then drops all but the newest two."""
        data = pack(tensors)
        record = {"schema": SCHEMA, "step": step, "sha256": _digest(data, dict(numbers)), "numbers": dict(numbers)}
        self.adopt(step, data, json.dumps(record, sort_keys=True).encode())
        self.fault("checkpoint.after_commit")
        for old in self.steps()[:-KEPT]:
            self._path(old, "json").unlink(missing_ok=True)
            self._path(old, "safetensors").unlink(missing_ok=True)

    def adopt(self, step: int, tensors: bytes, record: bytes) -> None:
        """Writes the two files of a checkpoint durably, the one that commits it last; see `files`."""
        make_folder_durably(self.folder)
        self._write(self._path(step, "safetensors"), tensors)
        self.fault("checkpoint.after_tensors")
        self._write(self._path(step, "json"), record)

    def files(self, step: int) -> tuple[bytes, bytes]:
        """Returns the two files of a checkpoint: its tensors, and the record that commits it.

        Raises:
            OSError: there is none of this step.
        """
        return self._path(step, "safetensors").read_bytes(), self._path(step, "json").read_bytes()

    def newest(self) -> Checkpoint | None:
        """Returns the newest complete checkpoint, or None where there is none."""
        for step in reversed(self.steps()):
            checkpoint = self._read(step)
            if checkpoint is not None:
                return checkpoint
        return None

    def steps(self) -> list[int]:
        """Returns the steps that have a commit file, rising."""
        return sorted(int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.json"))

    def clear(self) -> None:
        """Removes the folder and what is in it; commit files go first."""
        for pattern in ("*.json", "*"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        if self.folder.exists():
            self.folder.rmdir()

    def _read(self, step: int) -> Checkpoint | None:
        """Returns the checkpoint of a step, or None where a byte of it is not what was committed."""
        try:
            record = json.loads(self._path(step, "json").read_bytes())
            data = self._path(step, "safetensors").read_bytes()
            if (
                record["schema"] != SCHEMA
                or record["step"] != step
                or record["sha256"] != _digest(data, record["numbers"])
            ):
                return None
            return Checkpoint(step, unpack(data)[0], record["numbers"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _path(self, step: int, suffix: str) -> Path:
        return self.folder / f"step-{step:08d}.{suffix}"

    def _write(self, path: Path, data: bytes) -> None:
        write_durably(path, data, lambda: self.fault(f"checkpoint.mid_{path.suffix[1:]}"))


class OthersCheckpoints(Checkpoints):
    """Checkpoints another process writes: read here, never saved."""

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]) -> None:
        """Leaves it to the other."""


def _digest(data: bytes, numbers: Mapping[str, Any]) -> str:
    return hashlib.sha256(data + json.dumps(numbers, sort_keys=True).encode()).hexdigest()


def make_folder_durably(folder: Path) -> None:
    """Makes a folder and those above it, all of which outlive a loss of power."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in new:
        _sync_folder(place.parent)


def write_durably(path: Path, data: bytes, fault: Callable[[], None] = lambda: None) -> None:
    """Writes a file that is complete or absent: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        file.write(data[: len(data) // 2])
        fault()
        file.write(data[len(data) // 2 :])
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
