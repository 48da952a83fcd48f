"""Closed-form merging of fine-tuned concepts, and two simple merges to compare it with.

Kumari et al. 2023 (2212.04488), equations 4 and 5.
For one layer: W = argmin |W C_reg' - W0 C_reg'|_F subject to W C' = V, solved by Lagrange multipliers:
W = W0 + v' D with D = C (C_reg' C_reg)^-1 and v' = (V - W0 C') (D C')^-1.
"""

from collections.abc import Sequence

import torch

from konomi.errors import InvalidArgument

RIDGE = 1e-3
"""Share of the mean eigenvalue of C_reg' C_reg that is added to its diagonal."""
SAME = 1e-9
"""Targets that lie this close (relative) to the span of those before them add nothing and are left out."""


def closed_form(
    base: torch.Tensor, targets: torch.Tensor, values: torch.Tensor, regular: torch.Tensor, ridge: float = RIDGE
) -> torch.Tensor:
    """Returns the (O, D) float64 weight that answers `values` to `targets` and else stays nearest to `base`.

    Args:
        base: (O, D) weight W0 of the base model.
        targets: (S, D) features C of the words of all concepts, S <= D; linearly independent, see `independent`.
        values: (S, O) what the concepts' own weights answer, row by row.
        regular: (N, D) features C_reg of ordinary captions.
        ridge: see RIDGE.

    Raises:
        InvalidArgument: fewer than D rows of features, or targets that depend on each other.
    """
    base, targets, values, regular = (x.double() for x in (base, targets, values, regular))
    if regular.shape[0] < base.shape[1]:
        raise InvalidArgument(
            f"expected at least {base.shape[1]} words in the regularisation captions; came {regular.shape[0]}: "
            "give more captions",
            reason="TOO_FEW_CAPTIONS",
        )
    gram = regular.T @ regular
    gram = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    directions = torch.linalg.solve(gram, targets.T).T
    system = directions @ targets.T
    if torch.linalg.matrix_rank(system) < len(system):
        raise InvalidArgument(
            "expected concepts whose words differ; came some whose features depend on each other: merge fewer",
            reason="CONCEPTS_ALIKE",
        )
    residual = values.T - base @ targets.T
    multipliers = torch.linalg.solve(system.T, residual.T).T
    # one step of refinement takes the error of the solve itself out of the constraint
    multipliers = multipliers + torch.linalg.solve(system.T, (residual - multipliers @ system).T).T
    return base + multipliers @ directions


def constraint_error(weight: torch.Tensor, targets: torch.Tensor, values: torch.Tensor) -> float:
    """Returns |W C' - V|_F / |V|_F, the relative error of the constraint."""
    answer, expected = weight.double() @ targets.double().T, values.double().T
    return float((answer - expected).norm() / expected.norm().clamp_min(1e-300))


def drift(weight: torch.Tensor, base: torch.Tensor, regular: torch.Tensor) -> float:
    """Returns |(W - W0) C_reg'|_F / |W0 C_reg'|_F, how far ordinary captions are moved."""
    before = base.double() @ regular.double().T
    return float((weight.double() @ regular.double().T - before).norm() / before.norm().clamp_min(1e-300))


def average(deltas: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns the (O, D) mean of weight changes."""
    return torch.stack(list(deltas)).double().mean(0)


def total(deltas: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns the (O, D) sum of weight changes."""
    return torch.stack(list(deltas)).double().sum(0)


def independent(targets: torch.Tensor) -> list[int]:
    """Returns the indices of rows that no combination of earlier rows gives, in order (Gram-Schmidt, twice).

    Args:
        targets: (S, D).
    """
    kept: list[int] = []
    basis = torch.zeros(0, targets.shape[1], dtype=torch.float64)
    for index, row in enumerate(targets.double()):
        rest = row - basis.T @ (basis @ row)
        rest = rest - basis.T @ (basis @ rest)
        if rest.norm() > SAME**0.5 * row.norm():
            kept.append(index)
            basis = torch.cat([basis, (rest / rest.norm())[None]])
    return kept
