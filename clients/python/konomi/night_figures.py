"""Figures of a night's sentences, told with as many digits as it takes to be on their own side of a bound."""

from collections.abc import Mapping
from typing import Any

BOUNDS = ("floor", "limit")
"""Numbers of an alarm that the others are held against."""
MOST_DIGITS = 6


class Apart(float):
    """A number that reads like its bound only where six digits do not tell them apart: 64.6 %, the floor being 65 %."""

    bound: float

    def __new__(cls, value: float, bound: float) -> "Apart":
        """Takes the number and what it is held against."""
        made = super().__new__(cls, value)
        made.bound = bound
        return made

    def __format__(self, spec: str) -> str:
        """Formats like any number, with the digits of the spec or as many more as are needed."""
        head, point, tail = spec.partition(".")
        if not point or not tail[:-1].isdecimal():
            return format(float(self), spec)
        digits = int(tail[:-1])
        for more in range(digits, MOST_DIGITS + 1):
            told = f"{head}.{more}{tail[-1]}"
            if format(float(self), told) != format(self.bound, told):
                return format(float(self), told)
        return format(float(self), spec)


def apart(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an alarm's numbers so that none of them is rounded onto its floor or limit."""
    bound = next((numbers[name] for name in BOUNDS if isinstance(numbers.get(name), int | float)), None)
    if bound is None:
        return dict(numbers)
    return {
        name: Apart(value, bound) if isinstance(value, float) and name not in BOUNDS else value
        for name, value in numbers.items()
    }
