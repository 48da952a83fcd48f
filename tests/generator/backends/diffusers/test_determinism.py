"""An image depends on its own prompt, seed and settings alone: same digest whatever the batch."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from konomi_chassis.decoding.decoder import Decoder
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.backends.diffusers.batches import SIZES, DenoisingBatch, plan
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.backends.diffusers.pipeline import load_pipeline
from konomi_generator.generator import Generator
from konomi_generator.requests import Image, Request
from konomi_generator.sampling import ImageRequest, Sampling


def digests(generator: Generator, images: list[Image], **settings: object) -> dict[int, str]:
    """Returns digests by seed."""
    request = Request(images=images, **settings)
    found = {}
    for item in generator.generate(request, lambda: False):
        assert item.error is None, item.error
        found[item.seed] = item.artifact.digest
    assert len(found) == len(images)
    return found


@pytest.fixture
def of_all_sizes(models, store, settings) -> Iterator[Generator]:
    """A generator that chooses among all batch sizes there are."""
    decoder = Decoder()
    generator = Generator(models, store, DiffusersBackend(settings), decoder, writers=2, max_side=512)
    yield generator
    generator.close()
    decoder.close()


def test_batch_size_and_order_change_no_digest(of_all_sizes: Generator) -> None:
    unchanged(of_all_sizes, "starter", (1, 3, 8, 16, 32))


@pytest.mark.parametrize("base_model", ["sd1", "sdxl"])
def test_nor_do_they_with_other_layouts(generator: Generator, base_model: str) -> None:
    unchanged(generator, base_model, (3, 8))


def unchanged(generator: Generator, base_model: str, sizes: tuple[int, ...]) -> None:
    images = [Image(f"portrait {n % 3}", 1000 + n) for n in range(19)]
    given = {"base_model": base_model, "steps": 2, "width": 64, "height": 64}
    whole = digests(generator, images, **given)
    assert len(set(whole.values())) == 19
    for size in sizes:
        assert digests(generator, images[::-1], batch_size=size, **given) == whole, size
    for image in (images[0], images[7]):
        assert digests(generator, [image], **given)[image.seed] == whole[image.seed]


def test_a_stochastic_scheduler_draws_from_the_image_s_own_seed(generator: Generator) -> None:
    images = [Image("x", n) for n in range(6)]
    given = {"steps": 3, "scheduler": "EulerAncestralDiscreteScheduler"}
    whole = digests(generator, images, **given)
    assert digests(generator, images[::-1], batch_size=4, **given) == whole
    assert digests(generator, images[3:4], **given)[3] == whole[3]
    assert whole != digests(generator, images, steps=3)


def test_workers_change_no_digest(generator: Generator, settings, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [Image("x", n) for n in range(12)]
    whole = digests(generator, images, steps=2)
    monkeypatch.setattr(type(settings), "thread_count", lambda _self: 3)
    assert digests(generator, images, steps=2) == whole


def test_stable_sizes_are_measured_and_wrong_ones_left_out(models, settings) -> None:
    pipe = load_pipeline(models.get("starter"), settings.single_file_configs, torch.device("cpu"), torch.float32)
    denoiser, sampling = Denoiser(pipe), Sampling(2, 4.0, 64, 64)
    plain = pipe.unet.forward

    def batch_dependent(sample, *args, **kwargs):
        result = plain(sample, *args, **kwargs)
        return (result[0] + (1e-6 if len(sample) == 4 else 0), *result[1:])

    with torch.inference_mode():
        stable = denoiser.stable_sizes(sampling)
        assert set(stable) <= {*SIZES, 1}
        pipe.unet.forward = batch_dependent
        assert 4 not in denoiser.stable_sizes(sampling)
        pipe.unet.forward = lambda sample, *a, **k: (plain(sample, *a, **k)[0] + len(sample) * 1e-3,)
        assert denoiser.stable_sizes(sampling) == (1,)


def test_padding_rows_change_nothing(models, settings) -> None:
    pipe = load_pipeline(models.get("starter"), settings.single_file_configs, torch.device("cpu"), torch.float32)
    requests = [ImageRequest(n, "x", n) for n in range(4)]
    with torch.inference_mode():
        denoiser, sampling = Denoiser(pipe), Sampling(2, 4.0, 64, 64)
        whole = denoiser.run(DenoisingBatch(requests, 4), sampling, lambda: False)
        part = denoiser.run(DenoisingBatch(requests[:3], 4), sampling, lambda: False)
    assert np.array_equal(whole[:3], part)


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (5, 2), (48, 2), (256, 2), (100, 3)])
def test_a_plan_holds_every_image_once_and_balances(count: int, workers: int) -> None:
    requests = [ImageRequest(n, "x", n) for n in range(count)]
    batches = plan(requests, SIZES, workers, lambda _item: 8)
    assert [item for batch in batches for item in batch.images] == requests
    assert all(len(batch.images) <= batch.rows and batch.rows in SIZES for batch in batches)
    assert sum(batch.rows for batch in batches) - count < 4


def test_images_with_other_step_counts_never_share_a_batch() -> None:
    requests = [ImageRequest(n, "x", n, strength=0.5 if n % 2 else 1.0) for n in range(10)]
    for batch in plan(requests, SIZES, 1, lambda item: int(8 * item.strength)):
        assert len({item.strength for item in batch.images}) == 1


def test_texts_encoded_by_many_threads_at_once_are_those_encoded_alone(models, settings) -> None:
    pipe = load_pipeline(models.get("starter"), settings.single_file_configs, torch.device("cpu"), torch.float32)
    texts = [" ".join(["a red cat"] * (1 + i % 5)) + f" {i}" for i in range(200)]
    denoiser = Denoiser(pipe)
    with torch.inference_mode():
        alone = [Denoiser(pipe).text(text).hidden for text in texts]

    def encode(text: str) -> torch.Tensor:
        with torch.inference_mode():
            return denoiser.text(text).hidden

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(encode, texts))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
