"""Prompts with emphasis and of any length in pictures: chunks, padding, words of adapters, no neighbour counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from konomi_chassis.models.families.family import TextReading
from konomi_chassis.models.prompt_encoder import PromptEncoder
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.backends.diffusers.pipeline import load_pipeline
from konomi_generator.backends.diffusers.text_conditioning import Texts
from konomi_generator.generator import Generator
from konomi_generator.requests import Image, Request
from konomi_generator.sampling import AdapterFile, ImageRequest, Sampling
from tests.generator.backends.diffusers.test_custom_diffusion import concept

WEIGHTED = Sampling(2, 4.0, 64, 64, prompt_syntax="weighted")
LONG = "1girl, long hair, " * 40


@pytest.fixture(scope="module")
def pipes(models, settings):
    """Loaded models by id."""
    device = torch.device("cpu")
    return {
        id: load_pipeline(models.get(id), settings.single_file_configs, device, torch.float32)
        for id in ("starter", "sd1", "sdxl")
    }


def drawn(pipe, prompt: str, sampling: Sampling) -> np.ndarray:
    with torch.inference_mode():
        return Denoiser(pipe).run(DenoisingBatch([ImageRequest(0, prompt, 5)], 1), sampling, lambda: False)


@torch.inference_mode()
def hidden(pipe, prompts: list[str], sampling: Sampling) -> torch.Tensor:
    return Texts(pipe).conditions(prompts, sampling, guided=True).hidden


@pytest.mark.parametrize("id", ["sd1", "sdxl"])
def test_a_short_prompt_without_marks_draws_the_same_bits_either_way(id: str, pipes) -> None:
    plain = drawn(pipes[id], "a cat", replace(WEIGHTED, prompt_syntax="plain"))
    assert np.array_equal(drawn(pipes[id], "a cat", WEIGHTED), plain)
    assert not np.array_equal(drawn(pipes[id], "a (cat:1.4)", WEIGHTED), plain)
    in_brackets = replace(WEIGHTED, prompt_syntax="plain")
    assert not np.array_equal(drawn(pipes[id], "a (cat:1)", in_brackets), plain), "plain reads brackets as text"
    assert np.array_equal(drawn(pipes[id], "a (cat:1)", WEIGHTED), plain)


@pytest.mark.parametrize("id", ["sd1", "sdxl"])
def test_the_shorter_of_prompt_and_negative_is_filled_with_empty_chunks(id: str, pipes) -> None:
    pipe = pipes[id]
    with torch.inference_mode():
        encoder = PromptEncoder(pipe)
        count = encoder.chunk_count(LONG)
        assert count > 1
        for prompt, negative in ((LONG, "blur"), ("a cat", LONG)):
            without, with_text = hidden(pipe, [prompt], replace(WEIGHTED, negative_prompt=negative)).chunk(2)
            assert torch.equal(without, encoder.encode(negative, count).hidden)
            assert torch.equal(with_text, encoder.encode(prompt, count).hidden)
            assert without.shape[1] == 77 * count
        without, _ = hidden(pipe, [LONG], WEIGHTED).chunk(2)
        zeros = id == "sdxl"  # force_zeros_for_empty_prompt
        assert torch.equal(without, torch.zeros_like(without) if zeros else encoder.encode("", count).hidden)


def test_clip_skip_draws_another_picture_where_the_layout_has_it(pipes) -> None:
    for syntax in ("plain", "weighted"):
        usual = replace(WEIGHTED, prompt_syntax=syntax)
        skipping = replace(usual, clip_skip=2)
        assert not np.array_equal(drawn(pipes["sd1"], "a cat", usual), drawn(pipes["sd1"], "a cat", skipping))
        assert np.array_equal(drawn(pipes["sdxl"], "a cat", usual), drawn(pipes["sdxl"], "a cat", skipping))
    bits = [
        drawn(pipes["sd1"], "a cat", replace(WEIGHTED, prompt_syntax=s, clip_skip=2)) for s in ("plain", "weighted")
    ]
    assert np.array_equal(*bits)


def test_an_encoder_with_a_small_window_reads_prompts_of_any_length_too(pipes) -> None:
    pipe = pipes["starter"]
    assert np.isfinite(drawn(pipe, LONG, WEIGHTED)).all()
    assert np.isfinite(drawn(pipe, LONG, replace(WEIGHTED, prompt_syntax="plain", clip_skip=2))).all()


def test_texts_are_remembered_by_how_they_are_read(pipes, monkeypatch) -> None:
    texts, read = Texts(pipes["sd1"]), []
    inner = PromptEncoder.encode_all

    def counted(self, prompts, *rest):
        read.extend(prompts)
        return inner(self, prompts, *rest)

    monkeypatch.setattr(PromptEncoder, "encode_all", counted)
    readings = [
        TextReading("weighted"),
        TextReading("weighted", 2),
        TextReading("weighted", 1, 2),
        TextReading("plain", 2),
    ]
    with torch.inference_mode():
        states = [texts.encode("a (cat)", reading).hidden for reading in readings * 2]
    assert read == ["a (cat)"] * 4 and all(torch.equal(*pair) for pair in zip(states[:4], states[4:], strict=True))
    assert [state.shape[1] for state in states[:4]] == [77, 77, 154, 77]
    assert not torch.equal(states[0], states[1]) and not torch.equal(states[1], states[3])


def test_texts_read_together_are_those_read_alone(pipes) -> None:
    prompts = ["a (cat:1.3)", LONG, "", "dog BREAK [cat]"]
    for id in ("sd1", "sdxl"):
        encoder = PromptEncoder(pipes[id])
        with torch.inference_mode():
            together, alone = encoder.encode_all(prompts, together=16), [encoder.encode(p) for p in prompts]
        for one, other in zip(together, alone, strict=True):
            assert one.hidden.shape == other.hidden.shape and torch.allclose(one.hidden, other.hidden, atol=1e-5)
            assert one.pooled is other.pooled is None or torch.allclose(one.pooled, other.pooled, atol=1e-5)


@pytest.mark.parametrize("base_model", ["sd1", "sdxl"])
def test_no_picture_depends_on_its_neighbours_whatever_the_length_of_their_prompts(
    generator: Generator, base_model: str
) -> None:
    prompts = ["a cat", LONG, "a (dog:1.2)", f"{LONG} BREAK {LONG}", "[a] cat", LONG]
    images = [Image(prompt, 50 + n) for n, prompt in enumerate(prompts)]
    given = {"base_model": base_model, "steps": 2, "width": 64, "height": 64, "negative_prompt": "(blur:1.2)"}

    def digests(some: list[Image]) -> dict[int, str]:
        made = generator.generate(Request(images=some, **given), lambda: False)
        return {one.seed: one.artifact.digest for one in made}

    whole = digests(images)
    assert len(set(whole.values())) == 6 and digests(images[::-1]) == whole
    assert all(digests([image])[image.seed] == whole[image.seed] for image in images[:2])


def test_images_of_other_lengths_never_share_a_batch(pipes) -> None:
    denoiser = Denoiser(pipes["sd1"])

    def length(prompt: str, **changes: object) -> int:
        return denoiser.kind(ImageRequest(0, prompt, 1), replace(WEIGHTED, **changes))[2]

    assert (length("a cat"), length("a cat BREAK a dog"), length("a cat", negative_prompt="a BREAK b BREAK c")) == (
        1,
        2,
        3,
    )
    assert length("a cat", negative_prompt="a BREAK b", guidance_scale=1.0) == 1, (
        "without guidance there is no negative"
    )
    assert length("a BREAK b", prompt_syntax="plain") == 1


@pytest.mark.parametrize("id", ["sd1", "sdxl"])
def test_an_adapter_s_words_are_read_among_weights(id: str, models, settings) -> None:
    pipe = load_pipeline(models.get(id), settings.single_file_configs, torch.device("cpu"), torch.float32)
    rows = {name: row for name, row in load(concept(pipe)).items() if name.startswith("tokens")}
    words = AdapterFile("a" * 64, save(rows, {"format": "konomi.custom_diffusion/1"}), 1.0)
    adapters, texts = Adapters(pipe), Texts(pipe)
    reading = TextReading("weighted")
    with torch.inference_mode():
        before = texts.encode("photo of a (<new1>:1.2) cat", reading).hidden
        count = texts.length("<new1> " * 40, WEIGHTED, guided=True)
        adapters.apply([words])
        texts.forget()
        bound = texts.encode("photo of a (<new1>:1.2) cat", reading).hidden
        assert not torch.equal(bound, before)
        plain = pipe.encode_prompt(
            "photo of a <new1> cat", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )[0]
        assert torch.allclose(texts.encode("photo of a <new1> cat", reading).hidden, plain, atol=1e-6)
        assert texts.length("<new1> " * 40, WEIGHTED, guided=True) == 1 < count, "a word is one token now"
        adapters.apply([])
        texts.forget()
        assert torch.equal(texts.encode("photo of a (<new1>:1.2) cat", reading).hidden, before)
