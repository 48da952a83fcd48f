"""Trains every run in a process of its own, which gives all memory back by ending; see run_process.

A process that ends without a word, killed for example because memory ran out, is a lost rank: the run has failed in a
sentence and goes on from its newest checkpoint when it is asked for again.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from konomi.errors import from_item
from konomi_chassis.process import VARIABLE
from konomi_trainer.base_models import device
from konomi_trainer.configuration import Configuration
from konomi_trainer.jobs.publishing import Publication, Reports
from konomi_trainer.jobs.run_files import RunFiles
from konomi_trainer.jobs.run_process import KEPT, STOP
from konomi_trainer.jobs.trainer import Artifacts, Listener, TrainedAdapter
from konomi_trainer.methods.base import Files
from konomi_trainer.training.loop import Progress, Stopped
from konomi_trainer.training.ranks import looking, rank_lost

LOOK_SECONDS, ENDING_SECONDS = 0.1, 20.0
ENDINGS = frozenset({"done", "stopped", "failed"})


class OwnProcessTrainer:
    """Trains adapters, each in a process that ends with its run."""

    def __init__(self, home: Path, place: str, processes: int, store: Artifacts) -> None:
        """Takes what the process is told.

        Args:
            home: where base models, artifacts, cache and checkpoints are.
            place: device of the run: "cpu", "cuda" or "cuda:1".
            processes: how many the run is trained with; each sees one GPU, from `place` on.
            store: where the process leaves its files.
        """
        self._home, self._place, self._processes, self._store = home, place, processes, store
        self.files = RunFiles(home)

    def fit(
        self,
        run: str,
        manifest_digest: str,
        configuration: Configuration,
        listener: Listener,
        reports: Reports | None = None,
    ) -> TrainedAdapter:
        """Trains one run as Trainer.fit does.

        Raises:
            Stopped: the listener said so.
            Unavailable: the process ended without a word (RANK_LOST).
            KonomiError: the run cannot be finished.
        """
        task = {
            "home": str(self._home),
            "run": run,
            "manifest_digest": manifest_digest,
            "configuration": asdict(configuration),
            "reports": asdict(reports or Reports()),
        }
        with self._started(task) as child, _stopped_where_asked(child, listener):
            for event in _events(child):
                if event["event"] in ENDINGS:
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(ENDING_SECONDS)
                    return self._ended(event)
                self._tell(event, listener, child)
        raise rank_lost()

    def _tell(self, event: dict[str, Any], listener: Listener, child: "subprocess.Popen[bytes]") -> None:
        """Tells the listener of an event."""
        if event["event"] == "phase":
            listener.phase(event["name"])
        elif event["event"] == "progress":
            listener.progress(Progress(micro=0, step=event["step"], losses=[event["loss"]]))
        else:
            fields = {name: value for name, value in event.items() if name != "event"}
            sheet = self._store.get(fields["sheet"]) if fields["sheet"] else None
            listener.published(Publication(**{**fields, "files": self._files(fields["files"]), "sheet": sheet}))
            _say(child, KEPT)

    def _ended(self, event: dict[str, Any]) -> TrainedAdapter:
        """Returns what a run made, or raises why it made nothing."""
        if event["event"] == "stopped":
            raise Stopped
        if event["event"] == "failed":
            raise from_item(event["code"], event["reason"], event["message"])
        files = self._files(event["files"])
        assert files is not None
        return TrainedAdapter(files, event["media_type"], event["metrics"])

    def _files(self, digests: dict[str, Any] | None) -> Files | None:
        if digests is None:
            return None
        companions = tuple(self._store.get(digest) for digest in digests["companions"])
        return Files(self._store.get(digests["adapter"]), companions)

    @contextmanager
    def _started(self, task: dict[str, Any]) -> Iterator["subprocess.Popen[bytes]"]:
        """Starts the process, which sees its own GPU alone, and ends it with the context."""
        cpu = self._place == device.CPU
        first = 0 if cpu else device.number(self._place)
        gpus = [] if cpu else device.gpus()[first : first + self._processes]
        seen = {device.VISIBLE: gpus[0]} if gpus else {}
        child = subprocess.Popen(
            [sys.executable, "-m", "konomi_trainer.jobs.run_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # two threads write words, each in one piece
            env={**os.environ, **seen, VARIABLE: str(os.getpid())},
        )
        try:
            task |= {"device": device.CPU if cpu else device.CUDA, "gpus": gpus}
            _say(child, json.dumps(task))
            yield child
        finally:
            child.kill()
            for stream in (child.stdin, child.stdout):
                with suppress(OSError):
                    if stream is not None:
                        stream.close()
            child.wait()


def wanted(setting: bool | str, place: str) -> bool:
    """Says whether runs are trained in a process of their own: as the setting says; "auto" does so on GPUs."""
    return setting is True or (setting == "auto" and place != device.CPU)


def _events(child: "subprocess.Popen[bytes]") -> Iterator[dict[str, Any]]:
    """Yields what the process says, until it ends."""
    assert child.stdout is not None
    for line in child.stdout:
        with suppress(ValueError):  # the last line of a process that was killed while it wrote
            yield json.loads(line)


def _say(child: "subprocess.Popen[bytes]", words: str) -> None:
    assert child.stdin is not None
    with suppress(OSError, ValueError):  # it has ended, which its silence says
        child.stdin.write(f"{words}\n".encode())


@contextmanager
def _stopped_where_asked(child: "subprocess.Popen[bytes]", listener: Listener) -> Iterator[None]:
    """Passes the wish to stop on, as long as the context lasts."""

    def look(over: threading.Event) -> bool:
        stopping = listener.stopping()
        if stopping:
            _say(child, STOP)
        return stopping

    with looking(look, "stop", LOOK_SECONDS):
        yield
