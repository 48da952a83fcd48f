"""Checkpoints of a run that may go on on another machine: artifacts, and a note of the newest in the run's folder.

The machine that trains puts the two files of each checkpoint into the store once they are committed in its home; the
trainer's service notes their digests in its own home, where it finds them again after a restart. What is no longer
noted is discarded, where the store is a folder; a run that has ended notes nothing.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from konomi.errors import NotFound
from konomi_trainer.jobs.run_files import RunFiles
from konomi_trainer.training.checkpoints import KEPT, Checkpoints, make_folder_durably, write_durably

log = logging.getLogger(__name__)
NOTE = "shared.json"
SCHEMA = "konomi.shared-checkpoints/1"
TENSORS_TYPE = "application/vnd.konomi.checkpoint+safetensors"
RECORD_TYPE = "application/json"


@dataclass(frozen=True)
class SharedCheckpoint:
    """A checkpoint in the store: the step, and the digests of its tensors and of the record that commits it."""

    step: int
    tensors: str
    record: str


class CheckpointStore(Protocol):
    """The artifact store."""

    @property
    def is_local(self) -> bool:
        """Whether the artifacts lie in a folder of this machine."""

    def put(self, data: bytes, media_type: str) -> Any:
        """Stores bytes durably; the answer has `.digest`."""

    def get(self, digest: str) -> bytes:
        """Returns the bytes, verified."""

    def discard(self, digests: Sequence[str], before: float | None) -> Any:
        """Removes artifacts for good, those of a folder."""


def share(checkpoints: Checkpoints, step: int, store: CheckpointStore) -> SharedCheckpoint:
    """Puts the files of a committed checkpoint into the store, durably."""
    tensors, record = checkpoints.files(step)
    return SharedCheckpoint(
        step, str(store.put(tensors, TENSORS_TYPE).digest), str(store.put(record, RECORD_TYPE).digest)
    )


def fetch(checkpoints: Checkpoints, noted: Sequence[SharedCheckpoint], store: CheckpointStore) -> int:
    """Brings the newest of the noted checkpoints into the home, unless it holds it or a newer one of the same run.

    Returns:
        The step a run goes on from, 0 where it begins.
    """
    own = checkpoints.newest()
    here = own.step if own is not None else 0
    for checkpoint in sorted(noted, key=lambda one: one.step, reverse=True):
        if checkpoint.step <= here:
            break
        try:
            tensors, record = store.get(checkpoint.tensors), store.get(checkpoint.record)
        except NotFound:
            log.warning("the checkpoint of step %d is not in the store; an older one is taken", checkpoint.step)
            continue
        checkpoints.adopt(checkpoint.step, tensors, record)
        return checkpoint.step
    return here


class SharedRunFiles(RunFiles):
    """What runs that are trained elsewhere leave in the home of the trainer's service, and in the store."""

    def __init__(self, folder: Path, store: CheckpointStore) -> None:
        """Takes the home, and the store the checkpoints are in."""
        super().__init__(folder)
        self._store = store

    def noted(self, run: str) -> list[SharedCheckpoint]:
        """Returns the newest checkpoints of a run, by rising step; none where the note is missing or damaged."""
        try:
            note = json.loads(self._note(run).read_bytes())
            if note["schema"] != SCHEMA:
                return []
            return [SharedCheckpoint(**one) for one in note["checkpoints"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def note(self, run: str, checkpoint: SharedCheckpoint) -> None:
        """Notes a checkpoint durably and discards what is older than the newest two."""
        before = [one for one in self.noted(run) if one.step != checkpoint.step]
        after = sorted([*before, checkpoint], key=lambda one: one.step)[-KEPT:]
        make_folder_durably(self.checkpoints / run)
        text = {"schema": SCHEMA, "checkpoints": [asdict(one) for one in after]}
        write_durably(self._note(run), json.dumps(text, sort_keys=True).encode())
        self._discard(before)

    def forget(self, run: str) -> None:
        """Drops the checkpoints of a run that has ended, here and in the store."""
        gone = self.noted(run)
        super().forget(run)
        self._discard(gone)

    def _discard(self, checkpoints: Sequence[SharedCheckpoint]) -> None:
        """Discards artifacts no run notes; from a bucket nothing is ever discarded."""
        held = {digest for run in self.unfinished() for one in self.noted(run) for digest in (one.tensors, one.record)}
        going = {digest for one in checkpoints for digest in (one.tensors, one.record)} - held
        if going and self._store.is_local:
            self._store.discard(sorted(going), None)

    def _note(self, run: str) -> Path:
        return self.checkpoints / run / NOTE
