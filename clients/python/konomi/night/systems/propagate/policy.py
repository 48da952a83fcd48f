"""Self-propagation: a set of 1 to 5 images that at most doubles every turn, gated, near its originals.

A turn fits a word V* on the set (Kumari et al. 2212.04488), draws candidates with it, from nothing and from the set's
own images, and takes in what the rater's gate lets through. The originals keep their share of every fit: a fresh share
a discounts old errors by (1 - a)^2m (Khelifa et al. 2602.16601).
"""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, TypedDict

from pydantic import Field

from konomi.night import metrics
from konomi.night.alarms import Alarm
from konomi.night.draws import Draw, Turn, image_seed, shuffled
from konomi.night.gateway.concepts import RegularisationSettings
from konomi.night.settings import NightSettings

STRENGTHS = (0.3, 0.5, 0.7)
"""Strengths of img2img, in turn."""
SMALL = 16
"""Members below which the originals have the larger share, and every new member waits for the owner."""
SAMPLE = 0.1
"""Share of the new members of a larger set that are shown to the owner, beside the farthest."""
ASKED = 5
"""The farthest new members of a larger set, all shown to the owner."""
MOST_CANDIDATES = 960
"""Candidates of a turn at most: what one call of SelectImages names."""
FALLS = 2
"""Turns running in which the candidates moved away from the originals that end the growth."""


class PropagateSettings(RegularisationSettings):
    """What `propagate` alone is told, and its regularisation."""

    younger: ClassVar[frozenset[str]] = frozenset()  # every night has recorded these

    seed_images: tuple[str, ...] = ()
    """`propagate`: the 1 to 5 images it grows from, files or digests; none takes the taste's images graded UR."""
    seed_class: str = ""
    """`propagate`: what they show, in one word; none takes the last word before the first comma of a caption."""
    seed_token: str = ""
    """`propagate`: the word V* they are bound to; filled in when the night begins, from the images' digests."""
    propagate_set: str = ""
    """`propagate`: digest of the set an earlier night left; filled in when the night begins."""
    propagate_target: int = Field(32, ge=2, le=512)
    """`propagate`: members at which the set is large enough."""
    propagate_candidates: int = Field(16, ge=1, le=64)
    """`propagate`: candidates for every member."""
    propagate_init_share: float = Field(0.375, ge=0, le=1)
    """`propagate`: share of the candidates that start from a member (img2img) at strength .3, .5 or .7."""
    propagate_depth: int = Field(4, ge=1, le=16)
    """`propagate`: generations an image may be away from the originals."""
    propagate_acceptance: float = Field(0.1, ge=0, le=1)
    """`propagate`: the set grows no further where less than this share of the candidates passes the gate."""
    propagate_steps: int = Field(40, ge=1)
    """`propagate`: optimiser steps of a turn; few, since a set learnt by heart draws nothing but its own duplicates."""
    originals_share_small: float = Field(0.5, ge=0, le=1)
    """`propagate`: least share of the originals in a fit on fewer than 16 members."""
    originals_share: float = Field(0.25, ge=0, le=1)
    """`propagate`: least share of the originals in a fit on 16 or more."""


def pool_size(settings: NightSettings) -> int:
    """Returns how many candidates the first turn of a growth is offered."""
    settings = settings.of(PropagateSettings)
    return candidates(settings, max(1, len(settings.seed_images)))


def candidates(settings: PropagateSettings, members: int) -> int:
    """Returns how many candidates a set of so many members is offered."""
    return min(MOST_CANDIDATES, settings.propagate_candidates * members)


def planned(settings: NightSettings, units: int) -> tuple[int, int]:
    """Returns how many candidates and training steps so many turns need where every one doubles the set."""
    settings = settings.of(PropagateSettings)
    size, images = max(1, len(settings.seed_images)), 0
    for _ in range(units):
        images += candidates(settings, size)
        size = min(2 * size, settings.propagate_target)
    return images, units * settings.propagate_steps


def draws(turn: Turn) -> list[Draw]:
    """Returns a turn's candidates: some from the set's images at three strengths, the rest from nothing.

    `turn.seen` carries "members", each with "digest", "prompt" and "depth", and "bare", the word alone. An image from
    nothing descends from the whole set, so its depth is one more than the set's; where that is past the cap, every
    candidate starts from an image that is not.
    """
    settings, members = turn.settings.of(PropagateSettings), turn.seen["members"]
    count, deepest = candidates(settings, len(members)), max(member["depth"] for member in members)
    parents = [member for member in members if member["depth"] < settings.propagate_depth]
    free = deepest < settings.propagate_depth
    children = round(count * settings.propagate_init_share) if free else count if parents else 0
    order = shuffled(turn.prompts, f"{turn.seed}/propagate-{turn.unit}")
    offered = []
    for index in range(children if not free else count):
        seed, other = image_seed(turn.seed, f"unit-{turn.unit}", index), order[index // 2 % len(order)]
        if index < children:
            parent, strength = parents[index % len(parents)], STRENGTHS[index // len(parents) % len(STRENGTHS)]
            prompt = parent["prompt"] if index % 2 else other
            offered.append(Draw(prompt, seed, "served", parent["digest"], strength, depth=parent["depth"] + 1))
        else:
            offered.append(Draw(other if index % 2 else turn.seen["bare"], seed, "served", depth=deepest + 1))
    return offered


def weights(originals: int, others: int, share: float) -> tuple[float, float]:
    """Returns the weights in the loss of an original and of another member, so that originals have at least a share.

    Args:
        originals: how many there are, 1 or more.
        others: how many other members.
        share: least share of the originals in every batch, 0..1.
    """
    whole = originals + others
    if not others or originals / whole >= share:
        return 1.0, 1.0
    return share * whole / originals, (1 - share) * whole / others


def least_share(settings: PropagateSettings, members: int) -> float:
    """Returns the least share of the originals in a fit on so many members."""
    return settings.originals_share_small if members < SMALL else settings.originals_share


class Round(TypedDict):
    """What the gate did in one turn, as the set's document keeps it."""

    considered: int
    passed: int
    mean_cosine: float
    standard_error: float
    taken: int
    size: int


def ending(settings: PropagateSettings, size: int, exhausted: bool, rounds: Sequence[Round]) -> Alarm | None:
    """Returns why a set grows no further.

    Args:
        settings: settings of the night.
        size: members now.
        exhausted: every member but the originals is at the depth cap.
        rounds: turns so far, oldest first.
    """
    last = rounds[-1]
    passed = acceptance(rounds)
    if size >= settings.propagate_target:
        return Alarm("target", {"size": size})
    if passed["high"] < settings.propagate_acceptance:
        return Alarm("acceptance", {"share": passed["value"], "floor": settings.propagate_acceptance, "size": size})
    if drifting(rounds):
        return Alarm("drift", {"runs": FALLS, "cosine": last["mean_cosine"], "size": size})
    return Alarm("depth_cap", {"depth": settings.propagate_depth, "size": size}) if exhausted else None


def acceptance(rounds: Sequence[Round]) -> metrics.Estimate:
    """Returns the share of the candidates that passed with its interval, over the turns since the set last grew.

    A set of one is offered 16 candidates, of which one that passes doubles it: their share alone says too little to
    end a growth, so the night ends where the whole interval lies below the floor.
    """
    idle = itertools.takewhile(lambda turn: not turn["passed"], reversed(rounds[:-1]))
    turns = [rounds[-1], *idle]
    return metrics.share(sum(turn["passed"] for turn in turns), sum(int(turn["considered"]) for turn in turns))


def drifting(rounds: Sequence[Round]) -> bool:
    """Says whether the mean cosine of the candidates to the originals fell by two standard errors twice running."""
    if len(rounds) <= FALLS:
        return False
    recent = rounds[-FALLS - 1 :]
    return all(
        before["mean_cosine"] - after["mean_cosine"] > 2 * math.hypot(before["standard_error"], after["standard_error"])
        for before, after in itertools.pairwise(recent)
    )


def to_confirm(taken: Sequence[str], size: int) -> list[str]:
    """Returns which new members the owner is asked about: all while the set is small, later five and every tenth.

    Members are taken in farthest first, so the first five are those the set, and what was graded of it, says least of.
    """
    new = list(taken)
    return new if size < SMALL else new[:ASKED] + new[ASKED :: round(1 / SAMPLE)]


def selection(turn: Turn) -> dict[str, object]:
    """Returns the limits of the gate; what it is asked of is the set's own."""
    settings = turn.settings
    return {
        "kappa": settings.kappa,
        "duplicate_cosine": settings.duplicate_cosine,
        "near_copy_cosine": settings.near_copy_cosine,
        "typicality_percentile": settings.typicality_percentile,
    }
