"""Memory runs out at every place of the generator: recovered with the same bits, or told in numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from konomi.errors import ResourceExhausted
from konomi_generator.backends.diffusers import adapters as adapters_module
from konomi_generator.backends.diffusers import memory_fallback
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.backends.diffusers.memory_fallback import FallbackLevel, in_blocks, move
from konomi_generator.sampling import AdapterFile, GeneratedImage, ImageRequest, Sampling
from tests.generator.backends.diffusers.test_adapters import lora

SAMPLING = Sampling(1, 4.0, 64, 64)
MESSAGE = "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 7.79 GiB"
PICTURE = np.full((64, 64, 3), 90, np.uint8)


class Short:
    """A function that runs out of memory the first so many times it is called."""

    def __init__(self, plain: Callable[..., Any], times: int) -> None:
        self.plain, self.times, self.calls = plain, times, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls <= self.times:
            raise torch.OutOfMemoryError(MESSAGE)
        return self.plain(*args, **kwargs)


def backend(settings) -> DiffusersBackend:
    made = DiffusersBackend(settings)
    made._measure = lambda _sampling, _length: (1,)  # which batch sizes agree is measured elsewhere
    return made


def images(made: DiffusersBackend, model: Any, *, init: bool = False) -> dict[int, GeneratedImage]:
    rows = [ImageRequest(n, "a cat", n, 1.0, (lambda: PICTURE) if init else None) for n in range(2)]
    results: dict[int, Any] = {}
    made.run(model, rows, SAMPLING, lambda: False, lambda index, image: results.update({index: image}))
    return results


def same(left: dict[int, GeneratedImage], right: dict[int, GeneratedImage]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[n].pixels, right[n].pixels) for n in left)


PLACES = ["text_encoder.forward", "vae.encode", "unet.forward", "vae.decode"]


@pytest.mark.parametrize("place", PLACES)
def test_a_phase_that_runs_out_once_is_done_again_with_less_on_the_device(place: str, models, settings) -> None:
    model, made, init = models.get("sd1"), backend(settings), place == "vae.encode"
    made.prepare(model, [], SAMPLING)
    whole = images(made, model, init=init)
    made._denoiser.texts.forget()
    part, method = place.split(".")
    network = getattr(made._denoiser.pipe, part)
    short = Short(getattr(network, method), 1)
    setattr(network, method, short)
    again = images(made, model, init=init)
    assert same(whole, again) and short.calls > 1
    assert {name for image in again.values() for name in image.fallbacks} == {"model_offload"}


@pytest.mark.parametrize("place", PLACES)
def test_a_phase_that_never_fits_is_told_with_numbers(place: str, models, settings) -> None:
    model, made, init = models.get("sd1"), backend(settings), place == "vae.encode"
    made.prepare(model, [], SAMPLING)
    part, method = place.split(".")
    network = getattr(made._denoiser.pipe, part)
    setattr(network, method, Short(getattr(network, method), 10**9))
    with pytest.raises(ResourceExhausted) as caught:
        images(made, model, init=init)
    assert caught.value.reason == "DEVICE_MEMORY"
    assert "64x64" in caught.value.message and "1.50 GiB more were asked for and" in caught.value.message


def test_what_fitted_is_remembered_for_the_shape_until_the_model_is_loaded_anew(models, settings) -> None:
    model, made = models.get("sd1"), backend(settings)
    made.prepare(model, [], SAMPLING)
    network = made._denoiser.pipe.unet
    network.forward = first = Short(network.forward, 2)
    assert {image.fallbacks for image in images(made, model).values()} == {("block_offload",)}
    assert first.calls == 4, "one failed beside others, one alone; the second image began where the first had fitted"
    images(made, model)
    assert first.calls == 6, "the next request begins there too"
    assert made.release() > 0 and made.release() == 0
    made.prepare(model, [], SAMPLING)
    assert {image.fallbacks for image in images(made, model).values()} == {()}


def test_a_model_that_cannot_be_read_into_memory_is_told_with_numbers(models, settings, monkeypatch) -> None:
    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", Short(UNet2DConditionModel.from_pretrained, 1))
    made = backend(settings)
    with pytest.raises(ResourceExhausted) as caught:
        made.prepare(models.get("sd1"), [], SAMPLING)
    assert caught.value.reason == "DEVICE_MEMORY"
    assert "while loading sd1: 1.50 GiB more were asked for" in caught.value.message
    assert "choose a smaller base model" in caught.value.message
    made.prepare(models.get("sd1"), [], SAMPLING)


def test_a_model_that_does_not_fit_on_the_device_goes_there_part_by_part(models, settings, monkeypatch) -> None:
    model, plain = models.get("sd1"), backend(settings)
    plain.prepare(model, [], SAMPLING)
    whole, made = images(plain, model), backend(settings)
    monkeypatch.setattr(memory_fallback, "move", Short(memory_fallback.move, 1))
    made.prepare(model, [], SAMPLING)
    again = images(made, model)
    assert same(whole, again) and {image.fallbacks for image in again.values()} == {("model_offload",)}


@pytest.mark.parametrize("times", [1, 10**9])
def test_an_adapter_is_fused_elsewhere_or_told_with_numbers(times: int, models, settings, monkeypatch) -> None:
    model, file = models.get("starter"), [AdapterFile("a" * 64, lora(1), 1.0)]
    plain = backend(settings)
    plain.prepare(model, file, SAMPLING)
    whole, made = images(plain, model), backend(settings)
    made.prepare(model, [], SAMPLING)
    base = images(made, model)
    monkeypatch.setattr(adapters_module, "rounded", Short(adapters_module.rounded, times))
    if times == 1:
        made.prepare(model, file, SAMPLING)
        assert same(whole, images(made, model)) and not same(whole, base)
        return
    with pytest.raises(ResourceExhausted) as caught:
        made.prepare(model, file, SAMPLING)
    assert caught.value.reason == "DEVICE_MEMORY"
    assert "while putting 1 adapters on starter: 1.50 GiB more" in caught.value.message
    assert same(base, images(made, model)), "the base is as it was"


def test_blocks_are_small_cover_the_network_and_change_no_bit(models, settings, monkeypatch) -> None:
    made = backend(settings)
    made.prepare(models.get("sd1"), [], SAMPLING)
    unet = made._denoiser.pipe.unet
    monkeypatch.setattr(memory_fallback, "BLOCK_BYTES", 100_000)
    blocks = list(memory_fallback._blocks(unet))
    counted = [id(weight) for block in blocks for weight in block.parameters()]
    assert len(counted) == len(set(counted)) == len(list(unet.parameters())) and len(blocks) > 20
    sizes = [
        sum(w.numel() * w.element_size() for w in block.parameters()) for block in blocks if list(block.children())
    ]
    assert max(sizes) <= 100_000
    given = (torch.randn(2, 4, 8, 8), torch.tensor(5), torch.randn(2, 77, 64))
    moved: list[str] = []
    plain = memory_fallback.move
    with torch.inference_mode():
        whole = unet(*given).sample
        monkeypatch.setattr(memory_fallback, "move", lambda m, d, *rest: moved.append(d.type) or plain(m, d, *rest))
        with in_blocks(unet, torch.device("cpu")):
            assert torch.equal(unet(*given).sample, whole)
    assert len(moved) >= 2 + 2 * len(blocks) - 2, "every block came and went"
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in blocks)


def test_weights_moved_while_images_are_made_can_be_written_afterwards(monkeypatch) -> None:
    monkeypatch.setattr(memory_fallback, "_is_on", lambda _tensor, _device: False)
    layer = torch.nn.Linear(2, 2)
    before, storage = layer.weight.detach().clone(), layer.weight.data_ptr()
    with torch.inference_mode():
        move(layer, torch.device("cpu"))
    assert layer.weight.data_ptr() != storage and torch.equal(layer.weight, before)
    with torch.no_grad():
        layer.weight.copy_(before + 1)


def test_the_levels_are_tried_in_the_order_that_changes_least() -> None:
    assert [level.name for level in FallbackLevel] == ["NOTHING", "WAITING", "BLOCKS", "TILES"]
