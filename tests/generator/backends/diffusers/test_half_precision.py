"""Images in float16, every GPU's default: made, repeatable, and decoded again where the autoencoder overflows."""

import numpy as np
import pytest
import torch

from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.sampling import AdapterFile, ImageRequest, Sampling
from tests.generator.backends.diffusers.test_adapters import lora

SAMPLING = Sampling(2, 4.0, 64, 64, guide_from_base=True)


def drawn(made: DiffusersBackend, model, adapters=()) -> dict:
    made._measure = lambda _sampling, _length: (2,)
    pictures: dict = {}
    made.prepare(model, list(adapters), SAMPLING)
    rows = [ImageRequest(n, "a cat", n) for n in range(2)]
    made.run(model, rows, SAMPLING, lambda: False, lambda index, image: pictures.update({index: image}))
    return pictures


def half(settings, precision: str = "fp16") -> DiffusersBackend:
    return DiffusersBackend(settings.model_copy(update={"precision": precision}))


@pytest.mark.parametrize("id", ["starter", "sd1"])
def test_float16_images_with_an_adapter_are_near_those_of_float32_and_repeat(id: str, models, settings) -> None:
    files = [AdapterFile("a" * 64, lora(1), 1.0)] if id == "starter" else []
    model, made = models.get(id), half(settings)
    exact, once = drawn(DiffusersBackend(settings), model, files), drawn(made, model, files)
    again = drawn(half(settings), model, files)
    for n in exact:
        assert np.array_equal(once[n].pixels, again[n].pixels) and once[n].fallbacks == ()
        assert np.abs(once[n].pixels.astype(int) - exact[n].pixels).mean() < 4


def overflowing(network: torch.nn.Module) -> None:
    """Makes activations of a decoder exceed what float16 holds, as SDXL's do, and brings them back."""
    network.decoder.mid_block.resnets[0].register_forward_hook(lambda _module, _given, answer: answer * 1e6 / 1e6)


def test_an_autoencoder_that_overflows_decodes_again_in_float32_and_the_image_says_so(models, settings) -> None:
    made, model = half(settings), models.get("sd1")
    whole = drawn(made, model)
    overflowing(made._denoiser.pipe.vae)
    mended = drawn(made, model)
    for n in whole:
        assert mended[n].fallbacks == ("fp32_decoding",)
        assert np.abs(whole[n].pixels.astype(int) - mended[n].pixels).mean() < 4
    assert made._denoiser.pipe.vae.dtype == torch.float16, "the next image has the bits it always had"


def test_pixels_that_are_infinite_are_no_white(models, settings) -> None:
    made, model = DiffusersBackend(settings), models.get("sd1")
    drawn(made, model)
    network = made._denoiser.pipe.vae
    plain = network.decode
    network.decode = lambda *args, **kwargs: tuple(part * torch.inf for part in plain(*args, **kwargs))
    for image in drawn(made, model).values():
        assert image.reason == "NOT_AN_IMAGE" and "precision to fp32" in image.message
