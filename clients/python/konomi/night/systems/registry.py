"""The systems a night can run: one module each, one line in the table; and the settings of all of them as one class."""

import types
from functools import cache

from konomi import errors
from konomi.i18n.catalogue import listing, text
from konomi.night.settings import NightSettings
from konomi.night.systems import concepts, converge, golden, longtail, propagate
from konomi.night.systems.base import Stage, System

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        converge.SYSTEM,
        golden.SYSTEM,
        longtail.SYSTEM,
        propagate.SYSTEM,
        concepts.SYSTEM,
    )
}
"""Name to system."""


def find(name: str) -> System:
    """Returns a system.

    Raises:
        InvalidArgument: there is no system of that name.
    """
    if name in SYSTEMS:
        return SYSTEMS[name]
    names = listing(sorted(SYSTEMS))
    message = text("There is no system {name!r}; this version runs: {known}.", name=name, known=names)
    raise errors.InvalidArgument(message, reason="SYSTEM_UNKNOWN", field="system")


def night_settings() -> type[NightSettings]:
    """Returns the settings of a night: what all systems share and what each alone is told, as one flat class.

    Raises:
        TypeError: two systems name a setting alike, or one changes a shared one.
    """
    return _joined(tuple(dict.fromkeys(system.settings for system in SYSTEMS.values())))


@cache
def _joined(parts: tuple[type[NightSettings], ...]) -> type[NightSettings]:
    owners: dict[str, type[NightSettings]] = {}
    for part in dict.fromkeys(base for kind in parts for base in kind.parts()):
        for name in part.own_names():
            other = owners.setdefault(name, part)
            if other is not part:
                raise TypeError(f"expected one class to have the setting {name}, got {other} and {part}; rename one")
    bases = tuple(part for part in parts if not any(other is not part and issubclass(other, part) for other in parts))
    about = {"__module__": __name__, "__doc__": NightSettings.__doc__}
    joined: type[NightSettings] = types.new_class(
        "NightSettings", bases or (NightSettings,), exec_body=lambda body: body.update(about)
    )
    return joined


def stages(chain: str, units: int) -> list[Stage]:
    """Returns the stages of a chain.

    Args:
        chain: name of a system, or several joined by "+", each with ":" and its number of units.
        units: units of the night, for a chain that is one bare name.

    Raises:
        InvalidArgument: there is no system of a name, or a number of units is missing or none.
    """
    parts = chain.split("+")
    if len(parts) == 1 and ":" not in chain:
        return [Stage(find(chain), units)]
    parsed = []
    for number, part in enumerate(parts):
        name, _, count = part.partition(":")
        system = find(name.strip())
        if not count.strip().isdecimal() or int(count) < 1:
            message = text(
                'Expected stages as "longtail:2+golden:1", each with its units, got {part!r} in {chain!r}.',
                part=part,
                chain=chain,
            )
            raise errors.InvalidArgument(message, reason="CHAIN_MALFORMED", field="system")
        parsed.append(Stage(system, int(count), number))
    return parsed


def written(chain: list[Stage]) -> str:
    """Returns stages as a chain."""
    return "+".join(f"{stage.name}:{stage.units}" for stage in chain)
