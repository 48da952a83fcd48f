"""Messages to the owner that wait until their receiver takes them: each is a file, synced before it counts as kept.

Delivery is at least once: a message is forgotten only after its receiver said yes, so a dead receiver costs time, never
the message, and a process killed between the yes and the forgetting sends it twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from konomi.lineage import read_json, write_json

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
    """

    id: str
    receiver: str
    title: str
    body: str
    created: float
    tries: int = 0


class Outbox:
    """The messages of one home that are still to be delivered."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "outbox"

    def keep(self, message: Message) -> bool:
        """Keeps a message until it is delivered; returns false where this one was kept or delivered before."""
        if self._path(message).exists() or self._sent(message).exists():
            return False
        write_json(self._path(message), asdict(message))
        return True

    def waiting(self) -> list[Message]:
        """Returns what is to be delivered, oldest first."""
        found = [Message(**read_json(path)) for path in self.folder.glob("*.json")]
        return sorted(found, key=lambda message: (message.created, message.id, message.receiver))

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
