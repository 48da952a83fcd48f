"""The images and captions of a manifest as latents and embeddings, and the batch of every step.

A batch is a function of the set, the seed and the step alone; nothing is carried from step to step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from konomi_trainer.cache import TensorCache, Tensors, key
from konomi_trainer.manifest import Item

SCHEMA = "konomi.cache/1"
DRAWS, ORDER = 0, 1


class Encoder(Protocol):
    """What turns images and captions into the base model's own spaces."""

    space: str
    """Names its latents and embeddings in the cache."""
    resolution: int

    def encode_image(self, pixels: torch.Tensor) -> Tensors:
        """(3, S, S) in -1..1 → {"mean": (C, h, w)} and, for a variational autoencoder, {"std": (C, h, w)}."""

    def encode_caption(self, caption: str) -> Tensors:
        """Text → {"hidden": (T, D)} and, for SDXL, {"pooled": (P,)}; the empty caption is the dropped one."""


@dataclass(frozen=True)
class TrainingSet:
    """Everything the loop reads, in memory.

    Attributes:
        mean: (N, C, h, w) float32 latents.
        std: (N, C, h, w) float32 spread of each latent, or None.
        hidden: (M, T, D) float32 caption embeddings; row 0 is the dropped caption.
        pooled: (M, P) float32, or None.
        caption: (N,) int64 row of each image's caption.
        weights: (N,) float32, mean 1.
        sizes: (N, 6) float32: height and width of the original, top and left of the crop, height and width now.
    """

    mean: torch.Tensor
    std: torch.Tensor | None
    hidden: torch.Tensor
    pooled: torch.Tensor | None
    caption: torch.Tensor
    weights: torch.Tensor
    sizes: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """What one step sees; B rows of everything, timesteps in 0..T-1."""

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    hidden: torch.Tensor
    pooled: torch.Tensor | None
    sizes: torch.Tensor
    weights: torch.Tensor


def build(
    items: Sequence[Item],
    pixels: Callable[[str], np.ndarray],
    encoder: Encoder,
    cache: TensorCache,
    tick: Callable[[], None],
) -> TrainingSet:
    """Returns the training set of a manifest; images and captions seen before come from the cache.

    Each image is encoded alone, so a cached latent never depends on what else was in a set.

    Args:
        items: the manifest's items.
        pixels: digest → (H, W, 3) uint8, asked only for images not in the cache.
        encoder: the base model's encoders.
        cache: latents and embeddings of earlier runs.
        tick: called before every image and caption; may raise to stop.
    """

    def image(item: Item) -> Tensors:
        tick()
        name = key(SCHEMA, "latent", encoder.space, str(encoder.resolution), item.digest)
        return cache.get(name, lambda: _encode(pixels(item.digest), encoder))

    def text(caption: str) -> Tensors:
        tick()
        return cache.get(key(SCHEMA, "caption", encoder.space, caption), lambda: encoder.encode_caption(caption))

    captions = ["", *sorted({item.caption for item in items} - {""})]
    row = {caption: index for index, caption in enumerate(captions)}
    images, texts = [image(item) for item in items], [text(caption) for caption in captions]
    weights = torch.tensor([item.weight for item in items], dtype=torch.float64)
    return TrainingSet(
        mean=torch.stack([found["mean"] for found in images]),
        std=torch.stack([found["std"] for found in images]) if "std" in images[0] else None,
        hidden=torch.stack([found["hidden"] for found in texts]),
        pooled=torch.stack([found["pooled"] for found in texts]) if "pooled" in texts[0] else None,
        caption=torch.tensor([row[item.caption] for item in items]),
        weights=(weights / weights.mean()).float(),
        sizes=torch.stack([found["sizes"] for found in images]),
    )


def draw(data: TrainingSet, seed: int, step: int, size: int, dropout: float, timesteps: int) -> Batch:
    """Returns the batch of a step: the next `size` images of the shuffled set, with noise, time and dropped captions.

    Args:
        data: the training set.
        seed: of the run.
        step: optimiser step, from 0.
        size: images in the batch.
        dropout: share of captions replaced by the empty one.
        timesteps: length T of the base model's noise schedule.
    """
    rng = np.random.default_rng([seed & (2**64 - 1), DRAWS, step])
    index = torch.from_numpy(_order(len(data.caption), seed, step * size, size))
    shape = (size, *data.mean.shape[1:])
    noise = torch.from_numpy(rng.standard_normal(shape, np.float32))
    times = torch.from_numpy(rng.integers(0, timesteps, size))
    dropped = torch.from_numpy(rng.random(size) < dropout)
    latents = data.mean[index]
    if data.std is not None:
        latents = latents + data.std[index] * torch.from_numpy(rng.standard_normal(shape, np.float32))
    rows = torch.where(dropped, 0, data.caption[index])
    pooled = None if data.pooled is None else data.pooled[rows]
    return Batch(latents, noise, times, data.hidden[rows], pooled, data.sizes[index], data.weights[index])


def _order(count: int, seed: int, first: int, size: int) -> np.ndarray:
    """Returns (size,) indices at positions first… of the endless row of shuffled epochs."""
    epochs = range(first // count, (first + size - 1) // count + 1)
    rows = [np.random.default_rng([seed & (2**64 - 1), ORDER, epoch]).permutation(count) for epoch in epochs]
    return np.concatenate(rows)[first % count :][:size]


def _encode(image: np.ndarray, encoder: Encoder) -> Tensors:
    pixels, sizes = fit(image, encoder.resolution)
    return {**encoder.encode_image(pixels), "sizes": sizes}


def fit(image: np.ndarray, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns an image scaled to cover a square and cropped to its middle.

    Args:
        image: (H, W, 3) uint8.
        side: S, pixels.

    Returns:
        (3, S, S) float32 in -1..1, and the (6,) sizes SDXL is conditioned on.
    """
    height, width = image.shape[:2]
    pixels = torch.tensor(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    scale = side / min(height, width)
    size = (max(side, round(height * scale)), max(side, round(width * scale)))
    if size != (height, width):
        pixels = functional.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    sizes = torch.tensor([height, width, top, left, side, side], dtype=torch.float32)
    return pixels[0, :, top : top + side, left : left + side].contiguous(), sizes
