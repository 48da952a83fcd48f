"""Prompts as the web UI reads them: bits of diffusers where nothing is special, A1111's arithmetic where it is."""

import copy

import pytest
import torch

from konomi_chassis.models.prompt_encoder import PromptEncoder
from tests.generator import tiny_models


@pytest.fixture(scope="module", params=["sd1", "sd2", "sdxl"])
def pipe(request):
    return getattr(tiny_models, request.param)()


@torch.no_grad()
def ours(pipe, prompt, **options):
    encoded = PromptEncoder(pipe, options.pop("clip_skip", 1)).encode(prompt, **options)
    return encoded.hidden, encoded.pooled


@torch.no_grad()
def theirs(pipe, prompt):
    encoded = pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    return encoded[0], encoded[2] if hasattr(pipe, "text_encoder_2") else None


@pytest.mark.parametrize("prompt", ["", "a cat", "a cat, a dog, 1girl", "日本 ☃", "a " * 75])
def test_a_short_plain_prompt_has_the_bits_of_the_pipeline(pipe, prompt):
    (hidden, pooled), (other, other_pooled) = ours(pipe, prompt), theirs(pipe, prompt)
    assert torch.equal(hidden, other)
    assert pooled is other_pooled is None or torch.equal(pooled, other_pooled)


def test_a_prompt_of_two_chunks_is_both_joined(pipe):
    first, second = "a cat " * 37 + "a", "big dog"
    hidden, pooled = ours(pipe, f"{first} BREAK {second}")
    assert torch.equal(hidden, torch.cat([theirs(pipe, first)[0], theirs(pipe, second)[0]], dim=1))
    assert pooled is None or torch.equal(pooled, theirs(pipe, first)[1])
    assert torch.equal(ours(pipe, f"{first} {second}")[0], hidden)


def test_missing_chunks_are_filled_with_empty_ones(pipe):
    assert torch.equal(ours(pipe, "a cat", length=2)[0], ours(pipe, "a cat BREAK BREAK a")[0][:, : 2 * 77])


def test_a_weight_scales_its_tokens_and_the_mean_stays(pipe):
    plain, weighed = ours(pipe, "a cat")[0], ours(pipe, "a (cat:1.5)")[0]
    own = plain.clone()
    own[:, 2] *= 1.5
    width = [pipe.text_encoder.config.hidden_size]
    width += [pipe.text_encoder_2.config.hidden_size] if hasattr(pipe, "text_encoder_2") else []
    for part, before, after in zip(own.split(width, -1), plain.split(width, -1), weighed.split(width, -1), strict=True):
        assert torch.allclose(after, part * (before.mean() / part.mean()), rtol=1e-4, atol=1e-6)


def test_weights_of_one_are_no_weights(pipe):
    assert torch.equal(ours(pipe, "(a cat:1)")[0], ours(pipe, "a cat")[0])


def test_clip_skip_is_a_layer_earlier(pipe):
    hidden = ours(pipe, "a cat", clip_skip=2)[0]
    if hasattr(pipe, "text_encoder_2"):
        assert torch.equal(hidden, theirs(pipe, "a cat")[0]), "XL always reads the last but one"
        return
    shorter = copy.deepcopy(pipe.text_encoder)
    del shorter.encoder.layers[-1]
    ids = pipe.tokenizer("a cat", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(hidden, shorter(ids)[0]), "the same as an encoder without its last layer"
    assert not torch.equal(hidden, ours(pipe, "a cat")[0])


def test_a_text_is_encoded_alike_whatever_came_before(pipe):
    encoder = PromptEncoder(pipe)
    with torch.no_grad():
        first = encoder.encode("a (cat:1.2), " * 40).hidden
        encoder.encode("dog")
        assert torch.equal(encoder.encode("a (cat:1.2), " * 40).hidden, first)
        assert first.shape[1] == 77 * encoder.chunk_count("a (cat:1.2), " * 40)


def test_gradients_flow(pipe):
    assert PromptEncoder(pipe).encode("a (cat:1.3)").hidden.requires_grad
