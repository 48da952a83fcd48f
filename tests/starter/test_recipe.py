"""Every stage of the recipe runs, resumes and ends in folders the services' own loading code reads."""

import json
import random

import numpy as np
import pytest

from konomi_starter.data.captions import ATTRIBUTES

pytestmark = pytest.mark.slow


def portraits(path, count: int, seed: int) -> None:
    """Stands in for the renderer, which needs Node: coloured noise with the records it would write."""
    rng, words = np.random.default_rng(seed), random.Random(seed)
    path.with_suffix(".rgb").write_bytes(rng.integers(0, 256, (count, 64, 64, 3), np.uint8).tobytes())
    records = [{name: words.choice(values) for name, values in ATTRIBUTES.items()} for _ in range(count)]
    path.with_suffix(".json").write_text(json.dumps(records))


def test_the_smoke_preset_makes_loadable_models(tmp_path):
    import torch

    from konomi_starter.training import attribute_reader, embedding, evaluation, recipe

    torch.set_num_threads(1)
    for name, count, seed in (("train1", 128, 1), ("train2", 128, 2), ("val", 4000, 99)):
        portraits(tmp_path / name, count, seed)
    preset = recipe.PRESETS["smoke"]
    for stage in ("encoder", "unet", "decoder", "reader", "embedder", "assemble"):
        recipe.STAGES[stage](tmp_path, preset)
    models = tmp_path / "models"
    drawn = evaluation.sample(evaluation.load_pipeline(models / "diffusion"), ["comic portrait"] * 2, seed=1)
    assert drawn.shape == (2, 64, 64, 3)
    assert embedding.embed(embedding.load(models / "embedder"), drawn).shape == (2, 128)
    assert set(attribute_reader.load(models / "reader" / "model.safetensors").read(drawn)[0]) == set(ATTRIBUTES)


def test_a_killed_training_resumes_to_the_same_weights(tmp_path, monkeypatch):
    import torch

    from konomi_starter.training import autoencoder

    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)

    def train(checkpoint):
        torch.manual_seed(0)
        model = autoencoder.solve_encoder(pixels, 32)
        latents = autoencoder.encode(model, pixels, "cpu")
        settings = {"steps": 4, "batch": 4, "seed": 1, "device": "cpu", "save_every": 2}
        autoencoder.train_decoder(model, pixels, latents, pixels[:8], checkpoint=checkpoint, **settings)
        return model.decoder.state_dict()

    def kill(*_):
        raise KeyboardInterrupt

    whole = train(tmp_path / "whole.safetensors")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(autoencoder, "psnr", kill)  # called right after the checkpoint of step 2
        train(tmp_path / "killed.safetensors")
    resumed = train(tmp_path / "killed.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_closed_form_encoder_is_what_two_pcas_give():
    import torch

    from konomi_starter.training.autoencoder import LATENT_CHANNELS, encode, solve_encoder

    pixels = np.random.default_rng(0).integers(0, 256, (200, 64, 64, 3), np.uint8)
    latents = encode(solve_encoder(pixels, 32), pixels, "cpu").float()
    assert latents.shape == (200, LATENT_CHANNELS, 8, 8)
    flat = latents.permute(1, 0, 2, 3).flatten(1)
    assert torch.allclose(flat.mean(1), torch.zeros(LATENT_CHANNELS), atol=0.1)
    correlation = torch.corrcoef(flat)
    assert (correlation - torch.eye(LATENT_CHANNELS)).abs().max() < 0.15
