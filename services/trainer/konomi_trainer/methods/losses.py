"""Denoising losses of diffusion training: noise a latent, say what the network should answer, weigh the error.

Ho et al. 2020 (epsilon), Salimans and Ho 2022 (v-prediction), Hang et al. 2023 (min-SNR weighting, eq. 8).
"""

import torch
from torch.nn import functional

from konomi.errors import FailedPrecondition

PREDICTIONS = ("epsilon", "v_prediction")


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


def weighted_mse(prediction: torch.Tensor, expected: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Returns the scalar sum of w_b · mean((prediction_b - expected_b)²) over the batch, in float32.

    Args:
        prediction: (B, C, H, W) of any floating type.
        expected: (B, C, H, W).
        weights: (B,) weight of each sample; the caller divides by the batch size it sums to.
    """
    error = functional.mse_loss(prediction.float(), expected.float(), reduction="none")
    return (error.flatten(1).mean(1) * weights).sum()


def masked_mse(
    prediction: torch.Tensor, expected: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Returns the scalar sum of w_b · mean over the masked cells of (prediction_b - expected_b)², in float32.

    Args:
        prediction: (B, C, H, W) of any floating type.
        expected: (B, C, H, W).
        mask: (B, 1, H, W), 1 where a cell counts and 0 elsewhere.
        weights: (B,) weight of each sample.
    """
    error = functional.mse_loss(prediction.float(), expected.float(), reduction="none") * mask
    cells = mask.flatten(1).sum(1).clamp_min(1) * prediction.shape[1]
    return (error.flatten(1).sum(1) / cells * weights).sum()
