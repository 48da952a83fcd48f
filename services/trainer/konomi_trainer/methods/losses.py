"""Errors of a denoised batch: what the network answered against what it should have, each row by its weight.

What a row sees and should answer is the noise's own; see NoisePath.
"""

import torch
from torch.nn import functional


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
