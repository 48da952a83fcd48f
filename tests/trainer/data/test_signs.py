"""Rows of signed batches: six pairs and four base images in sixteen, the same for a seed and a step, split or whole."""

from collections import Counter

import numpy as np
import pytest
import torch

from konomi_chassis.models.families.unet.discrete_path import DiscretePath
from konomi_trainer.data import dataset, signs
from konomi_trainer.data.cache import TensorCache
from konomi_trainer.data.manifest import ManifestItem


def bucket(selected: int = 9, avoided: int = 9, base: int = 3, prompts: int = 3, seed: int = 4) -> signs.SignedBucket:
    kinds = np.array([1] * selected + [-1] * avoided + [0] * base)
    captions = np.concatenate([np.arange(count) % prompts for count in (selected, avoided, base)])
    return signs.SignedBucket(kinds, captions, 0, seed)


def test_a_batch_of_sixteen_is_six_pairs_of_one_prompt_and_four_of_the_base() -> None:
    rows = bucket()
    for step in range(20):
        drawn = rows.rows(16 * step, 16)
        assert Counter(drawn.signs.tolist()) == {1: 6, -1: 6, 0: 4}
        assert rows.signs[drawn.index].tolist() == drawn.signs.tolist()
        for place in np.flatnonzero(drawn.signs == 1).tolist():
            assert drawn.signs[place + 1] == -1
            assert rows.captions[drawn.index[place]] == rows.captions[drawn.index[place + 1]]


def test_every_selected_image_comes_once_an_epoch_and_the_avoided_take_turns() -> None:
    drawn = bucket().rows(0, 16 * 9)  # 54 pairs: six epochs of nine
    for sign, first, each in ((1, 0, 6), (-1, 9, 6), (0, 18, 12)):
        seen = Counter(drawn.index[drawn.signs == sign].tolist())
        assert seen == dict.fromkeys(range(first, first + (3 if sign == 0 else 9)), each)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 16])
def test_a_row_is_the_same_however_it_is_cut(size: int) -> None:
    rows, whole = bucket(), bucket().rows(0, 336)
    parts = [rows.rows(first, size) for first in range(0, 336, size)]
    assert np.concatenate([part.index for part in parts]).tolist() == whole.index.tolist()
    assert np.concatenate([part.signs for part in parts]).tolist() == whole.signs.tolist()
    assert bucket(seed=5).rows(0, 336).index.tolist() != whole.index.tolist()


def test_pairs_stay_together_in_batches_of_even_size() -> None:
    for size in (2, 4, 8):
        for step in range(16):
            drawn = bucket().rows(size * step, size).signs.tolist()
            assert all(drawn[place + 1] == -1 for place in range(0, size, 2) if drawn[place] == 1), drawn


def test_a_selected_image_without_an_avoided_one_leaves_its_place_to_the_base() -> None:
    lonely = bucket(selected=2, avoided=1, base=2, prompts=2)  # the second prompt has none to avoid
    drawn = lonely.rows(0, 32)
    for place in np.flatnonzero(drawn.signs == 1).tolist():
        partner = int(drawn.signs[place + 1])
        assert partner == (-1 if lonely.captions[drawn.index[place]] == 0 else 0)
    held = bucket(selected=2, avoided=1, base=0, prompts=2).rows(0, 16)
    for place in np.flatnonzero(held.signs == 0).tolist():
        assert held.index[place] == held.index[place - 1]


@pytest.mark.parametrize(("base", "expected"), [(0, 0), (1, 2), (3, 4), (9, 8), (60, 14)])
def test_base_images_have_the_share_they_have_in_the_set(base: int, expected: int) -> None:
    assert int((bucket(base=base).period() == 0).sum()) == expected


class Encoder:
    space, text_space, resolution, step = "fake:cpu", "fake:cpu", 8, 4

    def encode_image(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mean": pixels[:, ::2, ::2].contiguous()}

    def encode_caption(self, caption: str) -> dict[str, torch.Tensor]:
        return {"hidden": torch.full((2, 3), float(len(caption)))}


def test_buckets_are_drawn_as_often_as_they_hold_selected_and_base_images(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Each size is a bucket of its own; what is avoided in one never stands beside what is selected in another."""
    roles = ["selected", "avoided", "avoided", "base", "selected", "avoided", "avoided", "avoided"]
    items = [ManifestItem(f"{n:064x}", "a face", 1.0, role) for n, role in enumerate(roles)]

    def pixels(digest: str) -> np.ndarray:
        return np.full((8, 8 if int(digest, 16) < 4 else 16, 3), int(digest, 16), np.uint8)

    shape = dataset.Shape(((8, 8), (4, 8)))
    data = dataset.build(items, pixels, Encoder(), TensorCache(tmp_path), lambda: None, shape)
    path = DiscretePath(torch.ones(1000), "epsilon")
    counts: Counter[tuple[int, ...]] = Counter()
    for step in range(30):
        batch = dataset.draw(data, 7, step, dataset.DrawSettings(4, 0.0, path, signed=True))
        assert batch.signs is not None and len(batch.signs) == 4
        counts[tuple(batch.latents.shape[2:])] += 1
    assert counts == {(4, 4): 20, (2, 4): 10}
    plain = dataset.draw(data, 7, 0, dataset.DrawSettings(4, 0.0, path))
    assert plain.signs is None
