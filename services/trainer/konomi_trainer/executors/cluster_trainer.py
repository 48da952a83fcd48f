"""Each run on one actor of a Ray cluster, on one machine; the only file of the trainer that imports Ray.

Ray is told to restart nothing: where an actor is lost, the next one begins with what the service noted by then, so it
goes on from the newest checkpoint on whatever machine has room. What is made is what one machine would have made.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import ray

from konomi.errors import Unavailable
from konomi_chassis.cluster.connection import ClusterConnection, answer, rejoined
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.cluster.versions import TRAINING, installed
from konomi_chassis.settings import StoreSettings
from konomi_trainer.base_models import device
from konomi_trainer.configuration import Configuration
from konomi_trainer.executors.training_worker import ENDED, TrainingWorker
from konomi_trainer.jobs.publishing import Reports
from konomi_trainer.jobs.run_events import ENDINGS, RunEvents
from konomi_trainer.jobs.run_process import KEPT, STOP
from konomi_trainer.jobs.shared_checkpoints import CheckpointStore, SharedCheckpoint, SharedRunFiles
from konomi_trainer.jobs.trainer import Listener, TrainedAdapter
from konomi_trainer.settings import TrainerSettings
from konomi_trainer.training.loop import Stopped
from konomi_trainer.training.ranks import rank_lost

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.1
FRUITLESS = 3
"""Actors a run may lose one after another without a new checkpoint, before patience runs out."""


class ClusterTrainer:
    """Trains adapters on a cluster as `OwnProcessTrainer` does on its own machine: same bytes, events and errors.

    Args:
        scale: where the cluster is, and how much of it a run takes.
        settings: of the trainer, which every machine trains by.
        where: settings of the store, likewise.
        store: the store itself.
        environment: of this process, for what it says of Ray's tokens and TLS.
        clock: seconds that only grow.

    Raises:
        FailedPrecondition: there is no cluster, anybody could use it, or its machines have no store in common.
    """

    def __init__(
        self,
        scale: ScaleSettings,
        settings: TrainerSettings,
        where: StoreSettings,
        store: CheckpointStore,
        environment: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scale, self._settings, self._where, self._clock = scale, settings, where, clock
        self._cluster, self._environment = ClusterConnection(scale, where, environment), environment
        self._events, self.files = RunEvents(store), SharedRunFiles(scale.home, store)
        self._on_gpus = False
        self.lost = 0
        """How often an actor was lost and its run given to another."""

    def fit(
        self,
        run: str,
        manifest_digest: str,
        configuration: Configuration,
        listener: Listener,
        reports: Reports | None = None,
    ) -> TrainedAdapter:
        """Trains one run as Trainer.fit does, on as many actors one after another as are lost.

        Raises:
            Stopped: the listener said so.
            Unavailable: no actor had room for `patience_seconds`, or all were lost again and again before a checkpoint
                or its head was (CLUSTER_AWAY); the process of the run ended without a word (RANK_LOST).
            KonomiError: the run cannot be finished.
        """
        task = {
            "home": str(self._scale.home),
            "run": run,
            "manifest_digest": manifest_digest,
            "configuration": asdict(configuration),
            "reports": asdict(reports or Reports()),
            "device": self._settings.device,
        }
        if self._cluster.lost:
            self._cluster = rejoined(self._scale, self._where, self._environment)
        with self._cluster.in_use():
            return self._fitted(task, listener)

    def _fitted(self, task: dict[str, Any], listener: Listener) -> TrainedAdapter:
        run, losses = task["run"], _Losses(self._scale.patience_seconds, self._clock)
        while True:
            before = self.files.noted(run)
            fitted = self._life(task, listener)
            if fitted is not None:
                return fitted
            if listener.stopping():
                raise Stopped
            self.lost += 1
            log.warning("run %s: its actor was lost; another one goes on from the newest checkpoint", run)
            losses.count(fruitless=self.files.noted(run) == before)

    def close(self) -> None:
        """Leaves the cluster."""
        self._cluster.close()

    def _life(self, task: dict[str, Any], listener: Listener) -> TrainedAdapter | None:
        """Trains on one actor until the run or the actor ends; returns None where the actor was lost."""
        actor = self._start(task)
        try:
            if not self._begun(actor, listener):
                return None
            for event in self._heard(actor, listener):
                if event["event"] in ENDINGS:
                    return self._events.outcome(event)
                if event["event"] == ENDED:
                    raise rank_lost()
                if event["event"] == "checkpoint":
                    fields = {name: value for name, value in event.items() if name != "event"}
                    self.files.note(task["run"], SharedCheckpoint(**fields))
                elif self._events.tell(event, listener):
                    actor.say.remote(KEPT)
            return None
        finally:
            self._cluster.end(actor)

    def _begun(self, actor: Any, listener: Listener) -> bool:
        """Waits until an actor has room and begins; says False where it was lost before."""
        ref, since = actor.begin.remote(), self._clock()
        while not ray.wait([ref], timeout=LOOK_SECONDS)[0]:
            if listener.stopping():
                raise Stopped
            self._cluster.check_head()
            if self._clock() - since > self._scale.patience_seconds:
                raise away(
                    "No machine of the Ray cluster has room for the training run. Look at them with `ray status`: it "
                    f"takes {self._needs()}"
                )
        return answer(ref) is not None

    def _heard(self, actor: Any, listener: Listener) -> Iterator[dict[str, Any]]:
        """Yields what the run says until its actor is lost, and passes the wish to stop on."""
        told = False
        while True:
            ref, come = actor.hear.remote(), False
            while not come:
                if not told and listener.stopping():
                    actor.say.remote(STOP)
                    told = True
                self._cluster.check_head()
                come = bool(ray.wait([ref], timeout=LOOK_SECONDS)[0])
            events = answer(ref)
            if events is None:
                return
            yield from events

    def _start(self, task: dict[str, Any]) -> Any:
        """Starts an actor with what is noted of the run by now."""
        self._on_gpus = self._settings.device != device.CPU and (self._on_gpus or self._cluster.gpus() > 0)
        threads = self._settings.threads or (0 if self._on_gpus else self._scale.actor_cpus)
        settings = self._settings.model_copy(update={"threads": threads})
        own = {"home", "device"}  # and the configurations konomi brings lie where it is installed
        if settings.single_file_configs == TrainerSettings.model_fields["single_file_configs"].default:
            own.add("single_file_configs")
        whole = {
            **task,
            "settings": settings.model_dump(mode="json", exclude=own),
            "store": self._where.model_dump(mode="json", exclude={"home"}),
            "checkpoints": [asdict(one) for one in self.files.noted(task["run"])],
            "unfinished": self.files.unfinished(),
            "versions": installed(TRAINING),
        }
        actor = ray.remote(
            num_cpus=self._scale.actor_cpus,
            num_gpus=self._settings.processes if self._on_gpus else 0,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=3,  # so that a word is passed on while a call waits for events
        )(TrainingWorker)
        return self._cluster.started(lambda: actor.remote(json.dumps(whole)))

    def _needs(self) -> str:
        cores, cards = self._scale.actor_cpus, self._settings.processes
        gpus = f" and {cards} GPU{'s' * (cards != 1)}" if self._on_gpus else ""
        return f"{cores} core{'s' * (cores != 1)}{gpus} of one machine"


class _Losses:
    """Actors a run has lost one after another since it came on."""

    def __init__(self, patience: float, clock: Callable[[], float]) -> None:
        self._patience, self._clock, self._came, self._fruitless = patience, clock, clock(), 0

    def count(self, *, fruitless: bool) -> None:
        """Counts a lost actor, which brought a checkpoint or none.

        Raises:
            Unavailable: too many in a row brought none, for longer than patience lasts.
        """
        self._came, self._fruitless = (self._came, self._fruitless + 1) if fruitless else (self._clock(), 0)
        if self._fruitless > FRUITLESS and self._clock() - self._came > self._patience:
            raise away(
                "The machines of the Ray cluster go away before the training run has reached its next checkpoint. "
                "Look at them with `ray status`, or ask for checkpoints more often"
            )


def away(what: str) -> Unavailable:
    """Returns the error of a run that no machine trains now; its checkpoints are kept."""
    return Unavailable(
        f"{what}. Start the run again: it goes on from its newest checkpoint.",
        reason="CLUSTER_AWAY",
        retry_after=60.0,
    )
