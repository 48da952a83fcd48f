"""Runs one night in this process, from its request to its report."""

import hashlib
import importlib
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic import ValidationError

from konomi import errors, extras
from konomi.crew import Crew
from konomi.guards import GuardSettings
from konomi.lineage import NightRequest, Nights
from konomi.night_settings import NightSettings
from konomi.night_view import View
from konomi.studio import Studio
from konomi.systems.chain import stages


def plain(settings: NightSettings | GuardSettings) -> dict[str, Any]:
    """Returns settings as they are recorded with a night: everything but the home, which may move."""
    return settings.model_dump(mode="json", exclude={"home"})


def wanted(
    system: str,
    taste: str,
    seed: int,
    settings: NightSettings,
    guards: GuardSettings,
    prompts: list[str],
    night: str = "",
) -> NightRequest:
    """Returns the request of a night as asked for; what it lacks is filled in when it begins (night_begin.py).

    Raises:
        InvalidArgument: there is no such system, or more units are wanted than one night may make.
    """
    stages(system, settings.units)
    if settings.units > guards.units_per_night:
        message = (
            f"A night makes at most {guards.units_per_night} units without a person looking, {settings.units} were "
            "asked for; ask for fewer, or raise units_per_night in the [guards] table of konomi.toml."
        )
        raise errors.InvalidArgument(message, reason="TOO_MANY_UNITS", field="units")
    request = NightRequest(
        id=night,
        asked="",
        taste=taste,
        system=system,
        seed=seed,
        prompts=prompts,
        evaluation_prompts=prompts,
        settings=plain(settings),
        guards=plain(guards),
    )
    asked = hashlib.sha256((request.digest() + night).encode()).hexdigest()
    return NightRequest(**{**vars(request), "asked": asked})


def read_ahead() -> threading.Thread:
    """Starts to read the workflow's code, which takes as long as small services take to start; join it before `run`."""

    def read() -> None:
        with suppress(ImportError):  # `run` says what is missing
            importlib.import_module("konomi.overnight")

    reader = threading.Thread(target=read, name="read-ahead", daemon=True)
    reader.start()
    return reader


def run(nights: Nights, request: NightRequest, crew: Crew, stopped: Callable[[], bool], view: View) -> dict[str, Any]:
    """Runs a night, or goes on with it, and returns its state.

    Raises:
        KonomiError: it was interrupted; the same call goes on later.
    """
    extras.require("overnight")
    from konomi import hindsight, upgraded
    from konomi.night_steps import NightSteps
    from konomi.overnight import Overnight

    nights.forget_stop(request.id)
    studio = Studio(crew, request.taste, request.id)
    try:
        steps = NightSteps(studio, request, view.beat, partial(hindsight.audits, nights, request.taste))
    except ValidationError:
        return upgraded.halted(nights, request, studio)
    return Overnight(nights, steps, lambda: stopped() or nights.stop_asked(request.id)).run(crew)
