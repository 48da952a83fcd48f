"""The systems a night can run: one module each, one line in the table."""

from dataclasses import dataclass

from konomi import errors
from konomi.night.systems import converge, golden, longtail
from konomi.night.systems.base import System
from konomi.night.systems.concepts import policy
from konomi.night.systems.propagate import policy as propagate

SYSTEMS: dict[str, System] = {
    "converge": converge.SYSTEM,
    "golden": golden.SYSTEM,
    "longtail": longtail.SYSTEM,
    "propagate": propagate.SYSTEM,
    "concepts": policy.SYSTEM,
}
"""Name to system."""


@dataclass(frozen=True)
class Stage:
    """One part of a night.

    Attributes:
        name: name of the system.
        units: units it makes, 1 or more.
        number: place in the night, from 0.
    """

    name: str
    units: int
    number: int = 0

    @property
    def system(self) -> System:
        """The system it runs."""
        return find(self.name)


def find(name: str) -> System:
    """Returns a system.

    Raises:
        InvalidArgument: there is no system of that name.
    """
    if name in SYSTEMS:
        return SYSTEMS[name]
    message = f"There is no system {name!r}; this version runs: {', '.join(sorted(SYSTEMS))}."
    raise errors.InvalidArgument(message, reason="SYSTEM_UNKNOWN", field="system")


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
        find(chain)
        return [Stage(chain, units)]
    found = []
    for number, part in enumerate(parts):
        name, _, count = part.partition(":")
        find(name.strip())
        if not count.strip().isdecimal() or int(count) < 1:
            message = f'Expected stages as "longtail:2+golden:1", each with its units, got {part!r} in {chain!r}.'
            raise errors.InvalidArgument(message, reason="CHAIN_MALFORMED", field="system")
        found.append(Stage(name.strip(), int(count), number))
    return found


def written(found: list[Stage]) -> str:
    """Returns stages as a chain."""
    return "+".join(f"{stage.name}:{stage.units}" for stage in found)
