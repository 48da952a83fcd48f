"""The nights that wait their turn: what each was asked for, in which order, and how those that ran ended."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from konomi import errors
from konomi.files import LOOK_SECONDS, is_locked
from konomi.i18n.catalogue import N_, text
from konomi.night.records import sealed
from konomi.night.records.record import Record

MOST = 100
"""Nights a queue holds at most, those that have ended among them."""
SHOWN = 20
"""Nights that have ended and are still listed; older ones make way."""


class QueueState(StrEnum):
    """How far a night of the queue is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    HALTED = "halted"
    FAILED = "failed"


TOLD = {
    QueueState.WAITING: N_("waits"),
    QueueState.RUNNING: N_("running"),
    QueueState.FINISHED: N_("finished"),
    QueueState.HALTED: N_("halted"),
    QueueState.FAILED: N_("failed"),
}
"""What a state is called."""
ENDED = (QueueState.FINISHED, QueueState.HALTED, QueueState.FAILED)


class QueuedNight(Record):
    """A night of the queue.

    Attributes:
        id: its id, which is the night's own (`night start --request-id`): begun again it goes on where it was.
        words: what `konomi night start` is given, the system first.
        folder: where the command was typed, for the files it names.
        added: when, seconds since 1970.
        state: how far it is.
        code: exit code of its command, where it has ended.
    """

    id: str
    words: tuple[str, ...]
    folder: str
    added: float
    state: QueueState = QueueState.WAITING
    code: int | None = None

    @property
    def said(self) -> str:
        """The words, as they would be typed."""
        return " ".join(self.words)

    @property
    def told(self) -> str:
        """How far it is, in the language in use."""
        return text(TOLD[self.state])


class QueueRecord(Record):
    """The document: every night, in the order in which they run."""

    nights: tuple[QueuedNight, ...] = Field(default=())


class NightQueue:
    """The queue of one home; every change is on disk before it returns, and two processes may change it at once."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        """Takes the home folder and the clock that says when a night is added."""
        self.folder = home / "queue"
        self._file, self._clock = self.folder / "queue.json", clock
        self._run_lock = self.folder / "run.lock"

    def nights(self) -> tuple[QueuedNight, ...]:
        """Returns every night in order: those that ended, the one that runs, those that wait.

        Raises:
            FailedPrecondition: the document is damaged (reason QUEUE_DAMAGED).
        """
        if not self._file.exists():
            return ()
        try:
            return QueueRecord(**sealed.read(self._file)).nights
        except (sealed.Damaged, ValidationError, TypeError) as error:
            why = text("{path} cannot be read: remove it, then add the nights again", path=self._file)
            raise errors.FailedPrecondition(why, reason="QUEUE_DAMAGED") from error

    def waiting(self) -> tuple[QueuedNight, ...]:
        """Returns the nights that have not ended, the one that runs first."""
        return tuple(night for night in self.nights() if night.state not in ENDED)

    @property
    def runs(self) -> bool:
        """Whether a process works through the queue."""
        return is_locked(self._run_lock)

    def add(self, words: Sequence[str], folder: Path, id: str = "") -> QueuedNight:
        """Adds a night at the end.

        Args:
            words: what `konomi night start` is given.
            folder: where the files it names are looked for.
            id: its id; empty takes a new one.

        Raises:
            ResourceExhausted: the queue is full.
            AlreadyExists: there is a night of this id.
        """
        new = QueuedNight(
            id=id or str(uuid.uuid4()),
            words=tuple(words),
            folder=str(folder),
            added=self._clock(),
            state=QueueState.WAITING,
            code=None,
        )
        with self._changing() as nights:
            if any(night.id == new.id for night in nights):
                raise errors.AlreadyExists(text("the queue has a night {id} already", id=new.id), reason="NIGHT_EXISTS")
            open_nights = sum(night.state not in ENDED for night in nights)
            if open_nights >= MOST:
                full = text("the queue holds at most {most} nights: remove some first", most=MOST)
                raise errors.ResourceExhausted(full, reason="QUEUE_FULL")
            nights.append(new)
        return new

    def remove(self, id: str) -> QueuedNight:
        """Takes a night out; one that runs is to be stopped first.

        Raises:
            NotFound: there is none.
            FailedPrecondition: it runs.
        """
        with self._changing() as nights:
            night = self._one(nights, id)
            if night.state is QueueState.RUNNING and self.runs:
                why = text("this night runs: stop it first with konomi night stop")
                raise errors.FailedPrecondition(why, reason="NIGHT_RUNS")
            nights.remove(night)
        return night

    def move(self, id: str, place: int) -> tuple[QueuedNight, ...]:
        """Puts a night that waits at a place among those that wait, 1 the next; returns those that have not ended.

        Raises:
            NotFound: there is none.
            FailedPrecondition: it does not wait any more.
            InvalidArgument: the place is below 1.
        """
        if place < 1:
            raise errors.InvalidArgument(text("expected a place from 1 on, got {place}", place=place), field="place")
        with self._changing() as nights:
            night = self._one(nights, id)
            if night.state is not QueueState.WAITING:
                why = text("only a night that waits can be moved")
                raise errors.FailedPrecondition(why, reason="NIGHT_NOT_WAITING")
            nights.remove(night)
            waiting = [where for where, other in enumerate(nights) if other.state is QueueState.WAITING]
            nights.insert(waiting[place - 1] if place <= len(waiting) else len(nights), night)
        return self.waiting()

    def note(self, id: str, state: QueueState, code: int | None = None) -> None:
        """Notes how far a night is; one that was removed meanwhile stays removed."""
        with self._changing() as nights:
            for where, night in enumerate(nights):
                if night.id == id:
                    nights[where] = night.changed(state=state, code=code)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Holds the queue for the one process that works through it; the hold ends with the process.

        Raises:
            FailedPrecondition: another process does so.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._run_lock, fallback_to_soft=False)
        try:
            lock.acquire(timeout=LOOK_SECONDS)
        except Timeout as error:
            why = text("another process works through the queue already")
            raise errors.FailedPrecondition(why, reason="QUEUE_RUNS") from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _changing(self) -> Iterator[list[QueuedNight]]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "queue.lock", fallback_to_soft=False):
            nights = list(self.nights())
            yield nights
            ended = [night for night in nights if night.state in ENDED]
            old = {night.id for night in ended[:-SHOWN]}
            kept = QueueRecord(nights=tuple(night for night in nights if night.id not in old))
            sealed.write(self._file, kept.model_dump(mode="json"))

    @staticmethod
    def _one(nights: Sequence[QueuedNight], id: str) -> QueuedNight:
        """Returns the night of an id, or of the only one that begins so."""
        found = [night for night in nights if night.id == id] or [night for night in nights if night.id.startswith(id)]
        if not id or len(found) != 1:
            raise errors.NotFound(text("the queue has no night {id}; konomi night queue list shows them", id=id))
        return found[0]
