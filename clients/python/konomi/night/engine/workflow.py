"""The loop as a dbos workflow: every finished step is recorded, so a killed night goes on where it stopped."""

import json
import math
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from dbos import error as dbos_errors

from konomi import errors
from konomi.client.refusals import retellable, told
from konomi.errors import DISK_FULL, disk_full_error, is_full
from konomi.host.session import Session
from konomi.i18n.catalogue import N_, SOURCE, Translatable, speaking, text, translatable
from konomi.night import budgets, retention
from konomi.night.alarms import Alarm
from konomi.night.budgets import Envelope
from konomi.night.engine.loop import NightLoop, fresh
from konomi.night.engine.patience import AWAY, Patience
from konomi.night.engine.progress import notice
from konomi.night.engine.rebuild import SCHEMA, database_of, sound
from konomi.night.engine.steps import NightSteps
from konomi.night.gateway.services import NightServices
from konomi.night.records.journal import Occurrences, StepJournal
from konomi.night.records.postgresql import WORKFLOWS, away
from konomi.night.records.record import Record
from konomi.night.records.request import NightRequest
from konomi.night.records.sealed import set_aside
from konomi.night.records.state import ENDED, NightState, Reason, Served, StateName
from konomi.night.records.store import NightStore


def halted(nights: NightStore, request: NightRequest, gateway: NightServices) -> NightState:
    """Ends a night of another version, durably, and returns its state.

    Args:
        nights: the nights of this home.
        request: of the night.
        gateway: says which model is served; a night killed between a promotion and its record does not know.
    """
    state = fresh(request).merged(nights.state(request.id))
    current = next((model for model in gateway.models() if model.current), None)
    if current is not None:
        numbers = {record.model: record.unit for record in state.units if record.model}
        served = Served(unit=numbers.get(current.model, current.unit), model=current.model)
        state = state.changed(served=served)
    state = state.changed(state=StateName.HALTED, reason=Reason.of(Alarm("other_version")))
    nights.write(request.id, state)
    return state


def fault(error: Exception, step: str = "") -> errors.KonomiError:
    """Returns a full disk, or a database that is away, as such; any other as a fault of a step, or of the night."""
    if is_full(error):
        return disk_full_error(translatable(DISK_FULL))
    driver = type(getattr(error, "orig", None)).__module__
    if type(error).__name__ == "OperationalError" and driver.startswith("psycopg"):
        return away(error)  # a step that dbos could not note is none, so the night goes on before it
    if step:
        message = translatable("The step {step} met a fault of its own: {error}", step=step, error=repr(error))
    else:
        message = translatable("The night met a fault of its own: {error}", error=repr(error))
    return errors.Internal(message)


def retold(error: errors.KonomiError) -> errors.KonomiError:
    """Returns an error of a step, whose message is English, with its message in the language in use."""
    if isinstance(error.message, Translatable):
        error.message = error.message.again()
        error.args = (error.message,)
    return error


class Watchdog:
    """The time of the last progress; `beat` and `overdue` may be called from different threads.

    Args:
        limit: seconds without progress that are too long; 0 means for ever.
        clock: monotonic seconds.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._last = clock()

    def beat(self) -> None:
        """Notes progress."""
        with self._lock:
            self._last = self._clock()

    def overdue(self) -> bool:
        """Says whether the last progress is too long ago."""
        with self._lock:
            return bool(self._limit) and self._clock() - self._last > self._limit


EXECUTOR = "local"
"""Name under which dbos takes pending nights up again: one for all hosts, since a lock lets only one of them run."""

DONE = ("SUCCESS", "ERROR")
"""States of a workflow dbos runs no more."""

QUEUE = "gpu"
"""One night at a time holds the accelerator."""

AGAIN = (errors.Unavailable, errors.DeadlineExceeded, errors.ResourceExhausted, errors.Aborted, errors.Internal)
"""Errors that may be gone at the next try."""

DATABASE_DAMAGED = N_(
    "The night's database was damaged while the night ran. The same command goes on: it sets the database aside and "
    "takes what the night's own records hold."
)
DAMAGE = ("malformed", "not a database", "disk I/O error", "no such table")
"""What SQLite says of a damaged file."""

REST_SECONDS = 1.0
"""How often a step that waits looks whether the night shall stop."""

LOOK_SECONDS = 0.1
"""How often the main thread looks after its services while the night works."""


class Interrupted(BaseException):
    """Ends a workflow without an outcome: it stays pending and goes on at the next start.

    Not an Exception, because dbos records those as the final result of the step and of the workflow.
    """

    def __init__(self, error: errors.KonomiError | None = None) -> None:
        super().__init__(str(error) if error else "stopped")
        self.error = error


class OtherVersion(Interrupted):
    """What is on record was done by another version, whose steps are not this one's."""


class NightWorkflow:
    """One run of one night in this process."""

    def __init__(self, nights: NightStore, steps: NightSteps, stopped: Callable[[], bool]) -> None:
        """Takes the home's nights, the night's steps and what says whether to stop."""
        self.nights = nights
        self.steps = steps
        self.request = steps.request
        self.stopped = stopped
        self.done = threading.Event()
        self.leaving = threading.Event()
        self.outcome: NightState | Interrupted | None = None
        self._steps, self._key = Occurrences(), ""
        self._awaited: errors.KonomiError | None = None
        self._said: set[str] = set()
        self.journal = StepJournal(nights.folder / self.request.id, SCHEMA, partial(nights.share_step, self.request.id))
        self.watchdog = Watchdog(steps.settings.stall_seconds)
        self._show, steps.beat = steps.beat, self._beat

    def run(self, session: Session) -> NightState:
        """Starts the night or goes on with it, until it ends or is asked to stop; returns its state.

        Args:
            session: the services; they are looked after in this thread, and replaced where one hangs.

        Raises:
            KonomiError: the night was interrupted; the same call goes on later.
        """
        recorded = self.nights.state(self.request.id)
        if recorded.state in ENDED:  # it came to its end, whatever the workflow's database knows of it
            return recorded
        try:
            self._launch()
            self._begin()
            while not self.done.wait(LOOK_SECONDS):
                session.tend()
                self._say_awaited()
                if session.starting:  # what a start takes is no hang, however slow the machine
                    self.watchdog.beat()
                if self.watchdog.overdue():
                    session.replace(self.steps.settings.stall_seconds)
                    self.watchdog.beat()
        except Exception as error:
            if is_full(error):
                raise disk_full_error(text(DISK_FULL)) from error
            if _is_damage(error):
                raise errors.DataLoss(text(DATABASE_DAMAGED), reason="NIGHT_DAMAGED") from error
            raise
        finally:
            self.leaving.set()
            DBOS.destroy(destroy_registry=True)
        if isinstance(self.outcome, OtherVersion):
            return halted(self.nights, self.request, self.steps.gateway)
        if isinstance(self.outcome, Interrupted):
            return self._interrupted(self.outcome)
        assert self.outcome is not None
        return self.outcome

    def workflow(self, payload: dict[str, str]) -> dict[str, str]:
        """The workflow; dbos calls it at the start and again after every interruption."""
        if payload["night"] != self.request.id:
            raise Interrupted
        try:
            if payload["request_digest"] != self.request.digest():
                message = "The night's request.json was changed after its start; restore it or start anew."
                raise errors.DataLoss(translatable(message))
            recipe = NightLoop(self.request, self.steps, self._do, lambda state: self.nights.write(state.night, state))
            self.outcome = recipe.run()
        except Interrupted as interruption:
            self._interrupt(interruption)
            raise
        except dbos_errors.DBOSUnexpectedStepError as unexpected:
            raise self._interrupt(OtherVersion()) from unexpected
        except errors.KonomiError as error:
            raise self._interrupt(Interrupted(error)) from error
        except Exception as error:
            raise self._interrupt(Interrupted(fault(error))) from error
        threading.Timer(0, self._finish).start()
        return {"state": str(self.outcome.state)}

    def _beat(self, name: str, done: int, total: int, made: str = "") -> None:
        self.watchdog.beat()
        self._show(name, done, total, made)

    def _interrupt(self, interruption: Interrupted) -> Interrupted:
        self.outcome = interruption
        self.done.set()
        return interruption

    def _finish(self) -> None:
        """Waits until dbos has written the end down, so that no finished night is ever run again."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            status = DBOS.get_workflow_status(self.request.id)
            if status is not None and status.status == "SUCCESS":
                break
            time.sleep(0.02)
        self.done.set()

    def _do(self, name: str, body: Callable[..., object], *arguments: Any) -> Envelope:
        """Runs a step once for ever: its recorded result is returned when the night comes by again."""
        if self.stopped():
            raise Interrupted
        self._key = self._steps.key(name)
        envelope: Envelope = DBOS.run_step({"name": name}, self._attempt, name, body, arguments)
        self.journal.append(self._key, envelope)
        return cast(Envelope, self.journal.get(self._key))  # where a database's page was spoilt, the journal is right

    def _attempt(self, name: str, body: Callable[..., object], arguments: tuple[Any, ...]) -> Envelope:
        known = self.journal.get(self._key)
        if known is not None:  # the database was lost, the journal was not
            return cast(Envelope, known)
        patience, collected = Patience(self.steps.settings), 0
        while True:
            collected += self._check_disk()
            started = time.monotonic()
            self.steps.beat(name, 0, 0)
            try:
                value = body(*arguments)
                plain = value.plain() if isinstance(value, Record) else value
                recorded: dict[str, Any] = json.loads(json.dumps(plain, allow_nan=False))
                took = round(time.monotonic() - started, 3)
                stored = budgets.stored(self.nights.home / "artifacts")
                envelope: Envelope = {"seconds": took, "value": recorded, "stored": stored}
                return {**envelope, "collected": collected} if collected else envelope
            except AGAIN as error:
                pause = patience.pause(error)
                if pause is None or self.stopped():
                    raise Interrupted(error) from error
                self._rest(pause, error)
            except errors.KonomiError as error:
                raise Interrupted(error) from error
            except Exception as error:
                raise Interrupted(fault(error, name)) from error

    def _rest(self, seconds: float, error: errors.KonomiError) -> None:
        """Waits before a step is tried again; for a cluster that is away that is minutes, which is said.

        Raises:
            Interrupted: the process leaves, or the night is asked to stop.
        """
        if error.reason == AWAY:
            self._awaited = error
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.watchdog.beat()
            if self.leaving.wait(min(left, REST_SECONDS)):
                raise Interrupted(error) from error
            if self.stopped():
                raise Interrupted from error

    def _say_awaited(self) -> None:
        """Says once what the night waits for, in the language of whoever watches."""
        error, self._awaited = self._awaited, None
        if error is not None and error.reason not in self._said:
            self._said.add(error.reason)
            minutes = math.ceil(self.steps.settings.away_seconds / 60)
            line = "{why} The night asks again every minute, for up to {minutes} minutes."
            notice(text(line, why=told(error), minutes=minutes))

    def _check_disk(self) -> int:
        """Lets rejected candidates go where the disk is nearly full, by the owner's policy; returns how many.

        Raises:
            Interrupted: it is nearly full all the same.
        """
        if self._free_gib() >= self.steps.settings.reserve_gib:
            return 0
        collected = 0
        with suppress(errors.KonomiError):  # then the disk stays as full as it is, which is said
            client, policy = self.steps.gateway.client, retention.StorageSettings(home=self.nights.home)
            keep = retention.kept(client, self.nights)
            collected = retention.collect_images(client, keep, policy, dry=False).count
        free = self._free_gib()
        if free < self.steps.settings.reserve_gib:
            message = translatable(
                "Only {free:.1f} GiB are free and {reserve:g} GiB are kept in reserve: "
                "free some space; the same command then goes on.",
                free=free,
                reserve=self.steps.settings.reserve_gib,
            )
            raise Interrupted(errors.ResourceExhausted(message, reason="DISK_FULL"))
        return collected

    def _free_gib(self) -> float:
        return shutil.disk_usage(self.nights.home).free / 2**30

    def _launch(self) -> None:
        if self.nights.database:
            DBOS(config=shared_configuration(self.nights.database))
        else:
            path = database_of(self.nights.home)
            path.parent.mkdir(parents=True, exist_ok=True)
            clear_damage(path)
            DBOS(config=configuration(path))
        self._registered = DBOS.workflow(name="night", max_recovery_attempts=None)(self._entry())
        DBOS.launch()
        DBOS.register_queue(QUEUE, global_concurrency=1, polling_interval_sec=LOOK_SECONDS)

    def _entry(self) -> Callable[[dict[str, str]], dict[str, str]]:
        def night(payload: dict[str, str]) -> dict[str, str]:
            with speaking(SOURCE):  # what is recorded is English; it is translated where it is shown
                return self.workflow(payload)

        return night

    def _begin(self) -> None:
        """Starts the workflow; a pending one dbos takes up again by itself."""
        for other in DBOS.list_workflows(status=["PENDING", "ENQUEUED"]):
            if other.workflow_id != self.request.id:
                DBOS.cancel_workflow(other.workflow_id)
        status = DBOS.get_workflow_status(self.request.id)
        if status is None and self.journal.foreign:
            self._interrupt(OtherVersion())
        elif status is None:
            with SetWorkflowID(self.request.id):
                payload = {"night": self.request.id, "request_digest": self.request.digest()}
                DBOS.enqueue_workflow(QUEUE, self._registered, payload)
        elif status.status not in DONE and status.app_version != SCHEMA:
            DBOS.cancel_workflow(self.request.id)
            self._interrupt(OtherVersion())
        elif status.status in ("CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"):
            DBOS.resume_workflow(self.request.id)
        elif status.status == "SUCCESS":
            self.outcome = self.nights.state(self.request.id)
            self.done.set()
        elif status.status == "ERROR":
            message = text(
                "The night {night} ended in a fault and cannot go on; end it with `night stop --abandon`.",
                night=self.request.id,
            )
            raise errors.FailedPrecondition(message, reason="NIGHT_FAULTY")

    def _interrupted(self, interruption: Interrupted) -> NightState:
        state = self.nights.state(self.request.id)
        if state.state not in ENDED:
            error = interruption.error
            name = StateName.INTERRUPTED if error else StateName.STOPPED
            reason = Reason.of_error(name.value, retellable(error) if error else "stopped")
            state = state.changed(state=name, reason=reason)
            self.nights.write(self.request.id, state)
            if error is not None:
                raise retold(error)
        return state


def clear_damage(path: Path) -> Path | None:
    """Sets a damaged database of the workflow aside, so that a new one is made; returns where it lies now."""
    if sound(path):
        return None
    aside = set_aside(path)
    for more in ("-journal", "-wal", "-shm"):
        rest = path.with_name(path.name + more)
        if rest.exists():
            rest.rename(aside.with_name(aside.name + more))
    line = text(
        "The night's database was damaged and lies in {file} now; the night goes on from its own records.",
        file=aside.name,
    )
    notice(line)
    return aside


def _is_damage(error: BaseException | None) -> bool:
    """Says whether an error, or one it rests on, means that the workflow's database is damaged."""
    while error is not None:
        if type(error).__name__ == "DatabaseError" and any(word in str(error) for word in DAMAGE):
            return True
        error = error.__cause__ or error.__context__
    return False


def configuration(path: Path) -> DBOSConfig:
    """Returns the settings of dbos: its own SQLite file in rollback-journal mode, JSON only, a pinned schema."""
    return {
        "name": "konomi-night",
        "system_database_url": f"sqlite:///{quote(str(path))}",
        "serializer": DBOSPortableJSONSerializer(),
        "application_version": SCHEMA,
        "executor_id": EXECUTOR,
        "enable_otlp": False,
        "log_level": "CRITICAL",
        "notification_listener_polling_interval_sec": 0.5,
    }


def shared_configuration(url: str) -> DBOSConfig:
    """Returns the settings of dbos where hosts share a database: the same, in a schema of its own."""
    return {
        **configuration(Path()),
        "system_database_url": url,
        "dbos_system_schema": WORKFLOWS,
        "use_listen_notify": False,
    }
