"""Which of many adapters of one base model suits a taste: equal prompts and seeds, drawn only until the order is sure.

Images are drawn in rounds. After each, every adapter is held against its neighbours in the order by the differences of
their images' lower bounds, seed by seed: what a prompt or a seed does to all of them cancels out. One that is surely
apart from both neighbours is drawn no more; where only the best is looked for, one that is surely behind the first.
"Surely" is two-sided at 5 % over all rounds and pairs together (Bonferroni), so that looking after every round does not
make chance look like an order.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Literal, TypedDict

from konomi.client.refusals import told
from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.evaluation import base_models
from konomi.evaluation.base_models import Advance, BaseJudgement
from konomi.i18n.catalogue import text
from konomi.night import metrics
from konomi.night.draws import image_seed, shuffled
from konomi.night.gateway.services import NightServices

ROUND = 16
"""Images each adapter is drawn in a round; the first verdict rests on as many."""
DOUBT = 0.05
"""Chance that any neighbours are held for surely apart that are not, over the whole comparison."""
BASE = "base"
Until = Literal["order", "best"]
"""What has to be sure before an adapter is drawn no more: its place, or that another one is better."""
TURNS = 60
"""Turns of alternating means, which come to rest well before."""


@dataclass(eq=False)
class Contestant:
    """One adapter, or the base model alone.

    Attributes:
        name: what people call it.
        digest: of the stored adapter; empty for the base model.
        images: digests of its images, in the order of the draws.
        bounds: the lower bound of each.
    """

    name: str
    digest: str = ""
    images: list[str] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)


class AdapterJudgement(TypedDict):
    """What the rater says of an adapter, as JSON has it; figures carry their interval.

    `level` is its mean lower bound as if it had been drawn as often as all others; `ahead` is what it is ahead of the
    next one, image by image, None for the last; `sure` says whether that order is.
    """

    rank: int
    adapter: str
    digest: str
    images: int
    level: float
    ahead: metrics.Estimate | None
    sure: bool
    figures: BaseJudgement


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        judgements: best first.
        draws: prompt and seed of each image that could be drawn.
        images: images that were drawn in all.
        refused: name of an adapter that could not be drawn with → why.
        until: what had to be sure before an adapter was drawn no more.
    """

    judgements: list[AdapterJudgement]
    draws: list[tuple[str, int]]
    images: int
    refused: dict[str, str]
    until: Until = "order"

    @property
    def stopped_early(self) -> bool:
        """Whether images were left out because what had to be sure was so without them."""
        return self.images < len(self.judgements) * len(self.draws)


def compare(
    gateway: NightServices,
    base: str,
    contestants: Sequence[Contestant],
    prompts: Sequence[str],
    count: int,
    seed: int,
    advance: Advance = lambda done: None,
    until: Until = "order",
) -> Comparison:
    """Draws, scores and ranks adapters.

    Args:
        gateway: the services of one taste.
        base: id of the base model of all of them.
        contestants: two or more.
        prompts: prompts, one or more; each is drawn about equally often.
        count: images of each at most.
        seed: of the images.
        advance: told how many images are made.
        until: what has to be sure before an adapter is drawn no more.

    Raises:
        FailedPrecondition: fewer than two could be drawn with; the message says why the first could not.
    """
    order = shuffled(prompts, f"{seed}/adapters")
    draws = [(order[i % len(order)], image_seed(seed, "adapters", i)) for i in range(count)]
    rounds = math.ceil(count / ROUND)
    running, refused, made = list(contestants), dict[str, str](), 0
    for start in range(0, count, ROUND):
        part = draws[start : start + ROUND]
        unsure = undecided(running, rounds, until) if start else running
        for one in [one for one in unsure if len(one.images) == start]:
            why = _draw(gateway, base, one, part, partial(_after, advance, made))
            if why:
                refused[one.name] = why
            else:
                made += len(part)
        running = _enough(running, refused)
    return Comparison(_judged(gateway, running, draws, rounds), draws, made, refused, until)


def _draw(gateway: NightServices, base: str, one: Contestant, part: Sequence[tuple[str, int]], advance: Advance) -> str:
    """Draws and scores more images of a contestant; returns why its adapter cannot be drawn with, else nothing."""
    try:
        images = base_models.make(gateway.client, base, part, advance, one.digest)
    except (FailedPrecondition, InvalidArgument) as error:
        if not one.digest:
            raise  # the base model itself cannot be drawn with
        return told(error)
    one.images += images
    one.bounds += [score.lower_bound for score in gateway.score(images)]
    return ""


def _after(advance: Advance, before: int, done: int) -> None:
    advance(before + done)


def _enough(running: Sequence[Contestant], refused: dict[str, str]) -> list[Contestant]:
    """Returns those that could be drawn with; FailedPrecondition where these are fewer than two."""
    left = [one for one in running if one.name not in refused]
    if len(left) < 2:
        name, why = next(iter(refused.items()), ("", ""))
        line = text("expected two adapters or more that can be drawn with; {name}: {why}", name=name, why=why)
        raise FailedPrecondition(line, reason="TOO_FEW_ADAPTERS")
    return left


def _judged(
    gateway: NightServices, contestants: Sequence[Contestant], draws: Sequence[tuple[str, int]], rounds: int
) -> list[AdapterJudgement]:
    placed = ranked(contestants)
    needed = _needed(len(placed), rounds)
    judgements: list[AdapterJudgement] = []
    for rank, (one, level) in enumerate(placed, 1):
        next_one = placed[rank][0] if rank < len(placed) else None
        words = [prompt for prompt, _ in draws[: len(one.images)]]
        figures, _ = base_models.judge(gateway, one.name, one.images, words)
        judgements.append(
            {
                "rank": rank,
                "adapter": one.name,
                "digest": one.digest,
                "images": len(one.images),
                "level": level,
                "ahead": None if next_one is None else metrics.mean(_differences(one, next_one)),
                "sure": next_one is not None and apart(one, next_one, needed),
                "figures": figures,
            }
        )
    return judgements


def levels(bounds: Sequence[Sequence[float]]) -> list[float]:
    """Returns the mean of every row as if each had a value at every place that any has.

    Values are taken for the sum of what the row and what the place adds, fitted by least squares (alternating means): a
    row that ends early is not the better for its places having been easy ones.

    Args:
        bounds: rows of different lengths, each from the first place on.
    """
    places = max(map(len, bounds))
    adds = [0.0] * places
    rows = [0.0] * len(bounds)
    for _ in range(TURNS if len(set(map(len, bounds))) > 1 else 1):
        rows = [statistics.fmean(value - adds[at] for at, value in enumerate(row)) for row in bounds]
        adds = [
            statistics.fmean(row[at] - level for row, level in zip(bounds, rows, strict=True) if len(row) > at)
            for at in range(places)
        ]
    return [level + statistics.fmean(adds) for level in rows]


def ranked(contestants: Sequence[Contestant]) -> list[tuple[Contestant, float]]:
    """Returns the contestants with their levels, best first; equal ones by name."""
    found = zip(contestants, levels([one.bounds for one in contestants]), strict=True)
    return sorted(found, key=lambda pair: (-pair[1], pair[0].name))


def undecided(contestants: Sequence[Contestant], rounds: int, until: Until = "order") -> list[Contestant]:
    """Returns those of which it is not sure yet: not apart from both neighbours, or, for the best, from the first.

    Args:
        contestants: all, each with images.
        rounds: how often the question is asked at most.
        until: what has to be sure.
    """
    order = [one for one, _ in ranked(contestants)]
    needed = _needed(len(order), rounds)
    if until == "best":
        rivals = [one for one in order[1:] if not apart(order[0], one, needed)]
        return [order[0], *rivals] if rivals else []
    unsure: list[Contestant] = []
    for one, other in pairwise(order):
        if not apart(one, other, needed):
            unsure += [each for each in (one, other) if each not in unsure]
    return unsure


def apart(one: Contestant, other: Contestant, needed: float) -> bool:
    """Says whether two are surely apart: their mean difference is more than `needed` of its standard errors."""
    differences = _differences(one, other)
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.inf
    return abs(statistics.fmean(differences)) > needed * error


def _differences(one: Contestant, other: Contestant) -> list[float]:
    return [a - b for a, b in zip(one.bounds, other.bounds, strict=False)]


def _needed(count: int, rounds: int) -> float:
    """Returns the standard errors beyond which neighbours are surely apart, whichever become neighbours."""
    pairs = count * (count - 1) // 2
    return statistics.NormalDist().inv_cdf(1 - DOUBT / (2 * rounds * pairs))
