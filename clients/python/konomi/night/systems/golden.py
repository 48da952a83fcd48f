"""Golden age: quality tuning on the owner's UR alone, from every unit and every consented source, nothing diluted.

After Emu (Dai et al. 2309.15807): a small set of excellent images, every fit from the base model. A 99 is not a 100:
only what was graded UR enters; SSR and below stay negatives of the rater. Nothing is generated for the pool, since
nothing enters it ungraded but the members of sets a person certified, so the night spends no selection pressure; of
four checkpoints of the fit the rater says which is kept (`checkpoints`). Where the owner lets it turn away
from the worst as well, that tail alone does.
What was revoked has left the taste: the same seed and the same remaining images make the same set, as if it never was.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from konomi.i18n.catalogue import N_
from konomi.night.alarms import Alarm
from konomi.night.draws import Draw, Turn
from konomi.night.guards import GuardSettings
from konomi.night.records.fit import Fit
from konomi.night.records.state import Selection
from konomi.night.settings import NightSettings
from konomi.night.systems import base, checkpoints
from konomi.night.systems.base import Night, System

SOURCES = ("self", "consented", "scraped", "imported")
"""Every source that may hold UR, by the contract's names in small letters."""

GROWTH = 0.02
"""A golden set that grew by less than this share since the last fit teaches nothing new."""


class GoldenSettings(NightSettings):
    """What `golden` alone is told."""

    younger: ClassVar[frozenset[str]] = frozenset({"golden_avoids"})
    unrecorded: ClassVar[Mapping[str, Any]] = {"golden_probes": 0}

    golden_minimum: int = Field(8, ge=1)
    """Fewest images graded UR that `golden` trains on."""
    golden_quota: float = Field(4.0, ge=0)
    """`golden`: no cell above this times its base share; looser than `quota`, since the owner graded every image."""
    consented_weight: float = Field(0.5, ge=0, le=1)
    """`golden`: weight in the loss of images other people gave, beside 1 for the owner's own."""
    scraped_weight: float = Field(0.25, ge=0, le=1)
    """`golden`: weight in the loss of images collected elsewhere."""
    certificates: tuple[int, ...] = ()
    """`golden`: certified sets whose members enter ungraded, by the number of their certificate."""
    certified_weight: float = Field(0.5, ge=0, le=1)
    """`golden`: weight in the loss of what a certificate alone vouches for; it promises SSR, not UR."""
    golden_probes: int = Field(32, ge=0, le=256)
    """`golden`: images each of up to four checkpoints of a fit draws; the one the rater prefers most often, and that
    stays diverse enough, is kept. 0 keeps the end of the fit."""
    golden_avoids: bool = False
    """`golden`: also turn away from the worst of the same prompts, where `contrast_beta` says how far; nothing is
    diluted by it, since it learns toward UR alone, but what it turns away from is the rater's choice too."""


def pool_size(settings: NightSettings) -> int:
    """Returns how many images a unit adds to the pool: none."""
    return 0


def draws(turn: Turn) -> list[Draw]:
    """Returns what a unit adds to the pool: nothing."""
    return []


def selection(turn: Turn) -> dict[str, object]:
    """Returns what is asked of SelectImages: every UR, capped by cell, weighed by where it came from."""
    settings = turn.settings.of(GoldenSettings)
    return {
        "policy": "golden",
        "count": max(1, min(settings.select_maximum, turn.pool)),
        "base_share": settings.base_share,
        "quota": settings.golden_quota,
        "duplicate_cosine": settings.duplicate_cosine,
        "sources": list(SOURCES),
        "source_weights": {
            "self": 1.0,
            "imported": 1.0,
            "consented": settings.consented_weight,
            "scraped": settings.scraped_weight,
            "certified": settings.certified_weight,
        },
        "certificates": list(settings.certificates),
        **({"avoid": True} if avoids(settings) else {}),
    }


def verdict(turn: Turn, chosen: Selection, earlier: Sequence[Selection]) -> Alarm | None:
    """Returns why the night ends before this fit: too few UR, or a set that hardly grew since the last one.

    Args:
        turn: the turn.
        chosen: the set.
        earlier: the sets of this system's units before, oldest first, of earlier nights too.
    """
    minimum = turn.settings.of(GoldenSettings).golden_minimum
    if chosen.n < minimum:
        return Alarm("too_few_ur", {"n": chosen.n, "minimum": minimum})
    if earlier and chosen.n < (1 + GROWTH) * earlier[-1].n:
        return Alarm("golden_flat", {"n": chosen.n, "before": earlier[-1].n})
    return None


def certificates(settings: NightSettings) -> tuple[int, ...]:
    """Returns the certified sets whose members enter ungraded."""
    return settings.of(GoldenSettings).certificates


def hyper_parameters(settings: NightSettings) -> base.FitNumbers:
    """Returns the numbers of a fit, which publishes the checkpoints one of which is kept."""
    numbers = base.hyper_parameters(settings)
    return numbers | {"checkpoint_steps": checkpoints.every(settings)} if probes(settings) else numbers


def probes(settings: NightSettings) -> int:
    """Returns the images a unit draws to choose among its checkpoints, the base model's included."""
    return (checkpoints.MOST + 1) * settings.of(GoldenSettings).golden_probes


def settle(night: Night, unit: int, fit: Fit) -> Fit:
    """Returns the fit at the checkpoint that is kept: on few UR the last is often learnt by heart."""
    settings = night.steps.settings.of(GoldenSettings)
    floor = GuardSettings(**night.steps.request.guards).diversity_floor
    return checkpoints.settle(night, unit, fit, settings.golden_probes, floor)


def avoids(settings: NightSettings) -> bool:
    """Says whether its units also turn away from the worst: only where the owner said so for `golden` itself."""
    return settings.contrast_beta > 0 and settings.of(GoldenSettings).golden_avoids


SYSTEM = System(
    "golden",
    N_("Golden"),
    N_("train on UR images only, nothing diluted"),
    draws,
    pool_size,
    selection,
    verdict,
    settings=GoldenSettings,
    grades=("UR",),
    sources=SOURCES,
    certificates=certificates,
    avoids=avoids,
    hyper_parameters=hyper_parameters,
    settle=settle,
    probes=probes,
    rater_chooses=False,
)
