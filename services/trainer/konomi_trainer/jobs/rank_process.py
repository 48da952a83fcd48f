"""`python -m konomi_trainer.jobs.rank_process`: one more process of a training run, told what to do on its stdin.

The trainer itself is rank 0 of the run and starts the others; they write nothing and die with it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from konomi.errors import KonomiError
from konomi_chassis.process import VARIABLE, die_with_parent, usable_cores
from konomi_chassis.settings import StoreSettings
from konomi_trainer.base_models import device
from konomi_trainer.configuration import Configuration
from konomi_trainer.settings import TrainerSettings
from konomi_trainer.training.ranks import Gather, Meeting, Ranks, alone, joined, watched

ENDING_SECONDS = 20.0
SENT = frozenset({"settings", "store"})
"""Parts of a task by which a service on another machine says with which settings a run is trained."""


@dataclass(frozen=True)
class Seat:
    """Where rank 0 of a run computes.

    Attributes:
        device: "cpu", "cuda" or "cuda:1".
        gpus: names of the GPUs of all ranks, its own first; every process but this one sees its own alone.
        last_resort: ends this process where it waits for a rank that is gone.
    """

    device: str
    gpus: Sequence[str]
    last_resort: Callable[[KonomiError], None] | None = None


def gatherer(home: Path, settings: TrainerSettings, seat: Seat, sent: Mapping[str, Any] | None = None) -> Gather:
    """Returns what gathers the processes a run is trained with.

    Args:
        home: where base models, artifacts and the cache are.
        settings: of the trainer; `processes` says how many.
        seat: of rank 0.
        sent: settings of another machine's service, which the other ranks get too; see SENT.
    """
    if settings.processes == 1:
        return alone
    cpu, count = seat.device == device.CPU, settings.processes

    @contextmanager
    def gather(run: str, manifest_digest: str, configuration: Configuration) -> Iterator[Ranks]:
        meeting = Meeting.anywhere()
        task = {
            **(sent or {}),
            "home": str(home),
            "run": run,
            "manifest_digest": manifest_digest,
            "configuration": asdict(configuration),
            "count": count,
            "meeting": asdict(meeting),
            "cpu": cpu,
        }
        others = [_start({**task, "number": rank}, "" if cpu else seat.gpus[rank]) for rank in range(1, count)]
        try:
            gpu = None if cpu else device.number(seat.device)
            with joined(0, count, meeting, gpu) as ranks, watched(others, ranks.abort, seat.last_resort):
                yield ranks
            with suppress(subprocess.TimeoutExpired):  # what they were for is done: a slow end is no failure of the run
                for other in others:
                    other.wait(ENDING_SECONDS)
        finally:
            for other in others:
                other.kill()
                other.wait()

    return gather


def settings_of(task: dict[str, Any], place: str) -> tuple[TrainerSettings, StoreSettings]:
    """Returns the settings of a task's process: those of the home it trains in, but where the task brings its own.

    Args:
        task: with `home`, and from a service on another machine `settings` and `store`.
        place: the device.
    """
    home = Path(task["home"])
    settings = TrainerSettings(**{**task.get("settings", {}), "home": home, "device": place})
    return settings, StoreSettings(**{**task.get("store", {}), "home": home})


def _start(task: dict[str, Any], gpu: str) -> subprocess.Popen[bytes]:
    seen = {device.VISIBLE: gpu} if gpu else {}
    child = subprocess.Popen(
        [sys.executable, "-m", "konomi_trainer.jobs.rank_process"],
        stdin=subprocess.PIPE,
        env={**os.environ, **seen, VARIABLE: str(os.getpid())},
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(task).encode())
    child.stdin.close()
    return child


def main() -> int:
    """Trains its part of one run; returns the exit code."""
    die_with_parent(os.environ)
    task = json.loads(sys.stdin.read())
    import torch

    from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
    from konomi_chassis.storage.artifacts import ArtifactStore
    from konomi_trainer.base_models.catalogue import BaseCatalogue
    from konomi_trainer.jobs.trainer import Listener, Trainer

    home, number = Path(task["home"]), task["number"]
    settings, where = settings_of(task, device.CPU if task["cpu"] else device.CUDA)
    torch.set_num_threads(settings.threads or max(1, usable_cores() // task["count"]))
    decoder = Decoder(DecodeSettings(home=home))

    @contextmanager
    def gather(run: str, manifest_digest: str, configuration: Configuration) -> Iterator[Ranks]:
        gpu = None if task["cpu"] else 0  # it sees one
        with joined(number, task["count"], Meeting(**task["meeting"]), gpu) as ranks:
            yield ranks

    store = ArtifactStore(where)
    trainer = Trainer(store, BaseCatalogue(home, settings).load, lambda data: decoder.decode(data).pixels, home, gather)
    listener = Listener(lambda name: None, lambda progress: None, lambda: False)
    configuration = Configuration(**task["configuration"])
    try:
        trainer.fit(task["run"], task["manifest_digest"], configuration, listener)
    finally:
        decoder.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
