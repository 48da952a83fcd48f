"""A night another version of konomi began, whose steps are not this version's: it ends on the unit that is served.

Recorded results of other steps cannot be gone on with, and repeating finished ones would train a unit twice. So such a
night is halted with a sentence; what it made stays, what it promoted last is served, and a new night builds on that.
"""

from typing import Any

from konomi.guards import Alarm
from konomi.lineage import NightRequest, Nights
from konomi.night_words import sentence
from konomi.recipe import fresh
from konomi.studio import Studio


def halted(nights: Nights, request: NightRequest, studio: Studio) -> dict[str, Any]:
    """Ends a night of another version, durably, and returns its state.

    Args:
        nights: the nights of this home.
        request: of the night.
        studio: says which model is served; a night killed between a promotion and its record does not know.
    """
    state = fresh(request) | nights.read(request.id)
    current = next((model for model in studio.models() if model["current"]), None)
    if current is not None:
        numbers = {one.get("model"): one["unit"] for one in state["units"]}
        state["served"] = {"unit": numbers.get(current["model"], current["unit"]), "model": current["model"]}
    alarm = Alarm("other_version")
    state["state"], state["reason"] = "halted", {"name": alarm.name, "numbers": {}, "sentence": sentence(alarm)}
    nights.write(request.id, state)
    return state
