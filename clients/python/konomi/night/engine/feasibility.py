"""Whether a night can come to its morning by its own numbers; where not, it is refused with the number that works.

What a night can fill in by itself, such as images of the base model for their share, is no reason to refuse it.
"""

from collections.abc import Sequence

from konomi import errors
from konomi.i18n.catalogue import listing, text, translatable
from konomi.night.alarms import percent
from konomi.night.gateway.messages import TasteState
from konomi.night.gateway.services import METHODS, NightServices
from konomi.night.guards import WHOLE_IMAGES, GuardSettings
from konomi.night.settings import NightSettings
from konomi.night.systems import golden
from konomi.night.systems.base import Stage, draw_choose_fit

FIRST_GRADES = 30
"""Grades from which on a first night is worth its hours."""


def check_settings(settings: NightSettings, guards: GuardSettings, chain: Sequence[Stage]) -> None:
    """Raises where settings alone would halt a night.

    Raises:
        InvalidArgument: more units than one night may make, an unknown method, fewer base images than a guard wants, or
            a step length for systems that turn away from nothing.
    """
    _check_units(settings.units, guards.units_per_night)
    _check_method(settings.method)
    if settings.contrast_beta and not any(stage.system.avoids(settings) for stage in chain):
        raise _turns_away_from_nothing(chain)
    if any(stage.system.run_unit is draw_choose_fit for stage in chain):
        _check_base_share(settings.base_share, guards)


def _turns_away_from_nothing(chain: Sequence[Stage]) -> errors.InvalidArgument:
    names = [stage.name for stage in chain]
    if golden.SYSTEM.name in names:
        message = text(
            "golden learns from UR alone and turns away from nothing unless golden_avoids is true in the [night] table "
            "of konomi.toml; set it, or leave contrast_beta at 0."
        )
    else:
        message = text(
            "contrast_beta is for converge and longtail, and for golden with golden_avoids; {systems} turns away from "
            "nothing. Leave it at 0.",
            systems=listing(names),
        )
    return errors.InvalidArgument(message, reason="CONTRAST_UNUSED", field="contrast_beta")


def check_taste(gateway: NightServices, settings: NightSettings, chain: Sequence[Stage]) -> None:
    """Raises where a night of a taste could make no unit at all.

    Raises:
        FailedPrecondition: it is `golden` alone, and too few images are graded UR.
    """
    if any(stage.system is not golden.SYSTEM for stage in chain):
        return
    own = settings.of(golden.GoldenSettings)
    if own.certificates or (count := gateway.count(("UR",), golden.SOURCES)) >= own.golden_minimum:
        return
    message = text(
        "golden needs {minimum} images graded UR, and {count} are; grade {missing} more UR, or choose converge, which "
        "learns from SSR too.",
        minimum=own.golden_minimum,
        count=count,
        missing=own.golden_minimum - count,
    )
    raise errors.FailedPrecondition(message, reason="TOO_FEW_UR", field="system")


def check_rater(taste: str, state: TasteState) -> None:
    """Raises FailedPrecondition where a taste was never fitted on: it lacks grades, or only the fit."""
    if state.rater_version:
        return
    labels = state.labels
    if labels >= FIRST_GRADES:
        message = translatable(
            "{taste} has no rater yet, though {labels} images are graded: konomi rater fit learns from them.",
            taste=taste,
            labels=labels,
        )
    else:
        message = translatable(
            "{taste} has no rater yet: {labels} images are graded, and a first night wants {wanted}. "
            "Grade {missing} more (konomi label), then konomi rater fit.",
            taste=taste,
            labels=labels,
            wanted=FIRST_GRADES,
            missing=FIRST_GRADES - labels,
        )
    raise errors.FailedPrecondition(message, reason="NO_RATER")


def _check_units(units: int, most: int) -> None:
    if units > most:
        message = text(
            "A night makes at most {most} units without a person looking, {asked} were asked for; "
            "ask for fewer, or raise units_per_night in the [guards] table of konomi.toml.",
            most=most,
            asked=units,
        )
        raise errors.InvalidArgument(message, reason="TOO_MANY_UNITS", field="units")


def _check_method(method: str) -> None:
    if method not in METHODS:
        message = text(
            "Expected one of {methods} as the method of a fit, got {got!r}; "
            "correct method in the [night] table of konomi.toml.",
            methods=listing(METHODS),
            got=method,
        )
        raise errors.InvalidArgument(message, reason="METHOD_UNKNOWN", field="method")


def _check_base_share(share: float, guards: GuardSettings) -> None:
    if share < guards.base_share - WHOLE_IMAGES and "base_share" not in guards.off:
        message = text(
            "base_share in the [night] table of konomi.toml is {share}, and the guard halts every night below {floor}; "
            "set it to {number:g}, or lower base_share in the [guards] table.",
            share=percent(share),
            floor=percent(guards.base_share),
            number=guards.base_share,
        )
        raise errors.InvalidArgument(message, reason="BASE_SHARE", field="base_share")
