"""The noise of flow matching: a straight line from an image to noise, along which the network answers the velocity.

Lipman et al. 2022 (2210.02747), Liu et al. 2022 (2209.03003): x_s = (1 - s) x_0 + s eps, v = eps - x_0. Times of a
training step are logit-normal, and larger images see more noise: Esser et al. 2024 (2403.03206), sections 3.1 and
5.3.2, with the shift s' = e^m s / (1 + (e^m - 1) s) and m linear in the tokens of an image, as diffusers has it.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class ShiftByTokens:
    """How m of the shift grows: linear from (fewest tokens, least m) through (most tokens, largest m)."""

    fewest: int = 256
    most: int = 4096
    least: float = 0.5
    largest: float = 1.15

    def at(self, tokens: int) -> float:
        """Returns m for an image of so many tokens."""
        slope = (self.largest - self.least) / (self.most - self.fewest)
        return tokens * slope + (self.least - slope * self.fewest)


@dataclass(frozen=True)
class FlowPath:
    """The noise of one scheduler; see NoisePath. Times are s times `length`, whole numbers or not.

    Attributes:
        sigmas: (T,) float32 s of the times a training step may draw, falling.
        shift: by the size of an image; None where every size has the scheduler's own.
        cells: of a latent that are one token.
        spaced: whether the pipelines of the family space s evenly from 1 and leave nothing to the scheduler but shift.
        single: whether they do that in single precision.
    """

    sigmas: torch.Tensor
    shift: ShiftByTokens | None = None
    cells: int = 4
    spaced: bool = False
    single: bool = False

    @classmethod
    def of(
        cls,
        scheduler: Any,
        device: torch.device | None = None,
        *,
        cells: int = 4,
        spaced: bool = False,
        single: bool = False,
    ) -> "FlowPath":
        """Returns the noise a FlowMatchEulerDiscreteScheduler works with, whatever steps it has now."""
        config = scheduler.config
        numbers = (config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift)
        shift = ShiftByTokens(*numbers) if config.use_dynamic_shifting else None
        trained = type(scheduler).from_config(config).sigmas[: config.num_train_timesteps]
        return cls(trained.to(device or trained.device, torch.float32), shift, cells, spaced, single)

    @property
    def length(self) -> int:
        """T."""
        return len(self.sigmas)

    def draw(self, rng: np.random.Generator, count: int, cells: int) -> torch.Tensor:
        """Returns (count,) times, logit-normal with mean 0 and spread 1, shifted by the size of the latents."""
        share = torch.from_numpy(rng.standard_normal(count, np.float32)).sigmoid()
        sigmas = self.sigmas.cpu()[(share * self.length).long()]
        return self._shifted(sigmas, cells) * self.length

    def at(self, share: float) -> torch.Tensor:
        """Returns the time a share of all times come before."""
        return self.sigmas.cpu().flip(0)[int(share * self.length)] * self.length

    def noisy(self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Returns x_s."""
        s = (times / self.length).view(-1, 1, 1, 1)
        return (1 - s) * latents + s * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Returns the velocity eps - x_0, the same at all times."""
        return noise - latents

    def clean(self, seen: torch.Tensor, answer: torch.Tensor, time: Any) -> torch.Tensor:
        """Returns x_0 = x_s - s v."""
        return seen - float(time) / self.length * answer

    def weight(self, times: torch.Tensor, gamma: float) -> torch.Tensor:
        """Returns 1 for every row: min-SNR is for epsilon and v, here the times are drawn unevenly instead."""
        return torch.ones_like(times, dtype=torch.float32)

    def timesteps(self, scheduler: Any, steps: int, device: torch.device, cells: int) -> torch.Tensor:
        """Spaces so many steps as the family's pipelines do, shifted by the size of the latents."""
        shift = {} if self.shift is None else {"mu": self.shift.at(cells // self.cells)}
        if self.spaced:
            even = torch.linspace(1.0, 1 / steps, steps).tolist() if self.single else np.linspace(1.0, 1 / steps, steps)
            scheduler.set_timesteps(sigmas=even, device=device, **shift)
        else:
            scheduler.set_timesteps(steps, device=device, **shift)
        timesteps: torch.Tensor = scheduler.timesteps
        return timesteps

    def steps_run(self, steps: int, strength: float) -> int:
        """Returns the steps of a strength, a step that is begun counted whole."""
        return steps - int(max(steps - min(steps * strength, steps), 0))

    def begin(self, scheduler: Any, noise: torch.Tensor, latents: torch.Tensor | None, time: Any) -> torch.Tensor:
        """Returns noise alone, or latents with as much of it as (B,) times have."""
        if latents is None:
            return noise
        start: torch.Tensor = scheduler.scale_noise(latents, time, noise)
        return start

    def scaled(self, scheduler: Any, latents: torch.Tensor, time: Any) -> torch.Tensor:
        """Returns the latents as they are."""
        return latents

    def _shifted(self, sigmas: torch.Tensor, cells: int) -> torch.Tensor:
        if self.shift is None:
            return sigmas
        factor = math.exp(self.shift.at(cells // self.cells))
        return factor * sigmas / (1 + (factor - 1) * sigmas)
