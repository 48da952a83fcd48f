"""What a night is given when it begins: images it grows from, words it is taught, and prompts that say them.

All of it is frozen in the night's request, so that a resumed night never looks at folders again.
"""

import hashlib
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from konomi import errors
from konomi.i18n.catalogue import N_, text
from konomi.night import budgets
from konomi.night.engine.feasibility import check_settings, check_taste
from konomi.night.gateway.drawing import Source
from konomi.night.gateway.services import NightServices
from konomi.night.guards import GuardSettings
from konomi.night.records.request import NightRequest
from konomi.night.records.store import NightStore
from konomi.night.settings import NightSettings
from konomi.night.systems.base import Stage
from konomi.night.systems.registry import find, night_settings, stages, written
from konomi.taste import prompts as written_prompts


def plain(settings: NightSettings | GuardSettings) -> dict[str, Any]:
    """Returns settings as they are recorded with a night, for its id and digests follow from them.

    The home is left out, which may move; so is a setting younger than nights on disk where it has its default: the same
    words then go on with a night the version before began, and the same seed gives the same digests.
    """
    younger = settings.younger_defaults() if isinstance(settings, NightSettings) else {}
    unchanged = {name for name, default in younger.items() if getattr(settings, name) == default}
    return settings.model_dump(mode="json", exclude={"home", *unchanged})


def new_request(
    system: str,
    taste: str,
    seed: int,
    settings: NightSettings,
    guards: GuardSettings,
    prompts: list[str],
    night: str = "",
) -> NightRequest:
    """Returns the request of a night as asked for; what it lacks is filled in when it begins (`complete_request`).

    Raises:
        InvalidArgument: there is no such system or training method, or its own numbers would halt the night.
    """
    check_settings(settings, guards, stages(system, settings.units))
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
    typed = replace(request, settings=settings.as_typed(request.settings))
    asked = hashlib.sha256((typed.digest() + night).encode()).hexdigest()
    return replace(request, asked=asked)


PROMPTS = 512
"""Prompts taken from the taste's own images where none are given."""


def complete_request(request: NightRequest, session: Source, nights: NightStore) -> NightRequest:
    """Returns the request with everything it needs: seeds and concepts as digests, prompts that call their words.

    Args:
        request: a night as asked for.
        session: the services.
        nights: the nights of this home; a set an earlier one left is gone on with.

    Raises:
        FailedPrecondition: there are no prompts, no image to grow from, or too few graded for the system.
        InvalidArgument: seeds or concepts that cannot be used.
        NotFound: the base model is not on this machine.
    """
    gateway = NightServices(session, request.taste)
    chain = stages(request.system, int(request.settings["units"]))
    systems = {stage.name: stage.system for stage in chain}
    settings = night_settings()(**night_settings().completed(request.settings))
    gateway.require_base(settings.base_model)
    check_taste(gateway, settings, chain)
    written = request.prompts or written_prompts.kept(nights.home, request.taste)
    request = replace(request, prompts=written or gateway.prompts(PROMPTS))
    for name in sorted(systems):
        prepare = systems[name].prepare
        request = request if prepare is None else prepare(gateway, request, nights)
    if not request.prompts:
        message = text(
            "The taste's images carry no prompts, so the night would not know what to draw. Write some down: konomi "
            "taste prompts --suggest takes them from what you liked; or give a file of prompts, one a line, with "
            "--prompts."
        )
        raise errors.FailedPrecondition(message, reason="NO_PROMPTS")
    return replace(request, evaluation_prompts=request.prompts)


class WrittenPlan(NamedTuple):
    """What a night is asked for in writing: its chain of systems, and settings as a plan's file has them."""

    chain: str
    settings: dict[str, Any]


class NightPlan(budgets.Forecast):
    """What a night would make and take: its chain of systems, and the forecast."""

    system: str


def read_plan(path: Path) -> WrittenPlan:
    """Returns the chain of a plan and its night settings.

    A plan holds one `[[stage]]` a stage, with `system` and `units`, and may hold a `[night]` table.

    Raises:
        InvalidArgument: the file cannot be read, is no TOML, or holds something else.
    """
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(path, error) from error
    listed, settings = plan.pop("stage", []), plan.pop("night", {})
    if plan or not isinstance(listed, list) or not listed or not isinstance(settings, dict):
        raise _wrong(path, text("expected [[stage]] tables and at most a [night] table"))
    if "units" in settings:
        raise _wrong(path, text("units belong to the stages"))
    return WrittenPlan(written([_stage(path, entry) for entry in listed]), settings)


def chain_of(asked: str) -> WrittenPlan:
    """Returns the chain and the settings of what was asked for: a system, a chain, or the path of a plan."""
    return read_plan(Path(asked)) if asked.endswith(".toml") else WrittenPlan(asked, {})


def units_of(chain: str) -> int | None:
    """Returns how many units a chain makes, None where it is one system and does not say."""
    return sum(stage.units for stage in stages(chain, 0)) or None


def settings_of(home: Path, system: str, **options: Any) -> tuple[str, NightSettings]:
    """Returns the chain of systems and the settings of a night: the home's, the plan's, then those that are given.

    Raises:
        InvalidArgument: a setting cannot be used, or the units are said twice.
    """
    chain, planned = chain_of(system)
    units = units_of(chain)
    if units is not None and options.get("units") not in (None, units):
        raise errors.InvalidArgument(text("the stages say how many units the night makes; leave --units out"))
    given = {name: value for name, value in options.items() if value is not None}
    with _settings_of_the_owner(N_("the night setting {name} cannot be used: {why}")):
        return chain, night_settings()(home=home, **planned | ({"units": units} if units else {}) | given)


def guards_of(home: Path) -> GuardSettings:
    """Returns the limits of the guards in a home.

    Raises:
        InvalidArgument: one cannot be used.
    """
    with _settings_of_the_owner(N_("the guard setting {name} cannot be used: {why}")):
        return GuardSettings(home=home)


@contextmanager
def _settings_of_the_owner(sentence: str) -> Iterator[None]:
    """Says in a sentence, with `{name}` and `{why}`, which setting of konomi.toml or the environment is wrong."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        words = text(sentence, name=".".join(map(str, first["loc"])), why=first["msg"])
        raise errors.InvalidArgument(words, field="settings") from error


def plan_of(home: Path, system: str, **options: Any) -> NightPlan:
    """Returns what a night would make and take.

    Args:
        home: the home folder.
        system: a system, a chain, or the path of a plan.
        options: night settings by name; None leaves one as it is.

    Raises:
        InvalidArgument: it is no night that could be begun.
    """
    chain, settings = settings_of(home, system, **options)
    new_request(chain, "tastes/default", 0, settings, guards_of(home), [])
    rates, image_bytes = budgets.measured(NightStore(home), settings.base_model), budgets.mean_bytes(home / "artifacts")
    return NightPlan(system=chain, **dict(budgets.forecast(settings, rates, image_bytes, chain)))


def _stage(path: Path, entry: Any) -> Stage:
    units = entry.get("units") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or set(entry) != {"system", "units"} or not isinstance(units, int) or units < 1:
        raise _wrong(path, text("a [[stage]] has system and units, 1 or more"))
    return Stage(find(str(entry["system"]).strip()), units)


def _wrong(path: Path, why: object) -> errors.InvalidArgument:
    return errors.InvalidArgument(
        text("the plan {path} cannot be used: {why}", path=path.name, why=why), field="system"
    )
