"""`python -m konomi_trainer.jobs.rank_process`: one more process of a training run, told what to do on its stdin.

The trainer itself is rank 0 of the run and starts the others; they write nothing and die with it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from konomi.errors import KonomiError
from konomi_chassis.process import VARIABLE, die_with_parent
from konomi_trainer.base_models import device
from konomi_trainer.configuration import Configuration
from konomi_trainer.settings import TrainerSettings
from konomi_trainer.training.ranks import Gather, Meeting, Ranks, RankWatch, alone, joined

ENDING_SECONDS = 20.0


def gatherer(
    home: Path,
    settings: TrainerSettings,
    place: str,
    gpus: Sequence[str] = (),
    last_resort: Callable[[KonomiError], None] | None = None,
) -> Gather:
    """Returns what gathers the processes a run is trained with.

    Args:
        home: where base models, artifacts and the cache are.
        settings: of the trainer; `processes` says how many.
        place: device of rank 0.
        gpus: names of the GPUs, that of rank 0 first, of which every process sees its own alone; the visible ones from
            `place` on without them.
        last_resort: ends this process where it waits for a rank that is gone.
    """
    if settings.processes == 1:
        return alone

    @contextmanager
    def gather(run: str, manifest_digest: str, configuration: Configuration) -> Iterator[Ranks]:
        cpu, meeting, count = place == device.CPU, Meeting.anywhere(), settings.processes
        task = {
            "home": str(home),
            "run": run,
            "manifest_digest": manifest_digest,
            "configuration": asdict(configuration),
            "count": count,
            "meeting": asdict(meeting),
            "cpu": cpu,
        }
        own = gpus or device.gpus()[device.number(place) :]
        others = [_start({**task, "number": rank}, "" if cpu else own[rank]) for rank in range(1, count)]
        try:
            with joined(0, count, meeting, None if cpu else device.number(place)) as ranks:
                watch = RankWatch(others, ranks.abort, last_resort)
                try:
                    yield ranks
                finally:
                    watch.end()
            for other in others:
                other.wait(ENDING_SECONDS)
        finally:
            for other in others:
                other.kill()
                other.wait()

    return gather


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
    from konomi_chassis.settings import StoreSettings
    from konomi_chassis.storage.artifacts import ArtifactStore
    from konomi_trainer.base_models.catalogue import BaseCatalogue
    from konomi_trainer.jobs.trainer import Listener, Trainer

    home, number = Path(task["home"]), task["number"]
    settings = TrainerSettings(home=home, device=device.CPU if task["cpu"] else device.CUDA)
    torch.set_num_threads(settings.threads or max(1, len(os.sched_getaffinity(0)) // task["count"]))
    decoder = Decoder(DecodeSettings(home=home))

    @contextmanager
    def gather(run: str, manifest_digest: str, configuration: Configuration) -> Iterator[Ranks]:
        gpu = None if task["cpu"] else 0  # it sees one
        with joined(number, task["count"], Meeting(**task["meeting"]), gpu) as ranks:
            yield ranks

    store = ArtifactStore(StoreSettings(home=home))
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
