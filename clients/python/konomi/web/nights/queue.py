"""The queue of nights on the page: shown, added to, put in another order, begun."""

from typing import TypedDict

from konomi.home import Home
from konomi.night.records.queue import NightQueue, QueuedNight
from konomi.web.nights.endpoints import NightEndpoints, NightName
from konomi.web.responses import Asked, number, text

DEFAULTS = {"--taste": "default", "--base": ""}
"""Options of a night that the page shows, and what stands where they are left out."""


class QueuedShown(TypedDict):
    """A night of the queue as the page shows it; `base` is empty where the home's own is meant."""

    id: str
    state: str
    system: str
    taste: str
    base: str
    said: str


class QueueShown(TypedDict):
    """The queue: its nights in order, those that ended first, and whether a process works through it."""

    nights: list[QueuedShown]
    runs: bool


class QueueEndpoints:
    """The queue of one home, as the page's endpoints."""

    def __init__(self, home: Home, nights: NightEndpoints) -> None:
        """Takes the home, and what turns a form into the words of a night and runs commands."""
        self._queue, self._nights = NightQueue(home.root), nights

    def show(self, asked: Asked) -> QueueShown:
        """Endpoint: the nights of the queue."""
        return {"nights": [_shown(night) for night in self._queue.nights()], "runs": self._queue.runs}

    def add(self, asked: Asked) -> QueueShown:
        """Endpoint: adds a night as the form asks for it; what its start would refuse is refused now."""
        self._nights.run("night", "queue", "add", *self._nights.words(asked), "--json")
        return self.show(asked)

    def move(self, asked: Asked) -> QueueShown:
        """Endpoint: puts a night at another place among those that wait."""
        self._queue.move(text(asked, "id"), number(asked, "place", 1, 1, 1000))
        return self.show(asked)

    def remove(self, asked: Asked) -> QueueShown:
        """Endpoint: takes a night out."""
        self._queue.remove(text(asked, "id"))
        return self.show(asked)

    def start(self, asked: Asked) -> NightName:
        """Endpoint: begins to work through the queue, which outlives the page."""
        return self._nights.begin("night", "queue", "run")


def _shown(night: QueuedNight) -> QueuedShown:
    words = night.words
    told = {name: words[words.index(name) + 1] if name in words[:-1] else usual for name, usual in DEFAULTS.items()}
    return {
        "id": night.id,
        "state": night.state.value,
        "system": words[0],
        "taste": told["--taste"],
        "base": told["--base"],
        "said": night.said,
    }
