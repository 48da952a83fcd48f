"""Optimisers by name: AdamW (Loshchilov and Hutter 2019), or the same with 8-bit state (Dettmers et al. 2022)."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch

from konomi.errors import FailedPrecondition


def check_optimizer(name: str) -> None:
    """Raises FailedPrecondition where an optimiser is not installed."""
    if name == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise FailedPrecondition(
            "expected the library bitsandbytes, which holds the 8-bit optimiser; it is not installed:"
            " pip install bitsandbytes, or choose the optimizer adamw",
            reason="OPTIMIZER_UNAVAILABLE",
        )


def make_optimizer(name: str, groups: Sequence[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    """Returns an optimiser over groups of weights, all on one kind of device.

    Args:
        name: "adamw" or "adamw_8bit".
        groups: {"params": weights, ...} each.
        learning_rate: until the loop sets another.

    Raises:
        FailedPrecondition: bitsandbytes is not installed, or runs on none of the weights' devices.
    """
    if name == "adamw":
        fused = all(weight.device.type in ("cpu", "cuda") for group in groups for weight in group["params"])
        return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)
    check_optimizer(name)
    import bitsandbytes

    optimizer: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(groups, lr=learning_rate)
    return optimizer
