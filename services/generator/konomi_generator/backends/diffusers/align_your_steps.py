"""Align Your Steps: noise levels that were optimised for a family of models, for any number of steps.

Sabour et al. 2024, 2404.14507. Published are the levels of ten steps; those of other numbers lie between them, linear
in their logarithms (the authors' way). The last step goes to no noise at all. A scheduler that takes levels gets
them; one that takes timesteps gets the nearest ones.
"""

from collections.abc import Sequence

import numpy as np

SMALLEST = 0.029
"""The last of the published levels, where diffusers' table has the zero that follows it."""


def noise_levels(published: Sequence[float], steps: int) -> list[float]:
    """Returns the levels of so many steps, falling, steps + 1 of them; the last is 0.

    Args:
        published: the levels of ten steps, 11 of them, the last 0.
        steps: 1 or more.
    """
    known = np.log([*published[:-1], SMALLEST])
    places = np.linspace(0, 1, steps + 1)
    levels = np.exp(np.interp(places, np.linspace(0, 1, len(known)), known))
    return [*(float(level) for level in levels[:-1]), 0.0]


def timesteps_at(levels: Sequence[float], trained: np.ndarray) -> list[int]:
    """Returns the timesteps nearest to noise levels, falling and each another.

    Args:
        levels: falling; the last, 0, has none.
        trained: (T,) noise levels of the model's timesteps, rising.
    """
    exact = np.interp(np.log(levels[:-1]), np.log(trained), np.arange(len(trained)))
    chosen = [round(float(step)) for step in exact]
    for place in range(len(chosen) - 2, -1, -1):  # many steps crowd at the end, where whole numbers are few
        chosen[place] = max(chosen[place], chosen[place + 1] + 1)
    return chosen
