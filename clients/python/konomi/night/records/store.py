"""The records of nights in the home folder: what was asked for, what happened, and the lock of its one process."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypedDict, cast

import filelock

from konomi import errors
from konomi.files import LOOK_SECONDS, derived_id, is_locked, read_json, write_json
from konomi.i18n.catalogue import text
from konomi.night.records.request import NightRequest
from konomi.night.records.state import ENDED as ENDED
from konomi.night.records.state import NightState, StateName


class Heartbeat(TypedDict, total=False):
    """How far the step under way is, and when that was said; empty where none was."""

    step: str
    done: int
    total: int
    time: float


class NightStore:
    """The nights of one home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "nights"

    def request(self, night: str) -> NightRequest:
        """Returns a night's request.

        Raises:
            NotFound: there is no such night.
        """
        path = self._request(night)
        if not path.exists():
            raise errors.NotFound(
                text("There is no night {night} in this home; `konomi night status` lists them.", night=night)
            )
        return NightRequest(**json.loads(path.read_text()))

    def begin(self, asked: str, make: Callable[[], NightRequest]) -> NightRequest:
        """Returns the request to run: the night of the same words whose command never came to its end, or a new one.

        Args:
            asked: digest of what the owner typed.
            make: makes the request where a new night begins; an empty id is derived.

        Raises:
            FailedPrecondition: another night is unfinished.
            AlreadyExists: the id belongs to a night that has ended.
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
        wanted = make()
        past = sum(1 for night in self.all() if self.request(night).asked == asked)
        request = replace(wanted, id=wanted.id or derived_id(asked, past))
        if self._request(request.id).exists():
            message = text("The night {night} has ended already; give another --request-id, or none.", night=request.id)
            raise errors.AlreadyExists(message, reason="NIGHT_EXISTS")
        write_json(self._request(request.id), asdict(request))
        state = NightState(night=request.id, state=StateName.NEW, system=request.system, steps=(), units=())
        self.write(request.id, state)
        return request

    def write(self, night: str, state: NightState | Mapping[str, object]) -> None:
        """Writes what has happened so far."""
        write_json(self.folder / night / "night.json", NightState.model_validate(state).plain())

    def state(self, night: str) -> NightState:
        """Returns what has happened so far; a night without a record is new."""
        return NightState.model_validate(self.read(night))

    def read(self, night: str) -> dict[str, Any]:
        """Returns what has happened so far, as JSON."""
        return read_json(self.folder / night / "night.json") or {
            "night": night,
            "state": StateName.NEW.value,
            "units": [],
        }

    def all(self) -> list[str]:
        """Returns the ids of all nights, oldest first."""
        requests = self.folder.glob("*/request.json")
        return [path.parent.name for path in sorted(requests, key=lambda path: (path.stat().st_mtime_ns, path))]

    def ended(self, taste: str) -> list[str]:
        """Returns the ids of a taste's nights that are over, oldest first, whatever version recorded them."""
        mine = [night for night in self.all() if read_json(self._request(night)).get("taste") == taste]
        return [night for night in mine if self.read(night).get("state") in ENDED]

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
        return cast(Heartbeat, read_json(self.folder / night / "progress.json"))

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
        path = self.folder / "pid"
        return int(path.read_text()) if path.exists() else 0

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

    def _request(self, night: str) -> Path:
        return self.folder / night / "request.json"
