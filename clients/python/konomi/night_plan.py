"""A night's plan as a small TOML file: stages in their order, and night settings that hold for all of them."""

import tomllib
from pathlib import Path
from typing import Any

from konomi import errors
from konomi.messages import text
from konomi.systems.chain import Stage, stages, written


def read_plan(path: Path) -> tuple[str, dict[str, Any]]:
    """Returns the chain of a plan and its night settings.

    A plan holds one `[[stage]]` a stage, with `system` and `units`, and may hold a `[night]` table.

    Raises:
        InvalidArgument: the file cannot be read, is no TOML, or holds something else.
    """
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(path, error) from error
    listed, settings = plan.pop("stage", []), plan.pop("night", {})
    if plan or not isinstance(listed, list) or not listed or not isinstance(settings, dict):
        raise _wrong(path, text("expected [[stage]] tables and at most a [night] table"))
    if "units" in settings:
        raise _wrong(path, text("units belong to the stages"))
    return written([_stage(path, one) for one in listed]), settings


def chain_of(asked: str) -> tuple[str, dict[str, Any]]:
    """Returns the chain and the settings of what was asked for: a system, a chain, or the path of a plan."""
    return read_plan(Path(asked)) if asked.endswith(".toml") else (asked, {})


def units_of(chain: str) -> int | None:
    """Returns how many units a chain makes, None where it is one system and does not say."""
    found = stages(chain, 0)
    return sum(stage.units for stage in found) or None


def _stage(path: Path, one: Any) -> Stage:
    units = one.get("units") if isinstance(one, dict) else None
    if not isinstance(one, dict) or set(one) != {"system", "units"} or not isinstance(units, int) or units < 1:
        raise _wrong(path, text("a [[stage]] has system and units, 1 or more"))
    return Stage(str(one["system"]), units)


def _wrong(path: Path, why: object) -> errors.InvalidArgument:
    return errors.InvalidArgument(
        text("the plan {path} cannot be used: {why}", path=path.name, why=why), field="system"
    )
