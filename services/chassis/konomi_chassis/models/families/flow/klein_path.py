"""The noise of FLUX.2: a flow whose shift also falls with the number of steps, and which is drawn patch by patch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from konomi_chassis.models.families import packing
from konomi_chassis.models.families.flow.flow_path import FlowPath

FEW, MANY = 10, 200
"""Steps for which the shift was fitted, as diffusers has FLUX.2's: a line in the tokens of an image for each."""
FEW_LINE, MANY_LINE = (8.73809524e-05, 1.89833333), (0.00016927, 0.45666666)
LARGE = 4300
"""Tokens above which the line for many steps holds whatever the steps."""


def shift_for(tokens: int, steps: int) -> float:
    """Returns m of the shift for an image of so many tokens in so many steps: between both lines, and beyond them."""
    many = MANY_LINE[0] * tokens + MANY_LINE[1]
    if tokens > LARGE:
        return many
    few = FEW_LINE[0] * tokens + FEW_LINE[1]
    slope = (many - few) / float(MANY - FEW)
    return slope * steps + (many - float(MANY) * slope)


@dataclass(frozen=True)
class KleinPath(FlowPath):
    """See FlowPath; a training step's times are shifted as for many steps."""

    def timesteps(self, scheduler: Any, steps: int, device: torch.device, cells: int) -> torch.Tensor:
        """Spaces so many steps, shifted by the size of the latents and the number of steps."""
        sigmas = np.linspace(1.0, 1 / steps, steps)
        scheduler.set_timesteps(sigmas=sigmas, device=device, mu=shift_for(cells // self.cells, steps))
        timesteps: torch.Tensor = scheduler.timesteps
        return timesteps

    def begin(self, scheduler: Any, noise: torch.Tensor, latents: torch.Tensor | None, time: Any) -> torch.Tensor:
        """Returns noise, or latents with some; its numbers are taken patch by patch, as they are drawn there."""
        count, channels, height, width = noise.shape
        patches = noise.reshape(count, self.cells * channels, height // 2, width // 2)
        return super().begin(scheduler, packing.unpatched(patches), latents, time)
