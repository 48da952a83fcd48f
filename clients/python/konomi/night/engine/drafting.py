"""The steps of a pool that is drawn as drafts: draw them, rate them, draw the best again in full."""

from collections.abc import Sequence
from typing import Any, Protocol

from konomi import errors
from konomi.night import drafts
from konomi.night.draws import Draw, Turn, UnitContext
from konomi.night.gateway.drawing import Beat
from konomi.night.gateway.services import NightServices
from konomi.night.records.fit import Model
from konomi.night.records.state import DraftRating, Images
from konomi.night.settings import NightSettings
from konomi.night.systems import registry


class Drafting(Protocol):
    """What these steps need of the others."""

    gateway: NightServices
    settings: NightSettings
    beat: Beat
    places: int

    def turn(self, context: UnitContext, **fields: Any) -> Turn:
        """Returns the turn of the loop as a system sees it."""


def drafts_wanted(gateway: NightServices, settings: NightSettings) -> bool:
    """Says whether a night draws its pools as drafts first.

    A base model of few steps draws in full as quickly, so it needs none.

    Raises:
        FailedPrecondition: drafts are asked for, and the base model has no few-step adapter.
    """
    if settings.draft == "off":
        return False
    ways = gateway.drafts(settings.base_model)
    if ways.missing and settings.draft == "on":
        raise errors.FailedPrecondition(ways.missing, reason="DRAFT_ADAPTER_MISSING")
    return bool(ways.adapter)


def draw_drafts(steps: Drafting, context: UnitContext, served: Model | None, first: int, last: int) -> Images:
    """Makes drafts `first` to `last` - 1 of a unit's pool; the taste is not told of them."""
    pool = _pool(steps, context, served)[first:last]
    digests = [""] * len(pool)
    for model, places in _groups(pool, served):
        drawn = steps.gateway.generate([pool[n] for n in places], model, steps.settings, steps.beat, draft=True)
        for place, digest in zip(places, drawn, strict=True):
            digests[place] = digest
    return Images(digests=tuple(digests), images=len(digests))


def rate_drafts(steps: Drafting, context: UnitContext, served: Model | None, digests: Sequence[str]) -> DraftRating:
    """Rates the drafts of a unit's pool and says which are drawn again.

    Args:
        steps: the night's steps.
        context: the unit.
        served: the model that made them, None for the base model.
        digests: the drafts, in the order of the pool.
    """
    scores = steps.gateway.score(digests)
    bounds = [score.lower_bound for score in scores]
    choice = drafts.choose(_pool(steps, context, served), bounds, steps.turn(context))
    return DraftRating(places=choice.places, nats=choice.nats, considered=len(digests))


def draw_again(
    steps: Drafting, context: UnitContext, served: Model | None, places: Sequence[int], drafted: Sequence[str]
) -> Images:
    """Draws some of a unit's pool in full and makes them known to the taste.

    Args:
        steps: the night's steps.
        context: the unit.
        served: the model that makes them, None for the base model.
        places: their places in the pool.
        drafted: the digests of their drafts.
    """
    pool = _pool(steps, context, served)
    chosen, refused = [pool[place] for place in places], 0
    digests = [""] * len(chosen)
    for model, group in _groups(chosen, served):
        draws, names = [chosen[n] for n in group], [drafted[n] for n in group]
        made, not_taken = steps.gateway.generate_known(
            draws, model, steps.settings, steps.beat, drafts=names, meanwhile=steps.places > 1
        )
        refused += not_taken
        for place, digest in zip(group, made, strict=True):
            digests[place] = digest
    return Images(digests=tuple(digests), refused=refused, images=len(digests), drafts=tuple(drafted))


def _pool(steps: Drafting, context: UnitContext, served: Model | None) -> list[Draw]:
    """Returns a unit's pool: with a model served, some of it is that model's."""
    return registry.find(context.system).draws(steps.turn(context, served_is_base=served is None))


def _groups(draws: Sequence[Draw], served: Model | None) -> list[tuple[Model | None, list[int]]]:
    """Returns the places of draws that one request can make, each with the model that makes them."""
    kinds = [("served", served, False), ("served", served, True), ("base", None, False), ("base", None, True)]
    groups = [
        (model, [place for place, draw in enumerate(draws) if (draw.origin, draw.rare) == (origin, rare)])
        for origin, model, rare in kinds
    ]
    return [(model, places) for model, places in groups if places]
