"""Condition-annealed sampling, CADS: noise on the text condition early in sampling, none at its end.

Sadat et al. 2023, 2310.17347, eq. 4 to 6: with noise time t from 1 to 0 and gamma(t) = 1 for t <= t1, 0 for t >= t2
and linear between, the condition y becomes y' = sqrt(gamma) y + s sqrt(1 - gamma) n with n standard normal, then
psi * rescale(y') + (1 - psi) y', where rescale gives y' the mean and the spread of y. Only the conditional branch.
"""

import hashlib
from collections.abc import Sequence

import torch

from konomi_generator.sampling import Annealing


def cleanness(time: float, annealing: Annealing) -> float:
    """Returns gamma(time): 1 where the condition is itself, 0 where it is all noise."""
    low, high = annealing.clean_below, annealing.noise_above
    if time <= low:
        return 1.0
    return 0.0 if time >= high else (high - time) / (high - low)


class Annealer:
    """Noises the conditions of a batch; every row draws from its own image's seed, whatever stands beside it."""

    def __init__(self, annealing: Annealing, seeds: Sequence[int]) -> None:
        self._annealing = annealing
        self._generators = [torch.Generator().manual_seed(_stream(seed)) for seed in seeds]

    def __call__(self, condition: torch.Tensor, time: float, lengths: Sequence[int] | None = None) -> torch.Tensor:
        """Returns the condition of N rows at a noise time, 1 at the start of sampling and 0 at its end.

        Args:
            condition: (N, ...), or (N, T, D) where rows have lengths of their own.
            time: of the noise.
            lengths: of the rows, which are zero behind them and stay so; None where all are T long.
        """
        share = cleanness(time, self._annealing)
        if share == 1.0:
            return condition
        own = condition if lengths is None else [row[:n] for row, n in zip(condition, lengths, strict=True)]
        rows = [self._row(row, share, generator) for row, generator in zip(own, self._generators, strict=True)]
        if lengths is None:
            return torch.stack(rows)
        whole = torch.zeros_like(condition)
        for place, row in enumerate(rows):
            whole[place, : len(row)] = row
        return whole

    def _row(self, row: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
        noise = torch.randn(row.shape, generator=generator).to(row.device, row.dtype)
        mixed = share**0.5 * row + self._annealing.noise_scale * (1 - share) ** 0.5 * noise
        spread = mixed.std()
        rescaled = (mixed - mixed.mean()) / spread * row.std() + row.mean()
        psi = self._annealing.rescaled_share
        # All noise of scale 0 has nothing to rescale. Chosen on the device, which an `if` would have to wait for.
        return torch.where(spread > 0, psi * rescaled + (1 - psi) * mixed, mixed)


def _stream(seed: int) -> int:
    """Returns the seed of an image's own stream of condition noise, apart from that of its latents."""
    return int.from_bytes(hashlib.sha256(f"{seed}/condition".encode()).digest()[:8], "big") >> 1
