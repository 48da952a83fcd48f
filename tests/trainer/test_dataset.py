"""Batches and caches: a function of seed and step, every image as often as the next, damaged files made again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from konomi_trainer.cache import TensorCache, key
from konomi_trainer.dataset import TrainingSet, build, draw, fit
from konomi_trainer.manifest import Item


class Encoder:
    """Counts what it is asked for."""

    space, resolution = "fake:cpu", 8

    def __init__(self) -> None:
        self.images, self.captions = 0, 0

    def encode_image(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        self.images += 1
        return {"mean": pixels[:, ::2, ::2].contiguous(), "std": torch.full((3, 4, 4), 0.5)}

    def encode_caption(self, caption: str) -> dict[str, torch.Tensor]:
        self.captions += 1
        return {"hidden": torch.full((2, 3), float(len(caption)))}


ITEMS = [Item(f"{i:064x}", "ab" if i % 2 else "", 1.0 + i, "selected") for i in range(5)]


def make(folder: Path, encoder: Encoder) -> TrainingSet:
    def pixels(digest: str) -> np.ndarray:
        return np.full((8, 8, 3), int(digest, 16) * 20, np.uint8)

    return build(ITEMS, pixels, encoder, TensorCache(folder), lambda: None)


def test_images_and_captions_are_encoded_once_for_ever(tmp_path: Path) -> None:
    encoder = Encoder()
    first = make(tmp_path, encoder)
    assert (encoder.images, encoder.captions) == (5, 2)
    assert first.hidden[first.caption].mean(dim=(1, 2)).tolist() == [0, 2, 0, 2, 0]
    assert first.weights.mean().item() == pytest.approx(1) and (
        first.weights[4] / first.weights[0]
    ).item() == pytest.approx(5)
    second = make(tmp_path, encoder)
    assert (encoder.images, encoder.captions) == (5, 2) and torch.equal(first.mean, second.mean)
    for path in tmp_path.glob("*/*.safetensors"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    third = make(tmp_path, encoder)
    assert (encoder.images, encoder.captions) == (10, 4) and torch.equal(first.mean, third.mean)


def test_a_batch_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    data = make(tmp_path, Encoder())
    one, two = draw(data, -3, 17, 4, 0.5, 1000), draw(data, -3, 17, 4, 0.5, 1000)
    assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True) if a is not None)
    assert not torch.equal(one.noise, draw(data, -3, 18, 4, 0.5, 1000).noise)
    assert not torch.equal(one.noise, draw(data, -2, 17, 4, 0.5, 1000).noise)


def test_every_image_comes_once_an_epoch(tmp_path: Path) -> None:
    data = make(tmp_path, Encoder())
    weights = torch.cat([draw(data, 1, step, 4, 0, 1000).weights for step in range(5)])
    for epoch in weights.split(5):
        assert sorted(epoch.tolist()) == sorted(data.weights.tolist())
    assert len(draw(data, 1, 3, 12, 0, 1000).weights) == 12


def test_captions_are_dropped_and_latents_vary(tmp_path: Path) -> None:
    data = make(tmp_path, Encoder())
    kept, dropped = draw(data, 1, 0, 200, 0.0, 1000), draw(data, 1, 0, 200, 0.3, 1000)
    share = (dropped.hidden != kept.hidden).any(dim=(1, 2)).sum() / (kept.hidden != 0).any(dim=(1, 2)).sum()
    assert 0.2 < share < 0.4 and not draw(data, 1, 0, 200, 1.0, 1000).hidden.any()
    assert kept.latents.std() > data.mean.std()


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
