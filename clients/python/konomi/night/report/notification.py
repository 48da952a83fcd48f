"""The morning's message: where it goes, what it says, and how it gets there (only import of apprise)."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import SettingsConfigDict

from konomi.errors import InvalidArgument
from konomi.files import write_json
from konomi.host import extras
from konomi.i18n.catalogue import language, text
from konomi.night.alarms import unit_name
from konomi.night.records import sealed
from konomi.night.records.state import NightState
from konomi.night.records.store import NightStore
from konomi.night.records.trial import Trial
from konomi.night.report.status import reasons_of
from konomi.night.verdict import BlindEvaluation
from konomi.settings import KonomiSettings

Send = Callable[[str, str], bool]
"""(title, body) → the receiver took it."""


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        id: its name; a message of the same id is kept once for each receiver.
        receiver: name of the receiver it is for.
        title: one line.
        body: plain text.
        created: seconds since 1970.
        tries: deliveries that failed so far.
        number: its place among the messages of the home, which no clock changes.
    """

    id: str
    receiver: str
    title: str
    body: str
    created: float
    tries: int = 0
    number: int = 0


_KEPT = TypeAdapter(Message)


class Outbox:
    """The messages of one home that are still to be delivered."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "outbox"

    def keep(self, message: Message) -> bool:
        """Keeps a message until it is delivered; returns false where this one was kept or delivered before."""
        if self._path(message).exists() or self._sent(message).exists():
            return False
        number = 1 + max((waiting.number for waiting in self.waiting()), default=0)
        write_json(self._path(message), asdict(replace(message, number=number)))
        return True

    def waiting(self) -> list[Message]:
        """Returns what is to be delivered, oldest first; a damaged message is set aside, its report is there anyway."""
        messages = []
        for path in self.folder.glob("*.json"):
            try:
                messages.append(_KEPT.validate_python(sealed.read(path)))
            except (sealed.Damaged, ValidationError):
                sealed.set_aside(path)
        return sorted(messages, key=lambda message: (message.number, message.created, message.id, message.receiver))

    def deliver(self, receivers: Mapping[str, Send]) -> int:
        """Offers every waiting message to its receiver once and returns how many were taken.

        A message whose receiver there is no more is forgotten: nobody is left to take it.
        """
        taken = 0
        for message in self.waiting():
            send = receivers.get(message.receiver)
            if send is not None and not send(message.title, message.body):
                write_json(self._path(message), asdict(message) | {"tries": message.tries + 1})
                continue
            self._sent(message).touch()
            self._path(message).unlink(missing_ok=True)
            taken += send is not None
        return taken

    def _path(self, message: Message) -> Path:
        return self.folder / f"{message.id}.{message.receiver}.json"

    def _sent(self, message: Message) -> Path:
        return self.folder / f"{message.id}.{message.receiver}.sent"


class NotifySettings(KonomiSettings):
    """Who is told in the morning."""

    model_config = SettingsConfigDict(
        env_prefix="KONOMI_NOTIFY_", frozen=True, extra="forbid", use_attribute_docstrings=True
    )
    toml_table: ClassVar[str] = "notify"

    urls: tuple[SecretStr, ...] = Field(default=())
    """Receivers as apprise names them, for example "mailto://…", "discord://…", "json://host/path"; none by default.
    They hold secrets, so they are never printed or logged."""


def receivers(settings: NotifySettings) -> dict[str, Send]:
    """Returns every receiver by a name that does not give its address away.

    Raises:
        FailedPrecondition: receivers are configured and apprise is not installed.
        InvalidArgument: an address is not one apprise knows; it is not repeated in the message.
    """
    if not settings.urls:
        return {}
    extras.require("overnight")
    from apprise import Apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its log lines carry the addresses
    sends: dict[str, Send] = {}
    for number, url in enumerate(settings.urls, start=1):
        receiver = Apprise()
        if not receiver.add(url.get_secret_value()):
            message = text("receiver {number} of [notify] urls is no address apprise knows", number=number)
            raise InvalidArgument(message, field="urls", reason="NOTIFY_ADDRESS")
        sends[name_of(url)] = partial(_send, receiver)
    return sends


def offer(home: Path) -> int:
    """Offers whatever waits to its receivers once more and returns how many messages were taken."""
    outbox = Outbox(home)
    return outbox.deliver(receivers(NotifySettings(home=home))) if outbox.waiting() else 0


def announce(home: Path, night: str, state: NightState, report: str, now: float) -> int:
    """Tells every receiver how a night ended, and whatever waits from before; returns how many messages were taken.

    What is not taken stays in the outbox: `konomi up` and every later night offer it again.
    """
    nights = NightStore(home)
    in_use = BlindEvaluation(nights, night).in_use.unit
    title, body = words_of(state, in_use, report, nights.trial(night))
    for url in NotifySettings(home=home).urls:
        Outbox(home).keep(Message(f"night-{night}", name_of(url), title, body, now))
    return offer(home)


def words_of(state: NightState, in_use: int, report: str, tried: Trial | None = None) -> tuple[str, str]:
    """Returns title and body of a night's message in the language in use.

    Args:
        state: what the night has done.
        in_use: number of the unit in use after it.
        report: path of its report.
        tried: what its base model drew before it; None where nobody looked.
    """
    lines = [reason.told(language()) for reason in reasons_of(state, tried)]
    lines += [
        text("report: {path}", path=report),
        text("to judge it blind, then keep it or roll it back: konomi night verdict"),
    ]
    return text("konomi: after this night {unit} is in use", unit=unit_name(in_use)), "\n".join(lines)


def _send(receiver: Any, title: str, body: str) -> bool:
    return bool(receiver.notify(title=title, body=body))


def name_of(url: SecretStr) -> str:
    """Returns a receiver's name, which does not give its address away."""
    return hashlib.sha256(url.get_secret_value().encode()).hexdigest()[:12]
