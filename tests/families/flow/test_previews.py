"""Previews of flow models: the tiny autoencoder of their latents shows what the network thinks the image will be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

from konomi.errors import FailedPrecondition, KonomiError
from konomi_chassis.models.catalogue import BaseModels
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.backends.diffusers.pipeline import load_preview_decoder
from konomi_generator.sampling import GeneratedImage, ImageRequest, Preview, Sampling
from konomi_generator.settings import GeneratorSettings
from tests.families.flow.test_images import CPU
from tests.families.flow.test_packed import load

SIDE, STEPS = 32, 3
DECODERS = {"sd3": "sd3", "flux1-dev": "flux1", "chroma": "flux1", "z-image": "flux1"}


def with_decoder(home: Path, folder: Path, id: str, channels: int) -> AutoencoderTiny:
    """Puts a random decoder beside a model of a home of its own, and returns it."""
    torch.manual_seed(5)
    tiny = AutoencoderTiny(latent_channels=channels)
    (folder / "models" / "tiny_vae").mkdir(parents=True)
    (folder / "models" / id).symlink_to(home / "models" / id)
    save_file(tiny.state_dict(), folder / "models" / "tiny_vae" / f"{DECODERS[id]}.safetensors")
    return tiny


@pytest.mark.slow
@pytest.mark.parametrize("id", ["sd3", "chroma"])
def test_a_decoder_of_as_many_channels_is_loaded_and_another_refused(id: str, home: Path, tmp_path: Path) -> None:
    pipe, model = load(home, id), BaseModels(home).get(id)
    channels = pipe.transformer.config.in_channels // (1 if id in ("sd3", "z-image") else 4)
    tiny = with_decoder(home, tmp_path / "own", id, channels)
    loaded = load_preview_decoder(pipe, model, tmp_path / "own" / "models", CPU).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tiny.state_dict().items())
    with_decoder(home, tmp_path / "other", id, channels + 1)
    with pytest.raises(FailedPrecondition, match="holds weights of another autoencoder"):
        load_preview_decoder(pipe, model, tmp_path / "other" / "models", CPU)


@pytest.mark.slow
def test_previews_come_and_leave_the_image_as_it_is(home: Path, tmp_path: Path) -> None:
    with_decoder(home, tmp_path, "z-image", 16)
    model, row = BaseModels(tmp_path).get("z-image"), ImageRequest(0, "a cat", 5)
    images, previews = list[np.ndarray](), list[Preview]()

    def deliver(index: int, image: GeneratedImage | Preview | KonomiError) -> None:
        if isinstance(image, Preview):
            previews.append(image)
        else:
            assert isinstance(image, GeneratedImage)
            images.append(image.pixels)

    backend = DiffusersBackend(GeneratorSettings(home=tmp_path, device="cpu", threads=1))
    for every in (0, 1):
        sampling = Sampling(STEPS, 1.0, SIDE, SIDE, preview_every=every)
        backend.prepare(model, [], sampling, 1)
        backend.run(model, [row], sampling, lambda: False, deliver)
    assert np.array_equal(*images) and previews
    shown = [preview.pixels for preview in previews]
    assert all(np.isfinite(pixels).all() for pixels in shown) and (shown[0] != shown[-1]).any()
