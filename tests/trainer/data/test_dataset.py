"""Batches and caches: a function of seed and step, every image as often as the next, damaged files made again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from konomi_chassis.models.families.unet.discrete_path import DiscretePath
from konomi_trainer.data import buckets
from konomi_trainer.data.cache import TensorCache, key
from konomi_trainer.data.dataset import Batch, DrawSettings, Shape, TrainingData, build, draw, fit
from konomi_trainer.data.manifest import ManifestItem


class Encoder:
    """Counts what it is asked for."""

    space, text_space, resolution, step = "fake:cpu", "fake:cpu", 8, 4

    def __init__(self) -> None:
        self.images, self.captions = 0, 0

    def encode_image(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        self.images += 1
        mean = pixels[:, ::2, ::2].contiguous()
        return {"mean": mean, "std": torch.full_like(mean, 0.5)}

    def encode_caption(self, caption: str) -> dict[str, torch.Tensor]:
        self.captions += 1
        return {"hidden": torch.full((2, 3), float(len(caption)))}


PATH = DiscretePath(torch.ones(1000), "epsilon")
ITEMS = [ManifestItem(f"{i:064x}", "ab" if i % 2 else "", 1.0 + i, "selected") for i in range(5)]


def batch(data: TrainingData, seed: int, group: int, size: int, dropout: float = 0.0) -> Batch:
    return draw(data, seed, group, DrawSettings(size, dropout, PATH))


def make(folder: Path, encoder: Encoder) -> TrainingData:
    def pixels(digest: str) -> np.ndarray:
        return np.full((8, 8, 3), int(digest, 16) * 20, np.uint8)

    return build(ITEMS, pixels, encoder, TensorCache(folder), lambda: None)


def test_images_and_captions_are_encoded_once_for_ever(tmp_path: Path) -> None:
    encoder = Encoder()
    first = make(tmp_path, encoder)
    assert (encoder.images, encoder.captions) == (5, 2)
    (bucket,) = first.buckets
    assert first.texts.rows(bucket.caption).hidden.mean(dim=(1, 2)).tolist() == [0, 2, 0, 2, 0] and not first.prior
    assert bucket.weights.mean().item() == pytest.approx(1)
    assert (bucket.weights[4] / bucket.weights[0]).item() == pytest.approx(5)
    second = make(tmp_path, encoder)
    assert (encoder.images, encoder.captions) == (5, 2) and torch.equal(bucket.views.mean, second.buckets[0].views.mean)
    for path in tmp_path.rglob("*.safetensors"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    third = make(tmp_path, encoder)
    assert (encoder.images, encoder.captions) == (10, 4) and torch.equal(bucket.views.mean, third.buckets[0].views.mean)


def test_a_batch_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    data = make(tmp_path, Encoder())
    one, two = batch(data, -3, 17, 4, 0.5), batch(data, -3, 17, 4, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True) if a is not None)
    assert not torch.equal(one.noise, batch(data, -3, 18, 4, 0.5).noise)
    assert not torch.equal(one.noise, batch(data, -2, 17, 4, 0.5).noise)


def test_every_image_comes_once_an_epoch(tmp_path: Path) -> None:
    data = make(tmp_path, Encoder())
    weights = torch.cat([batch(data, 1, step, 4).weights for step in range(5)])
    for epoch in weights.split(5):
        assert sorted(epoch.tolist()) == sorted(data.buckets[0].weights.tolist())
    assert len(batch(data, 1, 3, 12).weights) == 12


def test_captions_are_dropped_and_latents_vary(tmp_path: Path) -> None:
    data = make(tmp_path, Encoder())
    kept, dropped = batch(data, 1, 0, 200, 0.0), batch(data, 1, 0, 200, 0.3)
    share = (dropped.hidden != kept.hidden).any(dim=(1, 2)).sum() / (kept.hidden != 0).any(dim=(1, 2)).sum()
    assert 0.2 < share < 0.4 and not batch(data, 1, 0, 200, 1.0).hidden.any()
    assert kept.latents.std() > data.buckets[0].views.mean.std()


def test_an_image_covers_the_square_and_is_cropped_to_its_middle() -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 255
    pixels, sizes = fit(image, 10)
    assert pixels.shape == (3, 10, 10) and sizes.tolist() == [20, 40, 0, 5, 10, 10]
    assert pixels[:, :, 1:9].min() > 0.99
    exact, _ = fit(np.full((10, 10, 3), 51, np.uint8), 10)
    assert torch.equal(exact, torch.full((3, 10, 10), 51 / 127.5 - 1))


def test_keys_do_not_run_together() -> None:
    assert key("a", "bc") != key("ab", "c") and key("a\0b") != key("a", "b")


def test_an_image_goes_where_its_shape_is_nearest() -> None:
    choices = buckets.sizes(512, 64)
    assert (512, 512) in choices and (768, 320) not in choices
    assert all(h % 64 == 0 and w % 64 == 0 and h * w <= 512 * 512 and 0.5 <= w / h <= 2 for h, w in choices)
    assert buckets.nearest(1000, 1000, choices) == (512, 512)
    assert buckets.nearest(1500, 1000, choices) == (640, 384) and buckets.nearest(1000, 1500, choices) == (384, 640)
    assert buckets.nearest(100, 9000, choices) == buckets.nearest(10, 20, choices)
    assert buckets.sizes(16, 4) == buckets.sizes(16, 4) and (16, 16) in buckets.sizes(16, 5)


SHAPES = ((8, 8), (8, 16), (16, 8), (8, 8), (8, 17), (30, 31), (9, 8))


def mixed(folder: Path, flip: bool = False, prior: int = 0, role: str = "prior") -> TrainingData:
    items = [ManifestItem(f"{i:064x}", "ab", 1.0 + i, role if i < prior else "selected") for i in range(len(SHAPES))]

    def pixels(digest: str) -> np.ndarray:
        image = np.zeros((*SHAPES[int(digest, 16)], 3), np.uint8)
        image[:, : image.shape[1] // 2] = 255
        return image

    shape = Shape(buckets.sizes(16, 4), flip)
    return build(items, pixels, Encoder(), TensorCache(folder), lambda: None, shape)


def test_a_batch_has_one_size_and_every_image_is_seen_as_often(tmp_path: Path) -> None:
    data = mixed(tmp_path)
    assert [len(bucket.caption) for bucket in data.buckets] == [2, 4, 1]
    seen: dict[float, int] = {}
    shapes = set()
    for group in range(2 * len(SHAPES)):
        drawn = batch(data, 5, group, 3)
        shapes.add(tuple(drawn.latents.shape[2:]))
        assert {tuple(row[4:].tolist()) for row in drawn.sizes} == {tuple(2 * n for n in drawn.latents.shape[2:])}
        for weight in drawn.weights.tolist():
            seen[weight] = seen.get(weight, 0) + 1
    assert len(shapes) == 3 and list(seen.values()) == [6] * len(SHAPES)
    again = batch(data, 5, 9, 3)
    assert torch.equal(again.latents, batch(mixed(tmp_path), 5, 9, 3).latents)


def test_mirrored_images_are_kept_and_shown_half_the_time(tmp_path: Path) -> None:
    data = mixed(tmp_path, flip=True)
    bucket = data.buckets[1]
    assert bucket.mirrored is not None
    left, right = bucket.views.mean[0, :, :, 0], bucket.mirrored.mean[0, :, :, 0]
    assert (left > 0.9).all() and (right < -0.9).all()
    drawn = torch.cat([draw(data, 3, group, DrawSettings(40, 0.0, PATH)).latents[:, 0, 0, 0] for group in range(20)])
    share = (drawn > 0).float().mean().item()
    assert 0.4 < share < 0.6


@pytest.mark.parametrize("role", ["prior", "prior_generated"])
def test_images_of_the_prior_are_drawn_apart(tmp_path: Path, role: str) -> None:
    data = mixed(tmp_path, prior=2, role=role)
    assert sum(len(bucket.caption) for bucket in data.prior) == 2
    assert sum(len(bucket.caption) for bucket in data.buckets) == len(SHAPES) - 2
    drawing = DrawSettings(2, 0.0, PATH)
    own, prior = draw(data, 3, 0, drawing), draw(data, 3, 0, drawing, prior=True)
    assert not torch.equal(own.timesteps, prior.timesteps)
    assert set(prior.weights.tolist()) <= {w for bucket in data.prior for w in bucket.weights.tolist()}
