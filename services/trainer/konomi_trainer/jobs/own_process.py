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

from konomi_chassis.process import VARIABLE
from konomi_trainer.base_models import device
from konomi_trainer.configuration import Configuration
from konomi_trainer.jobs.publishing import Reports
from konomi_trainer.jobs.run_events import ENDINGS, RunEvents
from konomi_trainer.jobs.run_files import RunFiles
from konomi_trainer.jobs.run_process import KEPT, STOP
from konomi_trainer.jobs.trainer import Artifacts, Listener, TrainedAdapter
from konomi_trainer.training.ranks import looking, rank_lost

LOOK_SECONDS, ENDING_SECONDS = 0.1, 20.0


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
        self._home, self._place, self._processes, self._events = home, place, processes, RunEvents(store)
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
        with started(task, self._place, self._processes) as child, _stopped_where_asked(child, listener):
            for event in events(child):
                if event["event"] in ENDINGS:
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(ENDING_SECONDS)
                    return self._events.outcome(event)
                if self._events.tell(event, listener):
                    say(child, KEPT)
        raise rank_lost()

    def close(self) -> None:
        """Has joined nothing."""


@contextmanager
def started(task: dict[str, Any], place: str, processes: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Starts the process of a run, which sees its own GPUs alone, and ends it with the context.

    It ends too with the thread that started it, which therefore is to stay as long.

    Args:
        task: what the process is told; see run_process.
        place: device of the run: "cpu", "cuda" or "cuda:1".
        processes: how many the run is trained with; each sees one GPU, from `place` on.
    """
    cpu = place == device.CPU
    first = 0 if cpu else device.number(place)
    gpus = [] if cpu else device.gpus()[first : first + processes]
    seen = {device.VISIBLE: gpus[0]} if gpus else {}
    child = subprocess.Popen(
        [sys.executable, "-m", "konomi_trainer.jobs.run_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # two threads write words, each in one piece
        env={**os.environ, **seen, VARIABLE: str(os.getpid())},
    )
    try:
        say(child, json.dumps({**task, "device": device.CPU if cpu else device.CUDA, "gpus": gpus}))
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


def events(child: "subprocess.Popen[bytes]") -> Iterator[dict[str, Any]]:
    """Yields what the process says, until it ends."""
    assert child.stdout is not None
    for line in child.stdout:
        with suppress(ValueError):  # the last line of a process that was killed while it wrote
            yield json.loads(line)


def say(child: "subprocess.Popen[bytes]", words: str) -> None:
    """Says a word, or the task, to the process."""
    assert child.stdin is not None
    with suppress(OSError, ValueError):  # it has ended, which its silence says
        child.stdin.write(f"{words}\n".encode())


@contextmanager
def _stopped_where_asked(child: "subprocess.Popen[bytes]", listener: Listener) -> Iterator[None]:
    """Passes the wish to stop on, as long as the context lasts."""

    def look(over: threading.Event) -> bool:
        stopping = listener.stopping()
        if stopping:
            say(child, STOP)
        return stopping

    with looking(look, "stop", LOOK_SECONDS):
        yield
