"""A night's images as a discrete-event simulation: actors that draw and embed, the driver, the one rater's rows.

What konomi does stands here as queues (simpy): a night that asks for so many images at a time and goes on once they are
known, a driver that hands batches out and takes answers one at a time, actors with two batches each, those that embed,
and one writer of rows behind them. Times are constants a measurement brings, so what the model says of one and of two
actors can be held against what was measured.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import simpy

AHEAD = 2
"""Batches an actor has at most (`ray_executor`)."""
ROUNDS = 4
"""Batches an actor gets at least, where there are images enough (`executors.batches`)."""

Event = Generator[simpy.Event, object, None]


@dataclass(frozen=True)
class ServiceTimes:
    """Seconds of one image in each place, and what a batch and a taste cost beside.

    Attributes:
        draw: on an actor, encoding and storing the image included.
        hand_out: of the driver's one thread, a batch: out and back.
        embed: of whoever embeds, an image: fetching, decoding, embedding.
        row: of the one rater that writes, an image: its rows, its part of a commit, its answer.
        taste: of the same rater, a taste and night: fit, selection and what the page asks.
    """

    draw: float
    hand_out: float
    embed: float
    row: float
    taste: float


@dataclass(frozen=True)
class Layout:
    """How a night's images are made.

    Attributes:
        actors: how many draw.
        batch: images an actor takes at a time.
        embedders: actors that embed; 0 where the one rater does.
        step: images the night asks for at a time, and waits for; 0 for all at once.
        meanwhile: images are embedded, and get their rows, while others of the same step are drawn.
    """

    actors: int
    batch: int
    embedders: int = 0
    step: int = 0
    meanwhile: bool = True


@dataclass(frozen=True)
class Outcome:
    """What came of a simulated night.

    Attributes:
        images_per_second: of the whole, from the first batch to the last row.
        busy: share of the time each place was busy: "actors" and "embedders" (their means), "driver", "rater".
    """

    images_per_second: float
    busy: Mapping[str, float]

    @property
    def bends(self) -> str:
        """The place that has the most to do: more of any other changes little."""
        return max(self.busy, key=lambda place: self.busy[place])


class _Night:
    """The queues of one night."""

    def __init__(self, times: ServiceTimes, layout: Layout, *, known: bool) -> None:
        self.world, self.times, self.layout, self.known = simpy.Environment(), times, layout, known
        self.driver, self.rater = simpy.Resource(self.world), simpy.Resource(self.world)
        self.cards = [simpy.Resource(self.world) for _ in range(layout.actors)]
        self.embedders = simpy.Resource(self.world, max(1, layout.embedders))
        self.busy = dict.fromkeys(("actors", "driver", "rater"), 0.0)
        if layout.embedders and known:
            self.busy["embedders"] = 0.0

    def run(self, images: int) -> Event:
        """Makes so many images, a step after the other."""
        step = self.layout.step or images
        for start in range(0, images, step):
            yield from self._step(min(step, images - start))

    def _step(self, images: int) -> Event:
        size = max(1, min(self.layout.batch, math.ceil(images / (self.layout.actors * ROUNDS))))
        waiting = [min(size, images - start) for start in range(0, images, size)][::-1]
        drawn: list[int] = []
        knowing: list[simpy.Event] = []
        turns = [
            self.world.process(self._taking(card, waiting, drawn, knowing, first=turn == 0))
            for turn in range(AHEAD)
            for card in self.cards
        ]
        yield self.world.all_of(turns)
        if self.known and not self.layout.meanwhile:
            knowing = [self.world.process(self._known(batch)) for batch in drawn]
        yield self.world.all_of(knowing)

    def _taking(
        self, card: simpy.Resource, waiting: list[int], drawn: list[int], knowing: list[simpy.Event], *, first: bool
    ) -> Event:
        while waiting and (first or len(waiting) > len(self.cards)):  # at the end nobody hoards (`spreading`)
            size = waiting.pop()
            yield from self._used(self.driver, "driver", self.times.hand_out / 2)
            yield from self._used(card, "actors", size * self.times.draw, self.layout.actors)
            yield from self._used(self.driver, "driver", self.times.hand_out / 2)
            drawn.append(size)
            if self.known and self.layout.meanwhile:
                knowing.append(self.world.process(self._known(size)))

    def _known(self, size: int) -> Event:
        rows, embedding = size * self.times.row, size * self.times.embed
        if self.layout.embedders:
            yield from self._used(self.embedders, "embedders", embedding, self.layout.embedders)
            yield from self._used(self.rater, "rater", rows)
        else:
            yield from self._used(self.rater, "rater", embedding + rows)

    def _used(self, place: simpy.Resource, name: str, seconds: float, of: int = 1) -> Event:
        with place.request() as turn:
            yield turn
            yield self.world.timeout(seconds)
            self.busy[name] += seconds / of


def simulate(times: ServiceTimes, layout: Layout, images: int, *, known: bool = True) -> Outcome:
    """Returns what comes of so many images.

    Args:
        times: of one image in each place.
        layout: how they are made.
        images: of the night; some steps, or a few hundred batches an actor, show the rate of any number.
        known: whether they are embedded and get their rows; else only drawing is looked at.
    """
    night = _Night(times, layout, known=known)
    night.world.run(night.world.process(night.run(images)))
    return Outcome(images / night.world.now, {place: spent / night.world.now for place, spent in night.busy.items()})


def first_bend(times: ServiceTimes, layouts: Sequence[Layout], per_actor: int = 320) -> list[Outcome]:
    """Returns the outcome of each layout, for so many images an actor."""
    return [simulate(times, layout, layout.actors * per_actor) for layout in layouts]


@dataclass(frozen=True)
class Sizing:
    """What a number of images takes.

    Attributes:
        layout: how they are made.
        images_per_second: of the whole.
        hours: for all images, with the work of all tastes on the one rater.
        bends: what has the most to do: "actors", "driver", "embedders" or "rater".
    """

    layout: Layout
    images_per_second: float
    hours: float
    bends: str


def sizing(times: ServiceTimes, layouts: Sequence[Layout], images: int, tastes: int) -> list[Sizing]:
    """Returns the sizing table: hours for so many images of so many tastes, in each layout.

    The rater's work for tastes is spread over the same hours: it stands in its queue as so much more for each image.
    """
    spread = replace(times, row=times.row + times.taste * tastes / images)
    return [
        Sizing(layout, made.images_per_second, images / made.images_per_second / 3600, made.bends)
        for layout, made in zip(layouts, first_bend(spread, layouts), strict=True)
    ]


def ceiling(times: ServiceTimes, layout: Layout) -> dict[str, float]:
    """Returns the images a second beyond which the driver, those that embed, or the one rater, is all that counts."""
    embedding = {"embedders": layout.embedders / times.embed} if layout.embedders else {}
    rater = times.row + (0 if layout.embedders else times.embed)
    return {"driver": layout.batch / times.hand_out, "rater": 1 / rater, **embedding}
