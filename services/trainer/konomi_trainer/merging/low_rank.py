"""Low-rank compression of weight changes: the largest singular values up to a share of their sum.

Kumari et al. 2023 (2212.04488), section 3.3: 60 % of the sum keeps the quality at a fifth of the size.
A truncated singular value decomposition is the best approximation of its rank (Eckart and Young 1936), so it is also
the exact LoRA of what it keeps.
"""

import torch


def factorise(delta: torch.Tensor, mass: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns u (O, R) and v (R, D) with u @ v close to delta; R is the least rank that keeps `mass`.

    Args:
        delta: (O, D).
        mass: share of the sum of singular values to keep, 0..1; 1 keeps all, and every result has rank 1 or more.
    """
    left, values, right = torch.linalg.svd(delta.double(), full_matrices=False)
    kept = rank_of_mass(values, mass)
    root = values[:kept].sqrt()
    # the sign of a singular pair is free: its largest entry is made positive, so that equal deltas give equal bytes
    column = left[:, :kept]
    sign = torch.sign(column.gather(0, column.abs().argmax(0, keepdim=True))[0])
    sign = torch.where(sign == 0, 1.0, sign)
    return (column * (root * sign)).float().contiguous(), ((root * sign)[:, None] * right[:kept]).float().contiguous()


def rank_of_mass(values: torch.Tensor, mass: float) -> int:
    """Returns the least number of leading singular values whose sum reaches `mass` of the total, 1 at least.

    Args:
        values: (R,) singular values, falling.
        mass: 0..1.
    """
    total = values.sum()
    if total <= 0:
        return 1
    if mass >= 1:
        return len(values)
    return min(len(values), int((values.cumsum(0) < mass * total * (1 - 1e-12)).sum()) + 1)
