"""`python -m konomi_trainer.jobs.rank_process`: one more process of a training run, told what to do on its stdin.

The trainer itself is rank 0 of the run and starts the others; they write nothing and die with it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from konomi_chassis.process import VARIABLE, die_with_parent
from konomi_trainer.configuration import Configuration
from konomi_trainer.settings import TrainerSettings
from konomi_trainer.training.ranks import Gather, Ranks, alone, free_port, joined

ENDING_SECONDS = 20.0


def gatherer(home: Path, settings: TrainerSettings, device: str) -> Gather:
    """Returns what gathers the processes a run is trained with.

    Args:
        home: where base models, artifacts and the cache are.
        settings: of the trainer; `processes` says how many.
        device: of rank 0; the others take the GPUs that follow, or the CPU.
    """
    if settings.processes == 1:
        return alone

    @contextmanager
    def gather(run: str, manifest_digest: str, configuration: Configuration) -> Iterator[Ranks]:
        port, cpu = free_port(), device == "cpu"
        task = {
            "home": str(home),
            "run": run,
            "manifest_digest": manifest_digest,
            "configuration": asdict(configuration),
            "count": settings.processes,
            "port": port,
            "cpu": cpu,
        }
        others = [_start({**task, "number": number}) for number in range(1, settings.processes)]
        try:
            with joined(0, settings.processes, port, cpu) as ranks:
                yield ranks
            for other in others:
                other.wait(ENDING_SECONDS)
        finally:
            for other in others:
                other.kill()
                other.wait()

    return gather


def _start(task: dict[str, Any]) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-m", "konomi_trainer.jobs.rank_process"],
        stdin=subprocess.PIPE,
        env={**os.environ, VARIABLE: str(os.getpid())},
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
    settings = TrainerSettings(home=home, device="cpu" if task["cpu"] else f"cuda:{number}")
    torch.set_num_threads(settings.threads or max(1, len(os.sched_getaffinity(0)) // task["count"]))
    decoder = Decoder(DecodeSettings(home=home))

    @contextmanager
    def gather(run: str, manifest_digest: str, configuration: Configuration) -> Iterator[Ranks]:
        with joined(number, task["count"], task["port"], task["cpu"]) as ranks:
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
