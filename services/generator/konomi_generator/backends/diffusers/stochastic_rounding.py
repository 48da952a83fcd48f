"""Rounding to bfloat16 by chance: a number goes up as often as it is close to the number above.

What is smaller than half the distance of two numbers vanishes when it is rounded to the nearest: of a small adapter on
bfloat16 weights almost everything (Gupta et al. 2015, 1502.02551). By chance the sum over many weights comes out right:
of a change of .003 of a weight's norm .5 % is lost in the adapter's own directions, where the nearest number loses 7 %.
Float16 has eight times the numbers and is rounded to the nearest. The chance is drawn from a seed, so the same adapters
give the same bits every time.
"""

import hashlib

import torch

BITS = 7
"""Bits of bfloat16 behind the point."""
SMALLEST = -126
"""Smallest exponent of a normal number."""
DRAWN = 1 << 16
"""Chances: as many bits as float32 has more than bfloat16, so that adding one is exact."""


def seed_of(*names: object) -> int:
    """Returns a seed for names, the same on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest()[:8], "big") >> 1


def rounded(values: torch.Tensor, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Returns float32 values in another format: by chance where it is bfloat16, else the nearest numbers.

    Args:
        values: finite float32 numbers of any shape.
        dtype: what to round to.
        seed: of the chance.
    """
    if dtype != torch.bfloat16:
        return values.to(dtype)
    exponent = torch.frexp(values).exponent.sub_(1).clamp_(min=SMALLEST)
    step = torch.ldexp(torch.ones_like(values), exponent - BITS)
    generator = torch.Generator(values.device).manual_seed(seed)
    chance = torch.randint(DRAWN, values.shape, generator=generator, device=values.device, dtype=torch.int32)
    return values.div(step).add_(chance.float().div_(DRAWN)).floor_().mul_(step).to(dtype)
