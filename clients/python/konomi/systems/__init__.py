"""The systems a night can run: one module each, one line in the table."""

from konomi import errors
from konomi.systems import concepts, converge, golden, longtail, propagate
from konomi.systems.system import System

SYSTEMS: dict[str, System] = {
    "converge": converge.SYSTEM,
    "golden": golden.SYSTEM,
    "longtail": longtail.SYSTEM,
    "propagate": propagate.SYSTEM,
    "concepts": concepts.SYSTEM,
}
"""Name to system."""


def find(name: str) -> System:
    """Returns a system.

    Raises:
        InvalidArgument: there is no system of that name.
    """
    if name in SYSTEMS:
        return SYSTEMS[name]
    message = f"There is no system {name!r}; this version runs: {', '.join(sorted(SYSTEMS))}."
    raise errors.InvalidArgument(message, reason="SYSTEM_UNKNOWN", field="system")
