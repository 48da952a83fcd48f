"""The systems a night can run: one module each, one line in the table."""

from types import ModuleType

from konomi import errors
from konomi.systems import converge, golden, longtail

SYSTEMS: dict[str, ModuleType] = {"converge": converge, "golden": golden, "longtail": longtail}
"""Name to module; each offers what `converge` lists in its __all__."""

ANNOUNCED = ("propagate", "concepts")
"""Systems konomi has a name for and does not run yet."""


def system(name: str) -> ModuleType:
    """Returns the module of a system.

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
