"""`python -m konomi_trainer`: joins the trainer's parts and serves them."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from konomi_chassis.early_port import leave, refusal

if TYPE_CHECKING:
    import numpy as np
    from sqlalchemy import Engine

    from konomi_chassis.server import ServedService
    from konomi_chassis.settings import ServerSettings
    from konomi_chassis.storage.artifacts import ArtifactStore
    from konomi_trainer.base_models.catalogue import BaseCatalogue
    from konomi_trainer.jobs.progress_board import ProgressBoard
    from konomi_trainer.jobs.trainer import RunTrainer
    from konomi_trainer.jobs.worker import Worker
    from konomi_trainer.servicer.listing import ListingRpcs
    from konomi_trainer.servicer.trainer import TrainerServicer
    from konomi_trainer.settings import TrainerSettings


def build(server: "ServerSettings", store: "ArtifactStore") -> "Sequence[ServedService]":
    """Makes the trainer's one service; the heavy libraries are imported once it serves, or by the first call of use."""
    from konomi_chassis.cluster.settings import ScaleSettings
    from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
    from konomi_chassis.lazy_value import LazyValue
    from konomi_chassis.settings import DatabaseSettings
    from konomi_chassis.storage.database import open_for_role
    from konomi_trainer.jobs.progress_board import ProgressBoard
    from konomi_trainer.servicer.listing import ListingRpcs
    from konomi_trainer.settings import TrainerSettings
    from konomi_trainer.storage.schema import SCHEMA

    settings, here = TrainerSettings(home=server.home), ScaleSettings(home=server.home).train_executor == "local"
    engine = open_for_role(DatabaseSettings(home=server.home), SCHEMA)
    decoder, board = Decoder(DecodeSettings(home=server.home)), ProgressBoard()
    home = TrainerHome(server.home, store, engine, lambda data: decoder.decode(data).pixels)
    listing, parts = ListingRpcs(engine, board), LazyValue(lambda: _join(settings, home, board))
    if settings.device not in ("auto", "cpu") or settings.processes > 1 or not here:
        parts()  # what this machine, or a cluster, may lack is refused before anything is served

    def warm() -> None:
        worker = parts()[1]
        if not board.closed:  # it may drain already
            worker.start()

    def drain() -> None:
        board.close()
        if parts.if_made is not None:
            parts.if_made[1].stop()

    def close() -> None:
        drain()  # what was still being loaded has not heard of it
        if parts.if_made is not None:
            parts.if_made[1].close()
        decoder.close()
        engine.dispose()

    served = _served(listing, lambda: parts()[0])
    return [replace(served, warm=warm, drain=drain, close=close)]


def _served(listing: "ListingRpcs", servicer: "Callable[[], TrainerServicer]") -> "ServedService":
    """Returns the service whose listing rpcs answer before the others' libraries are loaded."""
    from konomi.v1.trainer_pb2_grpc import add_TrainerServiceServicer_to_server
    from konomi_chassis.lazy_value import LazyServicer, LazyValue
    from konomi_chassis.server import ServedService
    from konomi_trainer.servicer.rules import RULES

    return ServedService(
        "konomi.v1.TrainerService",
        add_TrainerServiceServicer_to_server,
        LazyServicer(LazyValue(servicer), listing),
        RULES,
        taste_of=listing.taste_of,
    )


@dataclass(frozen=True)
class TrainerHome:
    """Where a trainer works: its folder, artifacts and tables, and how it reads images."""

    folder: Path
    store: "ArtifactStore"
    engine: "Engine"
    pixels: "Callable[[bytes], np.ndarray]"


def _join(settings: "TrainerSettings", home: TrainerHome, board: "ProgressBoard") -> "tuple[TrainerServicer, Worker]":
    """Joins the trainer's parts: what it serves, and the thread that trains."""
    from konomi_chassis.process import map_torch

    map_torch()
    import torch

    from konomi_chassis.process import usable_cores
    from konomi_trainer.base_models.catalogue import BaseCatalogue
    from konomi_trainer.executors.opening import open_cluster_trainer
    from konomi_trainer.export.exporter import Exporter
    from konomi_trainer.jobs.worker import Worker
    from konomi_trainer.servicer.concepts import ConceptRpcs
    from konomi_trainer.servicer.trainer import ModelOperations, TrainerServicer

    torch.set_num_threads(settings.threads or usable_cores())
    bases, store = BaseCatalogue(home.folder, settings), home.store
    trainer = open_cluster_trainer(home.folder, settings, store) or _local_trainer(settings, home, bases)
    worker = Worker(home.engine, trainer, store, board)
    exporter = Exporter(store, bases, home.pixels, home.folder / "scratch")
    concepts = ConceptRpcs(store, bases, home.pixels, home.folder / "models", settings.embedder)
    return TrainerServicer(home.engine, store, bases, worker, ModelOperations(exporter, concepts)), worker


def _local_trainer(settings: "TrainerSettings", home: TrainerHome, bases: "BaseCatalogue") -> "RunTrainer":
    """Returns who trains on this machine: this process, or one for each run."""
    from konomi_trainer.base_models import device
    from konomi_trainer.jobs import own_process
    from konomi_trainer.jobs.rank_process import Seat, gatherer
    from konomi_trainer.jobs.trainer import Trainer

    device.check_processes(settings.processes, bases.device)
    if own_process.wanted(settings.own_process, bases.device):
        return own_process.OwnProcessTrainer(home.folder, bases.device, settings.processes, home.store)
    seat = Seat(bases.device, device.gpus()[device.number(bases.device) :])
    gather = gatherer(home.folder, settings, seat)
    return Trainer(home.store, bases.load, home.pixels, home.folder, gather)


def main() -> int:
    """Serves until told to stop; returns the exit code."""
    refused = refusal("trainer", sys.argv[1:])
    if refused:
        return refused
    from konomi_chassis.entrypoint import run
    from konomi_chassis.process import OFFLINE, keep_freed_memory

    keep_freed_memory()
    os.environ.update(OFFLINE)
    return run("trainer", build, sys.argv[1:])


if __name__ == "__main__":
    leave(main())
