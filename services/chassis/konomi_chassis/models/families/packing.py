"""Latents as the transformers of FLUX and its kin take them: 2 x 2 cells are one token.

Outside a family's `answer` latents are (N, C, h, w) with even h and w; inside they are (N, h/2 · w/2, 4C). FLUX.2 calls
patches what is packed but not yet flat, (N, 4C, h/2, w/2).
"""

import torch


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Returns the (N, h/2 · w/2, 4C) tokens of (N, C, h, w) latents."""
    return patches(latents).flatten(2).transpose(1, 2).contiguous()


def unpack(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Returns the (N, C, h, w) latents of tokens."""
    return unpatched(tokens.transpose(1, 2).unflatten(2, (height // 2, width // 2)))


def patches(latents: torch.Tensor) -> torch.Tensor:
    """Returns the (…, 4C, h/2, w/2) patches of (…, C, h, w) latents."""
    channels, height, width = latents.shape[-3:]
    split = latents.unflatten(-1, (width // 2, 2)).unflatten(-3, (height // 2, 2))  # (…, C, h/2, 2, w/2, 2)
    split = split.movedim((-3, -1), (-4, -3))  # (…, C, 2, 2, h/2, w/2)
    return split.reshape(*latents.shape[:-3], 4 * channels, height // 2, width // 2)


def unpatched(patches: torch.Tensor) -> torch.Tensor:
    """Returns the (…, C, h, w) latents of patches."""
    channels, height, width = patches.shape[-3:]
    split = patches.unflatten(-3, (channels // 4, 2, 2)).movedim((-4, -3), (-3, -1))  # (…, C, h/2, 2, w/2, 2)
    return split.reshape(*patches.shape[:-3], channels // 4, 2 * height, 2 * width)


def places(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Returns the (h/2 · w/2, 3) place of each token: 0, its row, its column."""
    rows, columns = torch.arange(height // 2, device=device), torch.arange(width // 2, device=device)
    grid = torch.cartesian_prod(torch.zeros(1, device=device, dtype=rows.dtype), rows, columns)
    return grid.float()


def with_zero(places: torch.Tensor) -> torch.Tensor:
    """Returns (N, 4) places, the last number 0: what in a text is a token's place."""
    return torch.nn.functional.pad(places, (0, 1))
