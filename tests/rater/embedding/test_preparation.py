"""An embedder prepares images as the library that made its weights does: to one level in white noise."""

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image

from konomi_rater.embedding.open_clip import like_open_clip
from konomi_rater.embedding.timm import like_timm
from konomi_rater.embedding.tower import Preparation, ResizeRule

SIZES = [(300, 200), (257, 401), (60, 90), (1100, 900)]


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 255, (height, width, 3), dtype=np.uint8) for width, height in SIZES]


def same(prepare: Preparation, transform) -> None:
    level = 1 / 255 / torch.tensor(prepare.std).view(3, 1, 1)
    for image in pictures():
        difference = (prepare([image])[0] - transform(Image.fromarray(image))).abs() / level
        assert difference.max() < 1.01 and difference.mean() < 0.01


@pytest.mark.parametrize("mode, way", [("shortest", "bicubic"), ("squash", "bilinear")])
def test_as_open_clip_does(mode, way):
    found = {
        "size": 64,
        "mean": (0.48, 0.46, 0.41),
        "std": (0.27, 0.26, 0.28),
        "interpolation": way,
        "resize_mode": mode,
    }
    config = open_clip.transform.PreprocessCfg(**found)
    same(like_open_clip(found), open_clip.transform.image_transform_v2(config, is_train=False))


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_as_timm_does(name):
    found = timm.data.resolve_model_data_config(timm.create_model(name, pretrained=False))
    same(like_timm(found), timm.data.create_transform(**found, is_training=False))


def test_an_image_of_the_right_size_goes_in_as_it_is():
    prepare = like_open_clip(
        {"size": 8, "mean": (0, 0, 0), "std": (1, 1, 1), "interpolation": "bicubic", "resize_mode": "shortest"}
    )
    image = np.random.default_rng(1).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    assert torch.equal(prepare([image, image])[1], torch.from_numpy(image).permute(2, 0, 1) / 255)


def test_a_transform_that_cannot_be_repeated_exactly_is_refused():
    with pytest.raises(ValueError, match="longest"):
        like_open_clip(
            {"size": 8, "mean": (0, 0, 0), "std": (1, 1, 1), "interpolation": "bicubic", "resize_mode": "longest"}
        )


@pytest.mark.parametrize("size", [(1000, 700), (523, 999)])
def test_an_image_shrunk_before_becomes_the_size_its_whole_would(size):
    prepare = Preparation(ResizeRule(64, 56, 56), (0, 0, 0), (1, 1, 1))
    rng = np.random.default_rng(2)
    whole = Image.fromarray(rng.integers(0, 255, (5, 5, 3), dtype=np.uint8)).resize(size, 3)
    fitted = prepare.fitted(np.array(whole.reduce(3)), *size)
    assert fitted.shape == (56, 56, 3)
    assert np.abs(fitted.astype(int) - prepare.fitted(np.array(whole), *size)).mean() < 1.0


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 1), (3, 3000)])
def test_a_line_is_an_image_like_any_other_and_costs_no_more(size, squash):
    prepare = Preparation(ResizeRule(64, 56, 56, squash), (0, 0, 0), (1, 1, 1))
    line = np.full((size[1], size[0], 3), 77, np.uint8)
    assert np.all(prepare.fitted(line, *size) == 77) and prepare.fitted(line, *size).shape == (56, 56, 3)
