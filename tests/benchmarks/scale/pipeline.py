"""A night's images as a discrete-event simulation: actors that draw, one process that hands out, embeds, writes rows.

What konomi does stands here as queues (simpy): a driver that hands batches out and takes answers one at a time, actors
with two batches each, one embedder and one writer of rows behind them. Times are constants a measurement brings, so
what the model says of one and of two actors can be held against what was measured.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import simpy

AHEAD = 2
"""Batches an actor has at most (`ray_executor`)."""


@dataclass(frozen=True)
class ServiceTimes:
    """Seconds of one image in each place, and what a batch and a taste cost beside.

    Attributes:
        draw: on an actor, encoding and storing the image included.
        hand_out: of the driver's one thread, a batch: out and back.
        embed: of the one rater that writes, an image: decoding, embedding, its row in the same transaction.
        taste: of the same rater, a taste and night: fit, selection and what the page asks.
    """

    draw: float
    hand_out: float
    embed: float
    taste: float


@dataclass(frozen=True)
class Outcome:
    """What came of a simulated night.

    Attributes:
        images_per_second: of the whole, from the first batch to the last row.
        busy: share of the time each place was busy: "actors" (their mean), "driver", "rater".
    """

    images_per_second: float
    busy: Mapping[str, float]

    @property
    def bends(self) -> str:
        """The place that has the most to do: more of any other changes nothing."""
        return max(self.busy, key=lambda place: self.busy[place])


def simulate(times: ServiceTimes, actors: int, images: int, batch: int, *, embeds: bool = True) -> Outcome:
    """Returns what comes of so many images, in batches, over so many actors.

    Args:
        times: of one image in each place.
        actors: how many draw.
        images: of the night; a few hundred batches an actor show the rate of any number.
        batch: images an actor takes at a time.
        embeds: whether the one rater embeds each image, as it does; else only drawing is looked at.
    """
    world = simpy.Environment()
    driver, rater = simpy.Resource(world), simpy.Resource(world)
    batches = simpy.Store(world)
    batches.items.extend([batch] * (images // batch) + ([images % batch] if images % batch else []))
    busy = {"actors": 0.0, "driver": 0.0, "rater": 0.0}

    def used(place: simpy.Resource, name: str, seconds: float) -> Generator[simpy.Event, object, None]:
        with place.request() as turn:
            yield turn
            yield world.timeout(seconds)
            busy[name] += seconds

    def taking(card: simpy.Resource) -> Generator[simpy.Event, object, None]:
        while batches.items:
            size = batches.items.pop(0)
            yield from used(driver, "driver", times.hand_out / 2)
            with card.request() as turn:
                yield turn
                yield world.timeout(size * times.draw)
                busy["actors"] += size * times.draw / actors
            yield from used(driver, "driver", times.hand_out / 2)
            if embeds:
                world.process(used(rater, "rater", size * times.embed))

    for _ in range(actors):
        card = simpy.Resource(world)
        for _ in range(AHEAD):
            world.process(taking(card))
    world.run()
    return Outcome(images / world.now, {place: seconds / world.now for place, seconds in busy.items()})


def first_bend(times: ServiceTimes, counts: Sequence[int], batch: int, per_actor: int = 40) -> dict[int, Outcome]:
    """Returns the outcome for each number of actors, of so many batches each."""
    return {count: simulate(times, count, count * per_actor * batch, batch) for count in counts}


@dataclass(frozen=True)
class Sizing:
    """What a number of images takes on so many actors.

    Attributes:
        actors: that draw.
        images_per_second: of the whole.
        hours: for all images, with the work of all tastes on the one rater.
        bends: what has the most to do: "actors", "driver" or "rater".
    """

    actors: int
    images_per_second: float
    hours: float
    bends: str


def sizing(times: ServiceTimes, counts: Sequence[int], images: int, tastes: int, batch: int) -> list[Sizing]:
    """Returns the sizing table: hours for so many images of so many tastes, on each number of actors.

    The rater's work for tastes is spread over the same hours: it stands in its queue as so much more for each image.
    """
    spread = replace(times, embed=times.embed + times.taste * tastes / images)
    found = first_bend(spread, counts, batch)
    return [
        Sizing(count, made.images_per_second, images / made.images_per_second / 3600, made.bends)
        for count, made in found.items()
    ]


def ceiling(times: ServiceTimes, batch: int) -> dict[str, float]:
    """Returns the images a second beyond which the driver, or the one rater, is all that counts."""
    return {"driver": batch / times.hand_out, "rater": 1 / times.embed}
