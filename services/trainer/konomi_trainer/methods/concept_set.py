"""The images of concepts as latents of several views, the prior's beside them, and the batch of every step.

A batch is a function of the set, the seed and the step alone; nothing is carried from step to step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from konomi_chassis.models.families.condition import Condition
from konomi_chassis.models.families.family import NoisePath
from konomi_trainer.data import dataset
from konomi_trainer.data.cache import Tensors, key
from konomi_trainer.data.conditions import EncodedCaptions, collect
from konomi_trainer.data.manifest import ManifestItem
from konomi_trainer.methods.base import LoadedBase, TrainingSource

SMALLEST, LARGEST, VIEWS = 0.4, 1.4, 16
FAR_BELOW, FAR, NEAR = 0.6, ("far away", "very small"), ("zoomed in", "close up")


@dataclass(frozen=True)
class Framing:
    """How an image is seen: scale, place of the frame 0..1, mirrored or not, and the words added to its caption."""

    scale: float = 1.0
    across: float = 0.5
    down: float = 0.5
    mirrored: bool = False
    words: str = ""


def framings(digest: str, count: int = VIEWS) -> list[Framing]:
    """Returns the framings of an image, the same on every machine; scales are spread evenly from .4 to 1.4.

    Args:
        digest: sha256 of the image; it is the seed.
        count: how many.
    """
    rng = np.random.default_rng(int(digest[:16], 16))
    views = []
    for index in range(count):
        scale = SMALLEST + (LARGEST - SMALLEST) * (index + rng.random()) / count
        words = FAR if scale < FAR_BELOW else NEAR if scale > 1 else ("", "")
        place = rng.random(3)
        views.append(Framing(float(scale), place[0], place[1], bool(place[2] < 0.5), words[index % 2]))
    return views


def see(pixels: torch.Tensor, framing: Framing, cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns an image in a framing and the cells of its latent that are wholly real.

    Args:
        pixels: (3, S, S) float32 in -1..1.
        framing: how to see it.
        cells: h = w of the latent, a divisor of S.

    Returns:
        (3, S, S) float32, grey where there is no image; (1, h, w) float32 of ones and zeros.
    """
    side = pixels.shape[-1]
    image = pixels.flip(-1) if framing.mirrored else pixels
    if framing.scale == 1:
        return image.contiguous(), torch.ones(1, cells, cells)
    size, cell = max(side // cells, round(side * framing.scale)), side // cells
    image = functional.interpolate(image[None], (size, size), mode="bicubic", antialias=True, align_corners=False)[0]
    image = image.clamp(-1, 1)
    if size >= side:
        top, left = int(framing.down * (size - side)), int(framing.across * (size - side))
        return image[:, top : top + side, left : left + side].contiguous(), torch.ones(1, cells, cells)
    top, left = (int(place * (side - size) / cell) * cell for place in (framing.down, framing.across))
    canvas, real = torch.zeros_like(pixels), torch.zeros(1, side, side)
    canvas[:, top : top + size, left : left + size] = image
    real[:, top : top + size, left : left + size] = 1
    return canvas, 1 - functional.max_pool2d(1 - real[None], cell)[0]


def described(caption: str, words: str) -> str:
    """Returns a caption with the words of a framing."""
    return f"{caption}, {words}" if words and caption else caption or words


SCHEMA = "konomi.views/1"
DRAWS, ORDER, PRIOR_ORDER = 0, 1, 2


@dataclass(frozen=True)
class ConceptSet:
    """Everything the loss reads, in memory; I images of V views, R prior images.

    Attributes:
        mean: (I, V, C, h, w) float32 latents.
        std: the same shape, their spread, or None.
        mask: (I, V, 1, h, w) float32, 1 where a latent is real.
        prompt: (I, V) int64 row in `prompts`.
        prompts: captions with the words of their view.
        sizes: (I, 6) float32, see dataset.Views.
        weights: (I,) float32, mean 1.
        prior: latents and caption embeddings of the prior's images, or None.
        empty: the dropped caption, encoded.
    """

    mean: torch.Tensor
    std: torch.Tensor | None
    mask: torch.Tensor
    prompt: torch.Tensor
    prompts: list[str]
    sizes: torch.Tensor
    weights: torch.Tensor
    prior: "Prior | None"
    empty: Condition


@dataclass(frozen=True)
class Prior:
    """Regularisation images: (R, C, h, w) latents, their spread, R captions, (R, 6) sizes."""

    mean: torch.Tensor
    std: torch.Tensor | None
    texts: EncodedCaptions
    sizes: torch.Tensor


@dataclass(frozen=True)
class ConceptBatch:
    """What one step sees; B rows, of which the first K are of concepts and the rest of the prior.

    Attributes:
        concepts: K.
        latents: (B, C, h, w), with noise of the same shape and (B,) timesteps.
        mask: (B, 1, h, w).
        prompt: (K,) row in the set's prompts; -1 where the caption is dropped.
        prior: (B - K,) row in the prior.
        sizes: (B, 6).
        weights: (B,) float32, mean 1 over the concepts; 1 for the prior.
    """

    concepts: int
    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    mask: torch.Tensor
    prompt: torch.Tensor
    prior: torch.Tensor
    sizes: torch.Tensor
    weights: torch.Tensor


def build(
    items: Sequence[ManifestItem],
    priors: Sequence[ManifestItem],
    base: LoadedBase,
    source: TrainingSource,
    scales: bool,
) -> ConceptSet:
    """Returns the set; views and captions seen before come from the cache.

    Args:
        items: of the concepts.
        priors: regularisation images; may be empty.
        base: the base model, whose tokenizers do not know the new tokens yet.
        source: where pixels and earlier latents are.
        scales: whether images are seen at several scales.
    """
    views = [framings(item.digest) if scales else [Framing()] for item in items]
    seen = list(zip(items, views, strict=True))
    latents = [[_latent(item, framing, base, source) for framing in frames] for item, frames in seen]
    captions = [[described(item.caption, framing.words) for framing in frames] for item, frames in seen]
    prompts = sorted({caption for row in captions for caption in row})
    weights = torch.tensor([item.weight for item in items], dtype=torch.float64)

    def stack(name: str) -> torch.Tensor:
        return torch.stack([torch.stack([view[name] for view in row]) for row in latents])

    return ConceptSet(
        mean=stack("mean"),
        std=stack("std") if "std" in latents[0][0] else None,
        mask=stack("mask"),
        prompt=torch.tensor([[prompts.index(caption) for caption in row] for row in captions]),
        prompts=prompts,
        sizes=torch.stack([row[0]["sizes"] for row in latents]),
        weights=(weights / weights.mean()).float(),
        prior=_prior(priors, base, source) if priors else None,
        empty=collect([_text("", base, source)]).rows(torch.tensor([0])),
    )


def draw(data: ConceptSet, seed: int, step: int, size: int, dropout: float, path: NoisePath) -> ConceptBatch:
    """Returns the batch of a step: half concepts and half prior where there is one, else concepts alone.

    Args:
        data: the set.
        seed: of the run.
        step: optimiser step, from 0.
        size: rows B of the batch.
        dropout: share of the concepts' captions that are dropped.
        path: the base's noise.
    """
    rng = np.random.default_rng([seed & (2**64 - 1), DRAWS, step])
    images, views = data.prompt.shape
    concepts = size - size // 2 if data.prior is not None else size
    chosen = order(images, (seed, ORDER), step * concepts, concepts)
    view = torch.from_numpy(rng.integers(0, views, concepts))
    noise = torch.from_numpy(rng.standard_normal((size, *data.mean.shape[2:]), np.float32))
    spread = torch.from_numpy(rng.standard_normal(noise.shape, np.float32))
    times = path.draw(rng, size, noise.shape[-2] * noise.shape[-1])
    dropped = torch.from_numpy(rng.random(concepts) < dropout)
    latents = [_sample(data.mean, data.std, (chosen, view), spread[:concepts])]
    prior = torch.zeros(0, dtype=torch.int64)
    sizes, mask = [data.sizes[chosen]], [data.mask[chosen, view]]
    if data.prior is not None:
        rest = size - concepts
        prior = order(len(data.prior.mean), (seed, PRIOR_ORDER), step * rest, rest)
        latents.append(_sample(data.prior.mean, data.prior.std, (prior,), spread[concepts:]))
        sizes.append(data.prior.sizes[prior])
        mask.append(torch.ones(rest, *mask[0].shape[1:]))
    return ConceptBatch(
        concepts,
        torch.cat(latents),
        noise,
        times,
        torch.cat(mask),
        torch.where(dropped, -1, data.prompt[chosen, view]),
        prior,
        torch.cat(sizes),
        torch.cat([data.weights[chosen], torch.ones(size - concepts)]),
    )


def order(count: int, seed: tuple[int, int], first: int, size: int) -> torch.Tensor:
    """Returns (size,) indices at positions first… of the endless row of shuffled epochs of `count` things."""
    key_ = [seed[0] & (2**64 - 1), seed[1]]
    epochs = range(first // count, (first + max(size, 1) - 1) // count + 1)
    rows = [np.random.default_rng([*key_, epoch]).permutation(count) for epoch in epochs]
    return torch.from_numpy(np.concatenate(rows)[first % count :][:size])


def _sample(
    mean: torch.Tensor, std: torch.Tensor | None, rows: tuple[torch.Tensor, ...], noise: torch.Tensor
) -> torch.Tensor:
    """Returns the latents (n, C, h, w) at some rows, drawn with the noise where the autoencoder is variational."""
    return mean[rows] if std is None else mean[rows] + std[rows] * noise


def _latent(item: ManifestItem, framing: Framing, base: LoadedBase, source: TrainingSource) -> Tensors:
    source.tick()
    frame = f"{framing.scale:.6f},{framing.across:.6f},{framing.down:.6f},{framing.mirrored:d}"

    def make() -> Tensors:
        pixels, sizes = dataset.fit(source.pixels(item.digest), base.resolution)
        plain = base.encode_image(pixels)
        seen, mask = see(pixels, framing, plain["mean"].shape[-1])
        return {**base.encode_image(seen), "mask": mask, "sizes": sizes}

    return source.cache.get(key(SCHEMA, base.space, str(base.resolution), item.digest, frame), make, item.digest)


def _text(caption: str, base: LoadedBase, source: TrainingSource) -> Tensors:
    source.tick()
    name = key(SCHEMA, "caption", base.text_space, caption)
    return source.cache.get(name, lambda: base.encode_caption(caption))


def _prior(items: Sequence[ManifestItem], base: LoadedBase, source: TrainingSource) -> Prior:
    latents = [_latent(item, Framing(), base, source) for item in items]
    texts = {caption: _text(caption, base, source) for caption in sorted({item.caption for item in items})}
    return Prior(
        mean=torch.stack([latent["mean"] for latent in latents]),
        std=torch.stack([latent["std"] for latent in latents]) if "std" in latents[0] else None,
        texts=collect([texts[item.caption] for item in items]),
        sizes=torch.stack([latent["sizes"] for latent in latents]),
    )
