"""The one background thread that trains: takes the next run from the table, trains it, registers its model."""

import errno
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import sqlalchemy

from konomi.errors import Internal, KonomiError, ResourceExhausted
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.memory_shortage import is_shortage, shortage
from konomi_chassis.storage.database import reading
from konomi_chassis.storage.failpoints import failpoint
from konomi_trainer.configuration import Configuration
from konomi_trainer.jobs.progress_board import Live, ProgressBoard
from konomi_trainer.jobs.publishing import SAMPLE_STEPS, Publication, Reports, model_of
from konomi_trainer.jobs.trainer import Listener, RunTrainer, TrainedAdapter
from konomi_trainer.methods.base import Files
from konomi_trainer.storage import models, runs
from konomi_trainer.training.compilation import release
from konomi_trainer.training.loop import Progress, Stopped

log = logging.getLogger(__name__)
PAUSE_AFTER_A_DATABASE_ERROR = 2.0
COMPANION_MEDIA_TYPE = "application/vnd.konomi.lycoris+safetensors"


class ArtifactWriter(Protocol):
    """The artifact store."""

    def put(self, data: bytes, media_type: str) -> Any:
        """Stores bytes durably; the answer has `.digest`."""


class Worker:
    """Trains run after run; an interrupted one comes first."""

    def __init__(
        self,
        engine: sqlalchemy.Engine,
        trainer: RunTrainer,
        store: ArtifactWriter,
        board: ProgressBoard,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Takes its parts; `start` begins."""
        self._engine, self._trainer, self._store, self.board, self._clock = engine, trainer, store, board, clock
        self._wake, self._closing = threading.Event(), threading.Event()
        self._cancelled: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="trainer", daemon=True)

    def start(self) -> None:
        """Begins to train; what was interrupted goes on, and what a kill left of ended runs goes."""
        self._trainer.files.clear_unnamed()
        for name in self._trainer.files.unfinished():
            with reading(self._engine) as connection:
                run = runs.get(connection, name)
            if run is not None and run.state in runs.ENDED and not run.retryable:
                self._trainer.files.forget(name)
        self._thread.start()

    def wake(self) -> None:
        """Wakes the thread: there may be a run to train."""
        self._wake.set()

    def cancel(self, run: str) -> None:
        """Stops a run after its current step; the table says already that it shall."""
        self._cancelled.add(run)
        self._wake.set()

    def stop(self) -> None:
        """Stops after the current step; what is unfinished goes on at the next start."""
        self._closing.set()
        self._wake.set()
        self.board.close()

    def close(self) -> None:
        """Waits until the thread has ended, 25 s at most: a run that is cut off goes on at the next start."""
        if self._thread.is_alive():
            self._thread.join(25.0)
        self._trainer.close()

    def _work(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            try:
                with reading(self._engine) as connection:
                    run = runs.next_unfinished(connection)
                if run is not None:
                    self._run(run)
                else:
                    self._wake.wait()
            except sqlalchemy.exc.DBAPIError:
                log.exception("the database failed; the run goes on in %s s", PAUSE_AFTER_A_DATABASE_ERROR)
                self._closing.wait(PAUSE_AFTER_A_DATABASE_ERROR)

    def _run(self, run: runs.Run) -> None:
        """Takes one run to its end, or leaves it where it is when the process closes."""
        self._cancelled.discard(run.id)
        with self._engine.begin() as connection:
            if not runs.start(connection, run.id):
                runs.cancel(connection, run.id, run.step, run.loss)
                return
        configuration = Configuration(**json.loads(run.configuration))
        reporter = RunReporter(run, self.board, lambda: self._closing.is_set() or self._cancel_requested(run.id))
        listener = Listener(
            reporter.phase,
            reporter.progress,
            reporter.stopping,
            lambda point: failpoint(f"trainer.{point}"),
            lambda publication: self._publish(run, publication),
        )
        try:
            log.info("run %s: %d steps on %s", run.id, run.total_steps, configuration.base_model)
            fitted = self._trainer.fit(run.id, run.manifest_digest, configuration, listener, _reports(run))
            failpoint("trainer.before_adapter")
            adapter = self._keep(fitted.files, fitted.media_type)
            failpoint("trainer.after_adapter")
            self._register(run, configuration, fitted, adapter)
            failpoint("trainer.after_register")
        except Stopped:
            if not self._closing.is_set():
                self._end(run, lambda c: runs.cancel(c, run.id, reporter.live.step, reporter.live.loss))
        except sqlalchemy.exc.DBAPIError:
            raise
        except Exception as error:  # noqa: BLE001 the boundary of the thread: any failure ends its run and never the thread
            failure = failure_of(error)
            self._end(run, lambda c: runs.fail(c, run.id, failure, reporter.live.step, reporter.live.loss))
        finally:
            release()  # an error, whose frames hold the base model, is gone by now
            self.board.post(run.id, None)

    def _cancel_requested(self, run: str) -> bool:
        return run in self._cancelled

    def _keep(self, files: Files, media_type: str) -> str:
        """Stores an adapter after what its header names, and returns its digest."""
        for companion in files.companions:
            self._store.put(companion, COMPANION_MEDIA_TYPE)
        return str(self._store.put(files.adapter, media_type).digest)

    def _publish(self, run: runs.Run, publication: Publication) -> None:
        """Stores what a checkpoint publishes, then names it in the table."""
        files, sheet = publication.files, publication.sheet
        row = runs.Published(
            publication.step,
            publication.loss,
            publication.validation_loss,
            self._keep(files, publication.media_type) if files else "",
            str(self._store.put(sheet, "image/png").digest) if sheet else "",
        )
        with self._engine.begin() as connection:
            runs.publish(connection, run.id, row)
        self.board.post(run.id, self.board.read(run.id))

    def _register(
        self, run: runs.Run, configuration: Configuration, fitted: TrainedAdapter, adapter_digest: str
    ) -> None:
        """Ends the run and adds its model in one transaction, unless somebody has finished it meanwhile."""

        def commit(connection: sqlalchemy.Connection) -> None:
            checkpoints = runs.published(connection, run.id)
            if checkpoints and checkpoints[-1].validation_loss is not None:
                fitted.metrics["validation_loss"] = checkpoints[-1].validation_loss
            model = model_of(run, configuration, adapter_digest, fitted.metrics, self._clock())
            if models.get(connection, model.id) is not None:
                return
            models.register(connection, model)
            failpoint("trainer.in_register")
            runs.succeed(connection, run.id, model.id, int(fitted.metrics["steps"]), fitted.metrics["loss"])

        self._end(run, commit)
        log.info("run %s made adapter %s", run.id, adapter_digest)

    def _end(self, run: runs.Run, change: Callable[[sqlalchemy.Connection], None]) -> None:
        """Commits the end of a run; checkpoints are kept where it may be asked for again."""
        with self._engine.begin() as connection:
            change(connection)
        with reading(self._engine) as connection:
            ended = runs.get(connection, run.id)
        if ended is not None and not ended.retryable:
            self._trainer.files.forget(run.id)


class RunReporter:
    """Posts what a run does to the board: phase, step, loss and the seconds left."""

    def __init__(self, run: runs.Run, board: ProgressBoard, stopping: Callable[[], bool]) -> None:
        self._run, self._board, self.stopping = run, board, stopping
        self.live = Live(step=run.step, loss=run.loss)
        self._began: tuple[float, int] | None = None

    def phase(self, name: str) -> None:
        """Posts the phase the run is in."""
        self._post(replace(self.live, phase=name))

    def progress(self, progress: Progress) -> None:
        """Posts how far the run is, with the time left at the speed since it began or went on."""
        now = time.monotonic()
        began = self._began or (now, progress.step)
        self._began, done = began, max(1, progress.step - began[1])
        left = (now - began[0]) / done * max(0, self._run.total_steps - progress.step)
        self._post(replace(self.live, step=progress.step, loss=progress.mean_loss(), eta_seconds=left))
        failpoint("trainer.step")

    def _post(self, live: Live) -> None:
        self.live = live
        self._board.post(self._run.id, live)


def _reports(run: runs.Run) -> Reports:
    reports = pb.CreateTrainingRunRequest.FromString(run.request).reports
    return Reports(reports.adapters, tuple(reports.sample_prompts), reports.sample_steps or SAMPLE_STEPS)


def failure_of(error: Exception) -> KonomiError:
    """Returns the error a failed run shows: what can be put right by name, a bug by the id of its log line."""
    if isinstance(error, KonomiError):
        log.warning("run failed: %s", error.message)
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted("The disk is full; free some space, then start the run again.", reason="DISK_FULL")
    if is_shortage(error):
        return shortage(error, "in the training run", "close programs that hold memory, then start the run again")
    name = secrets.token_hex(8)
    log.error("run failed [%s]", name, exc_info=error)
    return Internal(f"Something went wrong inside the trainer. Its log tells more under {name}.")
