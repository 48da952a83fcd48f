"""Views of concepts and the batch of a step: scales with their words, what is real, half concepts and half prior."""

import numpy as np
import pytest
import torch

from konomi_chassis.models.families.unet.discrete_path import DiscretePath
from konomi_trainer.data.cache import TensorCache
from konomi_trainer.data.manifest import ManifestItem
from konomi_trainer.methods.base import TrainingSource
from konomi_trainer.methods.concept_set import ConceptSet, Framing, build, described, draw, framings, see
from konomi_trainer.methods.losses import masked_mse


class Base:
    """Latents are 4-pixel means; a caption's embedding is its length."""

    space, text_space, resolution = "fake:cpu", "fake:cpu", 16

    def encode_image(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mean": torch.nn.functional.avg_pool2d(pixels, 4), "std": torch.full((3, 4, 4), 0.1)}

    def encode_caption(self, caption: str) -> dict[str, torch.Tensor]:
        return {"hidden": torch.full((2, 3), float(len(caption)))}


PATH = DiscretePath(torch.ones(10), "epsilon")
CONCEPTS = [ManifestItem(f"{n:064x}", "a <a> face", 1.0 + n, "selected") for n in range(3)]
PRIOR = [ManifestItem(f"{n:064x}", f"face {n}", 1.0, "prior") for n in range(10, 15)]


def made(folder, priors=PRIOR, scales: bool = True) -> ConceptSet:  # type: ignore[no-untyped-def]
    def pixels(digest: str) -> np.ndarray:
        return np.full((16, 16, 3), 200 if int(digest, 16) < 10 else 20, np.uint8)

    source = TrainingSource(CONCEPTS, pixels, TensorCache(folder), lambda: None)
    return build(CONCEPTS, priors, Base(), source, scales)  # type: ignore[arg-type]


def test_framings_cover_the_scales_and_say_so() -> None:
    frames = framings("ab" * 32, 20)
    assert frames == framings("ab" * 32, 20) != framings("cd" * 32, 20)
    scales = [frame.scale for frame in frames]
    assert 0.4 <= min(scales) < 0.45 and 1.35 < max(scales) <= 1.4 and scales == sorted(scales)
    for frame in frames:
        words = (
            ("far away", "very small") if frame.scale < 0.6 else ("zoomed in", "close up") if frame.scale > 1 else ("",)
        )
        assert frame.words in words
    assert {frame.mirrored for frame in frames} == {True, False}
    assert described("a cat", "close up") == "a cat, close up" and described("a cat", "") == "a cat"


def test_a_smaller_view_is_real_only_where_the_image_lies() -> None:
    pixels = torch.ones(3, 16, 16)
    seen, mask = see(pixels, Framing(scale=0.5, across=1.0, down=0.0), 4)
    assert mask[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert bool((seen[:, :8, 8:] == 1).all()) and not seen[:, 8:].any() and not seen[:, :, :8].any()
    odd, mask = see(pixels, Framing(scale=0.6, across=0.0, down=0.0), 4)  # 10 pixels: the third cell is half real
    assert mask.sum() == 4 and odd.shape == (3, 16, 16)
    near, mask = see(torch.arange(256.0).view(1, 16, 16).expand(3, -1, -1) / 255, Framing(scale=1.25), 4)
    assert mask.sum() == 16 and near.shape == (3, 16, 16)
    plain, _ = see(torch.rand(3, 16, 16), Framing(), 4)
    mirrored, _ = see(plain, Framing(mirrored=True), 4)
    assert torch.equal(mirrored.flip(-1), plain)


def test_half_of_a_batch_is_prior_and_every_image_comes_as_often(tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = made(tmp_path)
    assert data.mean.shape == (3, 16, 3, 4, 4) and data.weights.mean().item() == pytest.approx(1)
    seen, priors = [], []
    for step in range(30):
        rows = draw(data, 1, step, 7, 0.0, PATH)
        assert rows.concepts == 4 and len(rows.prior) == 3 and rows.latents.shape == (7, 3, 4, 4)
        assert bool(rows.mask[4:].all()) and bool((rows.weights[4:] == 1).all())
        seen += rows.weights[:4].tolist()
        priors += rows.prior.tolist()
    assert all(seen.count(weight) == 40 for weight in data.weights.tolist())
    assert all(priors.count(index) == 18 for index in range(5))
    one, two = draw(data, 1, 3, 7, 0.5, PATH), draw(data, 1, 3, 7, 0.5, PATH)
    assert all(
        torch.equal(a, b) for a, b in zip(list(vars(one).values())[1:], list(vars(two).values())[1:], strict=True)
    )
    assert not torch.equal(one.noise, draw(data, 2, 3, 7, 0.5, PATH).noise)
    assert (draw(data, 1, 0, 400, 0.3, PATH).prompt == -1).float().mean().item() == pytest.approx(0.3, abs=0.1)


def test_without_prior_or_scales_there_are_only_concepts(tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = made(tmp_path, priors=[], scales=False)
    rows = draw(data, 1, 0, 6, 0.0, PATH)
    assert rows.concepts == 6 and not len(rows.prior) and bool(rows.mask.all()) and data.prompts == ["a <a> face"]
    assert made(tmp_path, priors=[]).prompts == sorted(
        ["a <a> face", *(f"a <a> face, {words}" for words in ("far away", "very small", "zoomed in", "close up"))]
    )


def test_the_masked_loss_sees_nothing_outside_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted, error = torch.randn(2, 3, 4, 4, generator=generator), torch.zeros(2, 3, 4, 4)
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, :, :2, :2], mask[1] = 1, 1
    error[0, :, 0, 0], error[0, :, 3, 3], error[1] = 2.0, 100.0, 1.0
    loss = masked_mse(wanted + error, wanted, mask, torch.tensor([1.0, 0.5]))
    assert loss.item() == pytest.approx(4 / 4 + 0.5, rel=1e-5)
    assert masked_mse(wanted, wanted, torch.zeros_like(mask), torch.ones(2)).item() == 0
