"""A system that is not part of konomi: one file, its settings inside, and one entry in the registry."""

from pydantic import Field

from konomi.night.alarms import Alarm
from konomi.night.draws import Draw, image_seed
from konomi.night.settings import NightSettings
from konomi.night.systems import registry
from konomi.night.systems.base import System


class ToySettings(NightSettings):
    """What the toy alone is told."""

    toy_share: float = Field(0.5, gt=0, le=1)
    """Share of what converge makes that it makes."""


def pool_size(settings):
    """A share of what converge makes."""
    return round(settings.images * settings.of(ToySettings).toy_share)


def draws(turn):
    """Every image shows a hat, made by the unit served."""
    origin = "base" if turn.served_is_base else "served"
    prompts = [f"{prompt}, hat" for prompt in turn.prompts]
    return [
        Draw(prompts[place % len(prompts)], image_seed(turn.seed, f"toy-{turn.unit}", place), origin)
        for place in range(pool_size(turn.settings))
    ]


def selection(turn):
    """Half of the pool."""
    return {"policy": "converge", "count": max(1, turn.pool // 2), "base_share": turn.settings.base_share}


def verdict(turn, chosen, earlier):
    """Two units are enough."""
    return Alarm("units", {"units": len(earlier)}) if len(earlier) == 2 else None


SYSTEM = System("toy", "Toy", "everything wears a hat", draws, pool_size, selection, verdict, settings=ToySettings)


def register():
    """Makes the one entry; called in the process that runs the night."""
    registry.SYSTEMS[SYSTEM.name] = SYSTEM
