"""The images and captions of a manifest as latents and embeddings, and the batches of every step.

A batch is a function of the set, the seed and the step alone; nothing is carried from step to step.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from konomi_chassis.models.families.family import NoisePath
from konomi_trainer.data import buckets, signs
from konomi_trainer.data.cache import TensorCache, Tensors, key
from konomi_trainer.data.conditions import EncodedCaptions, collect
from konomi_trainer.data.manifest import ManifestItem

SCHEMA = "konomi.cache/1"
DRAWS, PRIOR = 0, 1


class Encoder(Protocol):
    """What turns images and captions into the base model's own spaces."""

    space: str
    """Names its latents in the cache."""
    text_space: str
    """Names its embeddings in the cache."""
    resolution: int
    """Side of the squares whose area images have, pixels."""
    step: int
    """What both sides of an image are multiples of, pixels."""

    def encode_image(self, pixels: torch.Tensor) -> Tensors:
        """(3, H, W) in -1..1 → {"mean": (C, h, w)} and, for a variational autoencoder, {"std": (C, h, w)}."""

    def encode_caption(self, caption: str) -> Tensors:
        """Text → {"hidden": (T, D)} and, for SDXL, {"pooled": (P,)}; the empty caption is the dropped one.

        "chunks", a number, says how many there are where only so many are read; see conditions.collect.
        """


@dataclass(frozen=True)
class Views:
    """Images of one size, one way round.

    Attributes:
        mean: (N, C, h, w) float32 latents.
        std: (N, C, h, w) float32 spread of each latent, or None.
        sizes: (N, 6) float32: height and width of the original, top and left of the crop, height and width now.
    """

    mean: torch.Tensor
    std: torch.Tensor | None
    sizes: torch.Tensor


@dataclass(frozen=True)
class SizeBucket:
    """The images of one size, in the manifest's order.

    Attributes:
        views: as they are.
        mirrored: the same left for right, or None.
        caption: (N,) int64 row of each image's caption.
        weights: (N,) float32; their mean over all buckets is 1.
        signs: (N,) int64: 1 selected, -1 avoided, 0 any other; see `signs`.
    """

    views: Views
    mirrored: Views | None
    caption: torch.Tensor
    weights: torch.Tensor
    signs: torch.Tensor


@dataclass(frozen=True)
class TrainingData:
    """Everything the loop reads, in memory.

    Attributes:
        buckets: the images by size, smallest height first.
        prior: the images of the prior likewise; may be none.
        captions: (M) texts; row 0 is the dropped caption.
        texts: the M captions encoded.
    """

    buckets: tuple[SizeBucket, ...]
    prior: tuple[SizeBucket, ...]
    captions: tuple[str, ...]
    texts: EncodedCaptions


@dataclass(frozen=True)
class Batch:
    """Images that go through the network together; B rows of everything, times as the base's noise has them."""

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    hidden: torch.Tensor
    pooled: torch.Tensor | None
    sizes: torch.Tensor
    weights: torch.Tensor
    captions: torch.Tensor | None = None
    """(B,) rows of the captions, the dropped ones being 0."""
    mask: torch.Tensor | None = None
    """(B, T) bool, true where `hidden` is a caption's own; None where all captions are T long."""
    signs: torch.Tensor | None = None
    """(B,) direction of each row, 1, 0 or -1, where targets are signed; see methods.contrast."""


@dataclass(frozen=True)
class Shape:
    """How images are brought to size: the bucket sizes, and whether each is also kept left for right."""

    sizes: tuple[buckets.Size, ...]
    flip: bool = False


@dataclass(frozen=True)
class DrawSettings:
    """What a step draws: images per group, share of dropped captions, times of the base's noise, rows with signs."""

    size: int
    dropout: float
    path: NoisePath
    signed: bool = False


def build(
    items: Sequence[ManifestItem],
    pixels: Callable[[str], np.ndarray],
    encoder: Encoder,
    cache: TensorCache,
    tick: Callable[[], None],
    shape: Shape | None = None,
) -> TrainingData:
    """Returns the training set of a manifest; images and captions seen before come from the cache.

    Each image is encoded alone, so a cached latent never depends on what else was in a set.

    Args:
        items: the manifest's items; those of the prior become the prior.
        pixels: digest → (H, W, 3) uint8, asked only for images not in the cache.
        encoder: the base model's encoders.
        cache: latents and embeddings of earlier runs.
        tick: called before every image and caption; may raise to stop.
        shape: of the images; squares of the base model's own size without one.
    """
    shape = shape or Shape(((encoder.resolution, encoder.resolution),))

    def image(item: ManifestItem) -> Tensors:
        tick()
        name = _image_key(item.digest, encoder.space, shape)
        return cache.get(name, lambda: encode(pixels(item.digest), encoder, shape), item.digest)

    def text(caption: str) -> Tensors:
        tick()
        return cache.get(key(SCHEMA, "caption", encoder.text_space, caption), lambda: encoder.encode_caption(caption))

    captions = ("", *sorted({item.caption for item in items} - {""}))
    rows = {caption: index for index, caption in enumerate(captions)}
    texts = collect([text(caption) for caption in captions])
    parts = [[item for item in items if item.is_prior == prior] for prior in (False, True)]
    selected, prior = (_buckets(part, [image(item) for item in part], rows) for part in parts)
    return TrainingData(selected, prior, captions, texts)


def _image_key(digest: str, space: str, shape: Shape) -> str:
    """Returns the name in the cache of an image's latents: it changes with the encoder, the sizes and the mirroring."""
    sizes = ",".join(f"{height}x{width}" for height, width in shape.sizes)
    return key(SCHEMA, "views", space, sizes, "flip" if shape.flip else "", digest)


def draw(data: TrainingData, seed: int, group: int, drawing: DrawSettings, prior: bool = False) -> Batch:
    """Returns a group of images of one size, with noise, times and dropped captions.

    Args:
        data: the training set.
        seed: of the run.
        group: number of the group, from 0; a step takes as many groups as it accumulates.
        drawing: how many images, which captions are dropped, which times there are.
        prior: takes the images of the prior.
    """
    candidates = data.prior if prior else data.buckets
    stream = (PRIOR,) if prior else ()
    rng = np.random.default_rng([seed & (2**64 - 1), DRAWS, group, *stream])
    signed = drawing.signed and not prior
    which, before = buckets.bucket_of(tuple(_count(bucket, signed) for bucket in candidates), seed, group)
    bucket, size = candidates[which], drawing.size
    if signed:
        chosen = signs.SignedBucket(bucket.signs.numpy(), bucket.caption.numpy(), which, seed).rows(before * size, size)
        index, direction = torch.from_numpy(chosen.index), torch.from_numpy(chosen.signs)
    else:
        rows = buckets.order(len(bucket.caption), seed, (*stream, which) if which or prior else (), before * size, size)
        index, direction = torch.from_numpy(rows), None
    shape = (size, *bucket.views.mean.shape[1:])
    noise = torch.from_numpy(rng.standard_normal(shape, np.float32))
    times = drawing.path.draw(rng, size, shape[-2] * shape[-1])
    dropped = torch.from_numpy(rng.random(size) < drawing.dropout)
    spread = torch.from_numpy(rng.standard_normal(shape, np.float32)) if bucket.views.std is not None else None
    seen = _seen(bucket, index, torch.from_numpy(rng.random(size) < 0.5) if bucket.mirrored is not None else None)
    latents = seen.mean if spread is None or seen.std is None else seen.mean + seen.std * spread
    captions = torch.where(dropped, 0, bucket.caption[index])
    text = data.texts.rows(captions)
    weights = bucket.weights[index]
    return Batch(latents, noise, times, text.hidden, text.pooled, seen.sizes, weights, captions, text.mask, direction)


def _count(bucket: SizeBucket, signed: bool) -> int:
    """Returns how often a bucket comes: with signs, avoided images only accompany others."""
    return int((bucket.signs >= 0).sum()) if signed else len(bucket.caption)


def encode(image: np.ndarray, encoder: Encoder, shape: Shape) -> Tensors:
    """Returns "mean", any "std" and "sizes" of an image; where it is mirrored also the same names with a dash."""
    size = buckets.nearest(image.shape[0], image.shape[1], shape.sizes)
    pixels, sizes = fit(image, size)
    tensors = {**encoder.encode_image(pixels), "sizes": sizes}
    if shape.flip:
        pixels, sizes = fit(np.ascontiguousarray(image[:, ::-1]), size)
        tensors |= {f"{name}-": tensor for name, tensor in {**encoder.encode_image(pixels), "sizes": sizes}.items()}
    return tensors


def fit(image: np.ndarray, size: int | buckets.Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns an image scaled to cover a size and cropped to its middle.

    Args:
        image: (H, W, 3) uint8.
        size: side of a square, or height and width, pixels.

    Returns:
        (3, h, w) float32 in -1..1, and the (6,) sizes SDXL is conditioned on.
    """
    high, wide = (size, size) if isinstance(size, int) else size
    height, width = image.shape[:2]
    pixels = torch.tensor(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    scale = max(high / height, wide / width)
    whole = (max(high, round(height * scale)), max(wide, round(width * scale)))
    if whole != (height, width):
        pixels = functional.interpolate(pixels, whole, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
    top, left = (whole[0] - high) // 2, (whole[1] - wide) // 2
    sizes = torch.tensor([height, width, top, left, high, wide], dtype=torch.float32)
    return pixels[0, :, top : top + high, left : left + wide].contiguous(), sizes


def _buckets(items: Sequence[ManifestItem], images: Sequence[Tensors], rows: dict[str, int]) -> tuple[SizeBucket, ...]:
    parts: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        parts[tuple(image["mean"].shape)].append(index)
    weights = torch.tensor([item.weight for item in items], dtype=torch.float64)
    weights = (weights / weights.mean()).float() if items else weights.float()
    return tuple(
        SizeBucket(
            _views([images[index] for index in part], ""),
            _views([images[index] for index in part], "-") if "mean-" in images[part[0]] else None,
            torch.tensor([rows[items[index].caption] for index in part]),
            weights[part],
            torch.tensor([signs.SIGNS.get(items[index].role, 0) for index in part]),
        )
        for _, part in sorted(parts.items())
    )


def _views(images: Sequence[Tensors], end: str) -> Views:
    stacked = {
        name: torch.stack([image[name + end] for image in images]) if name + end in images[0] else None
        for name in ("mean", "std", "sizes")
    }
    assert stacked["mean"] is not None and stacked["sizes"] is not None
    return Views(stacked["mean"], stacked["std"], stacked["sizes"])


def _seen(bucket: SizeBucket, index: torch.Tensor, mirror: torch.Tensor | None) -> Views:
    plain, other = bucket.views, bucket.mirrored
    if mirror is None or other is None:
        return Views(plain.mean[index], None if plain.std is None else plain.std[index], plain.sizes[index])

    def mix(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return torch.where(mirror.view(-1, *(1,) * (left.dim() - 1)), right[index], left[index])

    spread = None if plain.std is None or other.std is None else mix(plain.std, other.std)
    return Views(mix(plain.mean, other.mean), spread, mix(plain.sizes, other.sizes))
