"""Memory runs out while an embedder is loaded or looks at images: smaller passes, or a sentence with numbers."""

import numpy as np
import open_clip
import pytest
import torch

from konomi.errors import ResourceExhausted
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.registry import Embedders
from tests.rater.models_on_disk import write_second_model

CPU = Placement("cpu", 1, 16)
PICTURES = [np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8) for i in range(5)]


def short(*_args: object, **_kwargs: object) -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB.")


def test_an_embedder_that_does_not_fit_is_told_with_numbers_and_can_be_opened_later(tmp_path, monkeypatch) -> None:
    name = write_second_model(tmp_path)
    embedders = Embedders(tmp_path, CPU)
    monkeypatch.setattr(open_clip, "create_model", short)
    with pytest.raises(ResourceExhausted) as caught:
        embedders.open(name)
    assert caught.value.reason == "OUT_OF_MEMORY"
    assert f"while loading the embedder '{name}': 1.50 GiB more were asked for" in caught.value.message
    assert "embedder_device to cpu" in caught.value.message
    monkeypatch.undo()
    assert embedders.open(name).embed(PICTURES, keep=False).shape == (5, 24)


@pytest.mark.slow
def test_a_pass_that_does_not_fit_is_made_in_halves_but_one_to_be_kept_is_told(tmp_path) -> None:
    opened = Embedders(tmp_path, CPU).open(write_second_model(tmp_path))
    whole, sizes, plain = opened.embed(PICTURES, keep=False), [], opened._image

    def limited(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        return plain(pixels) if len(pixels) <= 2 else short()

    opened._image = limited
    assert np.allclose(opened.embed(PICTURES, keep=False), whole, atol=1e-6)
    assert sizes == [5, 3, 2, 1, 2]
    with pytest.raises(ResourceExhausted) as caught:
        opened.embed(PICTURES, keep=True)
    assert caught.value.reason == "OUT_OF_MEMORY" and "while embedding 16 images: 1.50 GiB" in caught.value.message
