"""The noise of models trained on the steps of a fixed schedule, which answer the noise, v, or the image itself.

Ho et al. 2020 (epsilon), Salimans and Ho 2022 (v-prediction), Hang et al. 2023 (min-SNR weighting, eq. 8). With
a_t the cumulative products of the schedule, x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from konomi.errors import FailedPrecondition

PREDICTIONS = ("epsilon", "v_prediction")
"""What a network that is trained may answer."""


@dataclass(frozen=True)
class DiscretePath:
    """The noise of one schedule; see NoisePath. Times are whole numbers from 0 to T - 1.

    Attributes:
        alphas: (T,) a_t, in the number format the schedule has; the last is 0 at zero terminal SNR.
        prediction: "epsilon", "v_prediction" or "sample".
    """

    alphas: torch.Tensor
    prediction: str

    @classmethod
    def of(cls, scheduler: Any, device: torch.device | None = None) -> "DiscretePath":
        """Returns the noise a scheduler of diffusers works with."""
        alphas = scheduler.alphas_cumprod
        return cls(alphas if device is None else alphas.float().to(device), str(scheduler.config.prediction_type))

    @property
    def length(self) -> int:
        """T."""
        return len(self.alphas)

    def draw(self, rng: np.random.Generator, count: int, cells: int) -> torch.Tensor:
        """Returns (count,) times, each as likely as any other."""
        return torch.from_numpy(rng.integers(0, self.length, count))

    def at(self, share: float) -> torch.Tensor:
        """Returns the time a share of all times come before."""
        return torch.tensor(int(share * self.length))

    def noisy(self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Returns x_t."""
        return add_noise(latents, noise, self.alphas[times])

    def target(self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Returns eps or v. Raises FailedPrecondition where the network answers something else."""
        return target(self.prediction, latents, noise, self.alphas[times])

    def clean(self, seen: torch.Tensor, answer: torch.Tensor, time: Any) -> torch.Tensor:
        """Returns x_0 by what was seen and answered at a time.

        Ho et al. 2020, eq. 15, for epsilon; Salimans and Ho 2022, appendix D, for v.
        """
        alpha = self.alphas[int(time)].to(seen.device, seen.dtype)
        signal, spread = alpha.sqrt(), (1 - alpha).sqrt()
        if self.prediction == "sample":
            return answer
        if self.prediction == "v_prediction":
            return signal * seen - spread * answer
        return (seen - spread * answer) / signal

    def weight(self, times: torch.Tensor, gamma: float) -> torch.Tensor:
        """Returns (B,) min-SNR weights."""
        return min_snr(self.prediction, self.alphas[times], gamma)

    def timesteps(self, scheduler: Any, steps: int, device: torch.device, cells: int) -> torch.Tensor:
        """Spaces so many steps as the scheduler is configured; the size of an image changes nothing."""
        scheduler.set_timesteps(steps, device=device)
        timesteps: torch.Tensor = scheduler.timesteps
        return timesteps

    def steps_run(self, steps: int, strength: float) -> int:
        """Returns the steps of a strength, rounded down."""
        return min(int(steps * strength), steps)

    def begin(self, scheduler: Any, noise: torch.Tensor, latents: torch.Tensor | None, time: Any) -> torch.Tensor:
        """Returns noise as strong as the scheduler's first, or latents with as much noise as (B,) times have."""
        start: torch.Tensor
        if latents is None:
            start = noise * scheduler.init_noise_sigma
        else:
            start = scheduler.add_noise(latents, noise, time)
        return start

    def scaled(self, scheduler: Any, latents: torch.Tensor, time: Any) -> torch.Tensor:
        """Returns x_t where the scheduler counts the noise in other units."""
        scaled: torch.Tensor = scheduler.scale_model_input(latents, time)
        return scaled


def add_noise(latents: torch.Tensor, noise: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """Returns x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps.

    Args:
        latents: (B, C, H, W) clean latents x_0.
        noise: (B, C, H, W) eps.
        alphas: (B,) cumulative products a_t of the drawn timesteps.
    """
    a = alphas.view(-1, 1, 1, 1)
    return a.sqrt() * latents + (1 - a).sqrt() * noise


def target(kind: str, latents: torch.Tensor, noise: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """Returns (B, C, H, W), what the network is asked for: eps, or v = sqrt(a_t) eps - sqrt(1 - a_t) x_0.

    Raises:
        FailedPrecondition: the base model predicts something else.
    """
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        a = alphas.view(-1, 1, 1, 1)
        return a.sqrt() * noise - (1 - a).sqrt() * latents
    message = f"expected a base model that predicts one of {', '.join(PREDICTIONS)}; this one predicts {kind!r}"
    raise FailedPrecondition(f"{message}: choose another base model", reason="PREDICTION_TYPE")


def min_snr(kind: str, alphas: torch.Tensor, gamma: float) -> torch.Tensor:
    """Returns (B,) weights min(SNR, gamma) / SNR for epsilon, min(SNR, gamma) / (SNR + 1) for v-prediction.

    With gamma = 0 every weight is 1, which is plain training.
    """
    if gamma == 0:
        return torch.ones_like(alphas)
    snr = alphas / (1 - alphas).clamp_min(1e-12)
    clamped = snr.clamp_max(gamma)
    return clamped / (snr + 1) if kind == "v_prediction" else torch.where(snr > 0, clamped / snr.clamp_min(1e-12), 1.0)
