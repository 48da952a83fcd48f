"""The records of nights in the home folder: what was asked for, what happened, and the lock of its one process."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypedDict, cast

import filelock
from pydantic import ValidationError

from konomi import errors
from konomi.files import LOOK_SECONDS, derived_id, is_locked
from konomi.i18n.catalogue import text
from konomi.night.alarms import Alarm
from konomi.night.records import levelling, postgresql, sealed
from konomi.night.records import trial as trials
from konomi.night.records.request import NightRequest
from konomi.night.records.state import ENDED as ENDED
from konomi.night.records.state import NightState, Reason, StateName
from konomi.night.records.trial import Trial

Order = tuple[int, float, int, str]
"""What nights are ordered by: their number in the home; for those without one when they began, by whatever says it."""


class Heartbeat(TypedDict, total=False):
    """How far the step under way is, and when that was said; empty where none was.

    `time` is the clock's, for people; `up` counts the seconds this machine runs, which nobody sets; `made` are the
    digests of the images made last, the newest first; `drafts` says that they are drafts.
    """

    step: str
    done: int
    total: int
    time: float
    up: float
    made: list[str]
    drafts: bool


class NightStore:
    """The nights of one home."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        """Takes the home folder and the clock that says when a night begins, seconds since 1970."""
        self.home = home
        self.folder = home / "nights"
        self._clock = clock
        self._orders: dict[str, tuple[tuple[int, ...], Order | None]] = {}
        self._tastes: dict[str, object] = {}
        self._shared: postgresql.SharedRecords | None = None

    def request(self, night: str) -> NightRequest:
        """Returns a night's request.

        Raises:
            NotFound: there is no such night.
            FailedPrecondition: its record is damaged and has no copy (reason NIGHT_DAMAGED).
        """
        path = self._request(night)
        if not os.path.lexists(path):
            raise errors.NotFound(
                text("There is no night {night} in this home; `konomi night status` lists them.", night=night)
            )
        try:
            return NightRequest(**sealed.read(path))
        except sealed.Damaged as damaged:
            raise self._lost(night, str(damaged.message)) from damaged
        except (ValidationError, TypeError) as error:
            raise self.unreadable(night) from error

    def unreadable(self, night: str) -> errors.FailedPrecondition:
        """Returns the error of a night whose request is whole and says what none of this version can."""
        message = text(
            "The night {night} cannot be read: its request.json is of another version of konomi, or damaged. The "
            "other nights go on; what it asked for can be started anew.",
            night=night,
        )
        return errors.FailedPrecondition(message, reason="NIGHT_DAMAGED")

    def _lost(self, night: str, why: str) -> errors.FailedPrecondition:
        message = text(
            "The night {night} cannot be read: {why}. The other nights go on; the next konomi night start or "
            "resume sets its folder aside, and what it asked for can be started anew.",
            night=night,
            why=why,
        )
        return errors.FailedPrecondition(message, reason="NIGHT_DAMAGED")

    def begin(self, asked: str, make: Callable[[], NightRequest]) -> NightRequest:
        """Returns the request to run: the night of the same words whose command never came to its end, or a new one.

        Args:
            asked: digest of what the owner typed.
            make: makes the request where a new night begins; an empty id is derived.

        Raises:
            FailedPrecondition: another night is unfinished.
            AlreadyExists: the id belongs to a night that has ended.
        """
        begun = self.begun(asked)
        if begun is not None:
            return begun
        wanted = make()
        past = sum(1 for night in self.all() if self.request(night).asked == asked)
        return self._add(replace(wanted, id=wanted.id or derived_id(asked, past)))

    def begun(self, asked: str) -> NightRequest | None:
        """Returns the night of the same words whose command never came to its end; None where a new one would begin.

        Raises:
            FailedPrecondition: another night is unfinished.
        """
        open_night = self.unfinished()
        if open_night is not None:
            begun = self.request(open_night)
            if begun.asked == asked:
                return begun
            message = text(
                "The night {night} is not finished and was asked for something else; "
                "continue it with `konomi night resume`, or give it up with `konomi night stop --abandon`.",
                night=open_night,
            )
            raise errors.FailedPrecondition(message, reason="NIGHT_UNFINISHED")
        for night in reversed(self.all()):
            begun = self.request(night)
            if begun.asked == asked and self.state(night).state in ENDED and not self.delivered(night):
                return begun
        return None

    def require_unused(self, night: str) -> None:
        """Raises AlreadyExists where an id belongs to a night of this home."""
        if night and os.path.lexists(self._request(night)):
            message = text("The night {night} has ended already; give another --request-id, or none.", night=night)
            raise errors.AlreadyExists(message, reason="NIGHT_EXISTS")

    def _add(self, request: NightRequest) -> NightRequest:
        """Makes the folder and the records of a new night."""
        self.require_unused(request.id)
        self._open(request)
        return request

    def _open(self, request: NightRequest) -> None:
        """Writes what a night was asked for, after the record that numbers it."""
        number = 1 + max((self.state(night).sequence for night in self.all()), default=0)
        state = NightState(
            night=request.id, sequence=number, began=round(self._clock(), 1),
            state=StateName.NEW, system=request.system, steps=(), units=(),
        )  # fmt: skip
        (self.folder / request.id).mkdir(parents=True, exist_ok=True)
        self.write(request.id, state)
        sealed.write(self._request(request.id), asdict(request))  # from now on there is such a night
        self._share(request.id, levelling.FILES)

    def write(self, night: str, state: NightState | Mapping[str, object]) -> None:
        """Writes what has happened so far; number and hour of its beginning stay those on record."""
        written = NightState.model_validate(state)
        recorded = self.state(night)
        kept = {name: getattr(recorded, name) for name in ("sequence", "began") if getattr(recorded, name)}
        sealed.write(self._night(night), written.changed(**kept).plain())
        if self._request(night).exists():
            self._share(night, levelling.STATES)

    def state(self, night: str) -> NightState:
        """Returns what has happened so far; a night without a record is new, one with a damaged record "damaged"."""
        try:
            return NightState.model_validate(self.read(night))
        except (sealed.Damaged, ValidationError):
            reason = Reason.of(Alarm("damaged", {"night": night}))
            return NightState(night=night, state=StateName.DAMAGED, reason=reason, steps=(), units=())

    def read(self, night: str) -> sealed.Json:
        """Returns what has happened so far, as JSON. Raises FailedPrecondition where the record is damaged."""
        return sealed.read(self._night(night)) or {
            "night": night,
            "state": StateName.NEW.value,
            "units": [],
        }

    def all(self) -> list[str]:
        """Returns the ids of all nights whose request can be read, oldest first."""
        orders = filter(None, (self._order(night) for night in self._names()))
        return [order[-1] for order in sorted(orders)]

    def damaged(self) -> dict[str, str]:
        """Returns the nights whose request cannot be read, and the sentence that says why."""
        sentences = {}
        for night in self._names():
            try:
                self.request(night)
            except errors.KonomiError as error:
                sentences[night] = str(error.message)
        return sentences

    def began(self, night: str) -> float:
        """Returns when a night began, seconds since 1970; nights of earlier versions tell it by their file."""
        return self.state(night).began or self._request(night).stat().st_mtime

    def _names(self) -> list[str]:
        """Returns the names of the folders that hold a request, whatever it is."""
        paths = self.folder.glob("*/request.json")
        return sorted(path.parent.name for path in paths if sealed.DAMAGED not in path.parent.name)

    def _order(self, night: str) -> Order | None:
        """Returns what a night is ordered by, None where its request is damaged; looks again when a file changed."""
        files = [self._request(night), self._night(night), sealed.seal_of(self._request(night))]
        stamp = tuple(number for path in files for number in _stamp(path))
        if self._orders.get(night, ((), None))[0] != stamp:
            self._orders[night] = (stamp, self._place(night))
        return self._orders[night][1]

    def _place(self, night: str) -> Order | None:
        try:
            self.request(night)
        except errors.KonomiError:
            return None
        state = self.state(night)
        if state.sequence or state.began:
            return (state.sequence, state.began, 0, night)
        return (0, 0.0, self._request(night).stat().st_mtime_ns, night)

    def mend(self, rebuild: Callable[[str], NightState | None]) -> list[str]:
        """Makes damaged records good, under the lock; returns a sentence for each that was.

        From its copy where there is one; what a night did also from what its steps left. A night whose request is lost
        is set aside whole.

        Args:
            rebuild: returns a night's state by what its steps left, None where nothing is known of them.
        """
        sentences = []
        for night in self._names():
            try:
                self.request(night)
                aside = sealed.mend(self._request(night))
            except errors.KonomiError as error:
                if isinstance(error.__cause__, sealed.Damaged):
                    folder = sealed.set_aside(self.folder / night)
                    sentences.append(text("{why} It lies in {folder} now.", why=error.message, folder=folder.name))
                continue
            sentences += [self._mended(night, aside)] if aside else []
            sentences += self._mend_state(night, rebuild)
        return sentences

    def _mend_state(self, night: str, rebuild: Callable[[str], NightState | None]) -> list[str]:
        path = self._night(night)
        if self.state(night).state != StateName.DAMAGED:
            aside = sealed.mend(path)
            return [self._mended(night, aside)] if aside else []
        state = rebuild(night)
        if state is None and _is_json(path):
            return []  # of another version, perhaps
        aside = sealed.set_aside(path)
        if os.path.lexists(sealed.seal_of(path)):
            sealed.set_aside(sealed.seal_of(path))
        if state is not None:
            self.write(night, state)
        return [self._mended(night, aside)]

    def _mended(self, night: str, aside: Path) -> str:
        return text(
            "A record of the night {night} was damaged and has been made good; the damaged one is {file}.",
            night=night,
            file=aside.name,
        )

    def ended(self, taste: str) -> list[str]:
        """Returns the ids of a taste's nights that are over, oldest first, whatever version recorded them."""
        mine = [night for night in self._names() if _taste(self._request(night)) == taste]
        ended = {night for night in mine if self.state(night).state in ENDED}
        others = sorted(ended - set(self.all()))  # of another version, whose requests are not this one's
        return [*others, *(night for night in self.all() if night in ended)]

    def asked_about(self, taste: str) -> list[str]:
        """Returns digests of the images a taste's newest night asks its owner about, the oldest first.

        Args:
            taste: "tastes/{taste}".
        """
        for night in reversed(self.all()):
            if self._taste_of(night) == taste:
                selections = [unit.selection for unit in self.state(night).units if unit.selection is not None]
                return [digest for selection in selections for digest in selection.confirm]
        return []

    def latest(self) -> str | None:
        """Returns the newest night."""
        nights = self.all()
        return nights[-1] if nights else None

    def unfinished(self) -> str | None:
        """Returns the night that can be resumed, if there is one."""
        for night in reversed(self.all()):
            if not self.state(night).is_final:
                return night
        return None

    def beat(self, night: str, heartbeat: Heartbeat) -> None:
        """Writes how far the step under way is; only for people, so it is not synced and a full disk is no matter."""
        path = self.folder / night / "progress.json"
        temporary = path.with_suffix(".tmp")
        with suppress(OSError):
            temporary.write_text(json.dumps(heartbeat))
            temporary.replace(path)

    def progress(self, night: str) -> Heartbeat:
        """Returns the last heartbeat."""
        with suppress(sealed.Damaged):  # it is not synced, so a power cut may empty it
            beat = sealed.read(self.folder / night / "progress.json")
            kinds = {
                "step": str,
                "done": int,
                "total": int,
                "time": int | float,
                "up": int | float,
                "made": list,
                "drafts": bool,
            }
            if all(isinstance(value, kinds.get(name, object)) for name, value in beat.items()):  # type: ignore[arg-type]
                return cast(Heartbeat, beat)
        return {}

    def keep_trial(self, night: str, tried: Trial) -> None:
        """Keeps what the base model drew before a night."""
        trials.keep(self.folder / night / trials.FILE, tried)

    def trial(self, night: str) -> Trial | None:
        """Returns what the base model drew before a night; None where nobody looked."""
        return trials.read(self.folder / night / trials.FILE)

    def ask_to_stop(self, night: str) -> None:
        """Leaves the wish to stop where the night's process looks before every step."""
        (self.folder / night / "stop").touch()

    def stop_asked(self, night: str) -> bool:
        """Says whether somebody asked the night to stop."""
        return (self.folder / night / "stop").exists()

    def forget_stop(self, night: str) -> None:
        """Takes the wish to stop back; a resumed night begins so."""
        (self.folder / night / "stop").unlink(missing_ok=True)

    def deliver(self, night: str) -> None:
        """Notes that the command that ran a night told its end; until then the same command tells it again."""
        (self.folder / night / "delivered").touch()

    def delivered(self, night: str) -> bool:
        """Says whether the end of a night was told."""
        return (self.folder / night / "delivered").exists()

    def runner(self) -> int | None:
        """Returns the process id of the night that runs now, None when none does."""
        if not is_locked(self.folder / "lock"):
            return None
        with suppress(OSError, ValueError):
            return int((self.folder / "pid").read_text())
        return 0

    @contextmanager
    def lock(self, seconds: float = 0) -> Iterator[None]:
        """Holds the lock one client process may hold; the system frees it when the process dies.

        Raises:
            FailedPrecondition: another process runs a night in this home.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / "lock", fallback_to_soft=False)
        try:
            lock.acquire(timeout=max(seconds, LOOK_SECONDS))
        except filelock.Timeout as error:
            message = text(
                "Another process runs a night in this home; `konomi night status` shows it, `night stop` ends it."
            )
            raise errors.FailedPrecondition(message, reason="NIGHT_RUNNING") from error
        try:
            (self.folder / "pid").write_text(str(os.getpid()))
            yield
        finally:
            lock.release()

    def _taste_of(self, night: str) -> object:
        """Returns a night's taste, read once: a request never changes."""
        if night not in self._tastes:
            self._tastes[night] = _taste(self._request(night))
        return self._tastes[night]

    @contextmanager
    def hold(self, seconds: float = 0, say: Callable[[str], None] = lambda _sentence: None) -> Iterator[None]:
        """Holds the lock, and where [database] url is set the one all hosts of that database share.

        Every record is then the newest any of them left, and each that is written is kept there too.

        Raises:
            FailedPrecondition: another process runs a night in this home, or another host does.
            Unavailable: the database cannot be reached.
        """
        url = postgresql.address_of(self.home)
        with self.lock(seconds):
            if not url:
                yield
                return
            with postgresql.held(url, say) as self._shared:
                try:
                    levelling.level(self.folder, self._shared)
                    yield
                finally:
                    self._shared = None

    def refresh(self, say: Callable[[str], None] = lambda _sentence: None) -> None:
        """Takes in what other hosts of the same database left of their nights. Raises what `hold` raises."""
        if postgresql.address_of(self.home):
            with self.hold(say=say):
                return

    @property
    def database(self) -> str:
        """URL of the database the nights are held in; empty where they are held in this home alone."""
        return self._shared.url if self._shared is not None else ""

    def share_step(self, night: str, number: int, line: bytes) -> None:
        """Keeps a line of a night's journal in the database too, where the nights are held there."""
        if self._shared is not None:
            self._shared.keep_steps(night, number, [line])

    def _share(self, night: str, names: tuple[str, ...]) -> None:
        if self._shared is not None:
            levelling.send(self.folder / night, self._shared, names)

    def _request(self, night: str) -> Path:
        return self.folder / night / "request.json"

    def _night(self, night: str) -> Path:
        return self.folder / night / "night.json"


def _is_json(path: Path) -> bool:
    with suppress(sealed.Damaged):
        return bool(sealed.read(path))
    return False


def _taste(request: Path) -> object:
    with suppress(sealed.Damaged):
        return sealed.read(request).get("taste")
    return None


def _stamp(path: Path) -> tuple[int, int]:
    with suppress(OSError):
        status = path.stat()
        return status.st_mtime_ns, status.st_size
    return 0, 0
