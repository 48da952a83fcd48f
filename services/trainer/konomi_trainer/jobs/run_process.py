"""`python -m konomi_trainer.jobs.run_process`: one training run, in a process that ends with it.

The trainer (see own_process) writes a task as the first line of its stdin and then words: `stop`, and `kept` after each
publication. It answers on stdout with one JSON line an event; files go through the artifact store and are named by
digest. All of its memory, and the context of the GPU, is given back when it ends.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from konomi.errors import KonomiError
from konomi_chassis.process import die_with_parent, keep_freed_memory, usable_cores
from konomi_chassis.storage.failpoints import failpoint
from konomi_trainer.configuration import Configuration
from konomi_trainer.jobs.publishing import Publication, Reports
from konomi_trainer.jobs.shared_checkpoints import CheckpointStore, share
from konomi_trainer.jobs.trainer import Listener, RunTrainer
from konomi_trainer.jobs.worker import COMPANION_MEDIA_TYPE, failure_of
from konomi_trainer.methods.base import Files
from konomi_trainer.training.checkpoints import Checkpoints
from konomi_trainer.training.loop import Stopped

STOP, KEPT = "stop", "kept"
LOST = 70


class Conversation:
    """What a run and the trainer that started it say to each other."""

    def __init__(self, words: IO[bytes], events: IO[str]) -> None:
        """Listens to `words` in a thread; the process ends when they do, since the trainer is gone."""
        self._words, self._events, self._writing = words, events, threading.Lock()
        self._stop, self._kept = threading.Event(), threading.Semaphore(0)
        threading.Thread(target=self._listen, name="words", daemon=True).start()

    def say(self, event: str, **fields: Any) -> None:
        """Says that something happened."""
        with self._writing:
            print(json.dumps({"event": event, **fields}), file=self._events, flush=True)

    def stopping(self) -> bool:
        """Says whether the run shall stop."""
        return self._stop.is_set()

    def wait_until_kept(self) -> None:
        """Waits until the trainer has entered what was published: a checkpoint is committed after that."""
        self._kept.acquire()

    def _listen(self) -> None:
        for line in self._words:
            word = line.decode().strip()
            if word == STOP:
                self._stop.set()
            elif word == KEPT:
                self._kept.release()
        os._exit(LOST)


def train(task: dict[str, Any], trainer: RunTrainer, store: CheckpointStore, conversation: Conversation) -> None:
    """Trains a run and says how it ended: "done", "stopped" or "failed".

    Args:
        task: the run's id, manifest digest, configuration and reports; `shares` where its checkpoints are artifacts.
        trainer: trains in this process.
        store: where files go.
        conversation: with the trainer that started this process.
    """

    def published(publication: Publication) -> None:
        fields: dict[str, Any] = {**vars(publication), "files": _kept(store, publication.files, publication.media_type)}
        if publication.sheet is not None:
            fields["sheet"] = str(store.put(publication.sheet, "image/png").digest)
        conversation.say("published", **fields)
        conversation.wait_until_kept()

    def committed(step: int) -> None:
        if task.get("shares"):
            shared = share(Checkpoints(trainer.files.checkpoints / task["run"]), step, store)
            conversation.say("checkpoint", **asdict(shared))

    listener = Listener(
        lambda name: conversation.say("phase", name=name),
        lambda progress: conversation.say("progress", step=progress.step, loss=progress.mean_loss()),
        conversation.stopping,
        lambda point: failpoint(f"trainer.{point}"),
        published,
        committed,
    )
    reports = Reports(**{**task["reports"], "prompts": tuple(task["reports"]["prompts"])})
    configuration = Configuration(**task["configuration"])
    try:
        fitted = trainer.fit(task["run"], task["manifest_digest"], configuration, listener, reports)
        files = _kept(store, fitted.files, fitted.media_type)
        conversation.say("done", files=files, media_type=fitted.media_type, metrics=fitted.metrics)
    except Stopped:
        conversation.say("stopped")
    except Exception as error:  # noqa: BLE001 the boundary of the process: the trainer hears of any failure
        failed(conversation, failure_of(error))


def failed(conversation: Conversation, error: KonomiError) -> None:
    """Says that a run failed."""
    conversation.say("failed", code=error.code.value[0], reason=error.reason, message=error.message)


def _kept(store: CheckpointStore, files: Files | None, media_type: str) -> dict[str, Any] | None:
    """Stores an adapter's files and returns their digests."""
    if files is None:
        return None
    companions = [str(store.put(data, COMPANION_MEDIA_TYPE).digest) for data in files.companions]
    return {"adapter": str(store.put(files.adapter, media_type).digest), "companions": companions}


def _give_up(conversation: Conversation) -> Callable[[KonomiError], None]:
    def end(error: KonomiError) -> None:
        failed(conversation, error)
        os._exit(LOST)

    return end


def main() -> int:
    """Trains the run of the first line of stdin; returns the exit code."""
    die_with_parent(os.environ)
    keep_freed_memory()
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is for the log
    words = os.fdopen(os.dup(0), "rb", buffering=0)  # without a buffer's lock, which a thread would hold at the end
    task = json.loads(words.readline())
    import torch

    from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
    from konomi_chassis.storage.artifacts import ArtifactStore
    from konomi_trainer.base_models.catalogue import BaseCatalogue
    from konomi_trainer.jobs.rank_process import SENT, Seat, gatherer, settings_of
    from konomi_trainer.jobs.trainer import Trainer

    home = Path(task["home"])
    settings, where = settings_of(task, task["device"])
    torch.set_num_threads(settings.threads or usable_cores())
    conversation = Conversation(words, events)
    store, decoder = ArtifactStore(where), Decoder(DecodeSettings(home=home))
    seat = Seat(task["device"], task["gpus"], _give_up(conversation))
    gather = gatherer(home, settings, seat, {name: task[name] for name in SENT & task.keys()})
    load = BaseCatalogue(home, settings).load
    trainer = Trainer(store, load, lambda data: decoder.decode(data).pixels, home, gather)
    try:
        train(task, trainer, store, conversation)
    finally:
        decoder.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
