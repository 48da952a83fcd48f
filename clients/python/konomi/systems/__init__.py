"""The systems a night can run: one module each, one line in the table."""

from konomi import errors
from konomi.systems import converge, golden, longtail
from konomi.systems.system import System

SYSTEMS: dict[str, System] = {"converge": converge.SYSTEM, "golden": golden.SYSTEM, "longtail": longtail.SYSTEM}
"""Name to system."""

ANNOUNCED = ("propagate", "concepts")
"""Systems konomi has a name for and does not run yet."""


def find(name: str) -> System:
    """Returns a system.

    Raises:
        Unimplemented: the system is announced but not built.
        InvalidArgument: there is no system of that name.
    """
    there = ", ".join(sorted(SYSTEMS))
    if name in SYSTEMS:
        return SYSTEMS[name]
    if name in ANNOUNCED:
        message = f"The system {name!r} is not built yet; this version runs: {there}."
        raise errors.Unimplemented(message, reason="SYSTEM_NOT_BUILT")
    message = f"There is no system {name!r}; this version runs: {there}."
    raise errors.InvalidArgument(message, reason="SYSTEM_UNKNOWN", field="system")
