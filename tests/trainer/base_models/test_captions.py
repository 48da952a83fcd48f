"""Captions as a run reads them: bits of diffusers where nothing is special, the generator's reading where it is."""

from pathlib import Path
from typing import Any

import pytest
import torch

from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.families.condition import Condition
from konomi_chassis.models.prompt_encoder import PromptEncoder
from konomi_trainer.base_models import pipeline
from konomi_trainer.base_models.captions import CaptionReading
from konomi_trainer.data.conditions import CHUNK_STATES, embedded
from konomi_trainer.data.dataset import Batch
from konomi_trainer.methods import custom_diffusion, lora, token_rows
from konomi_trainer.methods.concepts import Concept
from tests.trainer import tiny

BASES = ("tiny", "tiny-xl")
SHORT, WEIGHTED = ["a face", "", "two", "a dog"], CaptionReading("weighted")
LONG = "a face, " * 20
"""120 tokens of the tiny bases, which spell."""


def loaded(bases: Path, base: str, reading: CaptionReading = WEIGHTED, precision: str = "fp32") -> Any:
    """Returns a base that reads captions so."""
    (home := bases.parent / "captions-home").mkdir(exist_ok=True)
    if not (home / "models").exists():
        (home / "models").symlink_to(bases)
    placement = pipeline.TrainingPlacement("cpu", precision, False)
    return pipeline.load(BaseModels(home).get(base), home, "0" * 64, placement, 0, reading)


@pytest.mark.parametrize("base", BASES)
def test_short_plain_captions_have_the_bits_of_the_plain_reading(base: str, bases: Path) -> None:
    plain, weighted = loaded(bases, base, CaptionReading()), loaded(bases, base)
    theirs = plain._pipe.encode_prompt(SHORT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    kept = torch.tensor([float(caption != "") for caption in SHORT]) if base == "tiny-xl" else torch.ones(len(SHORT))
    for own in (plain.embed(SHORT), weighted.embed(SHORT)):
        assert torch.equal(own["hidden"], theirs[0] * kept.view(-1, 1, 1)) and "mask" not in own
        assert base == "tiny" or torch.equal(own["pooled"], theirs[2] * kept.view(-1, 1))
    for caption in SHORT:
        one, other = plain.encode_caption(caption), weighted.encode_caption(caption)
        assert all(torch.equal(one[name], other[name]) for name in one) and set(other) - set(one) == {"chunks"}


@pytest.mark.parametrize("base", BASES)
def test_what_is_weighted_is_the_generators_prompt(base: str, bases: Path) -> None:
    held = loaded(bases, base)
    for caption in ("a (face:1.4), [dim]", f"one BREAK {LONG}"):
        own = held.encode_caption(caption)
        with torch.no_grad():
            theirs = PromptEncoder(held._pipe).encode(caption)
        assert torch.equal(own["hidden"], theirs.hidden[0])
        assert base == "tiny" or torch.equal(own["pooled"], theirs.pooled[0])
    assert not torch.equal(held.encode_caption("a (face)")["hidden"], held.encode_caption("a face")["hidden"])


@pytest.mark.parametrize("base", BASES)
def test_a_caption_is_cut_at_three_chunks_and_says_how_many_it_has(base: str, bases: Path) -> None:
    held = loaded(bases, base)
    own = held.encode_caption(LONG * 3)
    assert own["hidden"].shape[0] == 3 * CHUNK_STATES and own["chunks"] > 3
    with torch.no_grad():
        whole = PromptEncoder(held._pipe).encode(LONG * 3).hidden[0]
    assert torch.equal(own["hidden"], whole[: 3 * CHUNK_STATES])


@pytest.mark.parametrize("base", BASES)
def test_captions_together_are_the_captions_alone(base: str, bases: Path) -> None:
    held, captions = loaded(bases, base), ["", "a (face:1.2)", LONG, LONG * 3]
    together = held.embed(captions)
    assert together["mask"].sum(1).tolist() == [CHUNK_STATES * n for n in (1, 1, 2, 3)]
    for row, caption in enumerate(captions):
        alone = held.encode_caption(caption)
        length = len(alone["hidden"])
        assert (together["hidden"][row, :length] - alone["hidden"]).abs().max() <= 1e-6
        assert not together["hidden"][row, length:].any()
        assert base == "tiny" or (together["pooled"][row] - alone["pooled"]).abs().max() <= 1e-6


@pytest.mark.parametrize("syntax", ["plain", "weighted"])
def test_clip_skip_is_a_layer_earlier_in_either_reading(syntax: str, bases: Path) -> None:
    held = loaded(bases, "tiny", CaptionReading(syntax, 2))
    tower = held._pipe.text_encoder
    ids = held._pipe.tokenizer("a face", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        states = tower.final_layer_norm(tower(ids, output_hidden_states=True).hidden_states[-2])
    assert torch.equal(held.encode_caption("a face")["hidden"], states[0])
    assert torch.equal(held.embed(["a face"])["hidden"], states)


def test_a_reading_has_a_place_of_its_own_in_the_cache_and_the_plain_one_keeps_its(bases: Path) -> None:
    readings = [CaptionReading(syntax, skip) for syntax in ("plain", "weighted") for skip in (1, 2)]
    spaces = [loaded(bases, "tiny", reading).text_space for reading in readings]
    assert spaces[0] == "0" * 64 + ":cpu" and len(set(spaces)) == 4
    assert loaded(bases, "tiny").space == spaces[0]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_texts_that_learn_get_the_plain_readings_gradients(base: str, precision: str, bases: Path) -> None:
    gradients = {}
    for reading in (CaptionReading(), WEIGHTED):
        held = loaded(bases, base, reading, precision)
        held.learn_texts()
        towers = {part: tower for part, (_, tower) in zip(lora.TEXT_PARTS, held.text_towers(), strict=False)}
        weights = lora.attach(towers, lora.LORA, 4, 1)
        generator = torch.Generator().manual_seed(1)
        for weight in weights.values():
            weight.data = torch.randn(weight.shape, generator=generator) * 0.1
        texts = held.embed(SHORT)
        assert texts["hidden"].dtype == pipeline.PRECISIONS[precision]
        sum(tensor.float().square().mean() for tensor in texts.values()).backward()
        gradients[reading.syntax] = torch.cat([w.grad.flatten() for w in weights.values() if w.grad is not None])
    assert gradients["plain"].abs().max() > 0
    assert torch.equal(gradients["plain"], gradients["weighted"])


@pytest.mark.parametrize("base", BASES)
def test_a_new_word_learns_by_its_emphasis_and_in_a_later_chunk(base: str, bases: Path) -> None:
    found = {}
    for caption in ("a <v> face", "a (<v>:1.5) face", f"{LONG}, a <v> face"):
        held = loaded(bases, base)
        rows = token_rows.bind(held.text_towers(), (Concept("<v>", "face"),))
        held.embed([caption])["hidden"].square().mean().backward()
        found[caption] = rows["<v>"][0].grad
    plain, lifted, later = found.values()
    assert all(bool(gradient.abs().max() > 0) for gradient in (plain, lifted, later))
    assert not torch.equal(plain, lifted)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("concepts", [False, True])
def test_a_short_captions_answer_does_not_depend_on_a_long_one_beside_it(
    base: str, precision: str, concepts: bool, bases: Path
) -> None:
    held = loaded(bases, base, WEIGHTED, precision)
    if concepts:
        generator = torch.Generator().manual_seed(4)
        for weight in custom_diffusion.attach(held.network).values():
            weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    with torch.no_grad():
        texts = embedded(held.embed(["a face", LONG, f"{LONG} BREAK end"]))
        alone = embedded(held.embed(["a face"]))
        generator = torch.Generator().manual_seed(5)
        noisy, times = torch.randn(3, 4, 8, 8, generator=generator), torch.tensor([3, 500, 990])
        whole, single = (
            held.predict(noisy[: len(rows.hidden)], times[: len(rows.hidden)], batch(noisy, rows))
            for rows in (texts, alone)
        )
        unmasked = held.predict(noisy, times, batch(noisy, Condition(texts.hidden, texts.pooled)))
    assert alone.mask is None and texts.mask is not None
    difference = (whole[0].float() - single[0].float()).abs().max()
    assert difference <= (1e-5 if precision == "fp32" else 0.05)
    assert (unmasked[0].float() - single[0].float()).abs().max() > 10 * difference


def batch(noisy: torch.Tensor, texts: Condition) -> Batch:
    """Returns a batch of those captions."""
    count = len(texts.hidden)
    sizes, weights = torch.full((count, 6), 64.0), torch.ones(count)
    latents = noisy[:count]
    return Batch(latents, latents, torch.zeros(count), texts.hidden, texts.pooled, sizes, weights, mask=texts.mask)


def test_no_chunks_start_token_gives_a_gradient(bases: Path) -> None:
    unet = loaded(bases, "tiny").network
    weights = custom_diffusion.attach(unet)
    name = next(iter(weights))
    layer = unet.get_submodule(name)
    hidden = torch.randn(1, 2 * CHUNK_STATES, layer.in_features, generator=torch.Generator().manual_seed(0))
    layer(hidden)[:, ::CHUNK_STATES].sum().backward()
    assert weights[name].grad is None or not weights[name].grad.any()
    layer(hidden)[:, CHUNK_STATES - 1 : CHUNK_STATES + 2].sum().backward()
    expected = hidden[:, [CHUNK_STATES - 1, CHUNK_STATES + 1]].sum((0, 1)).expand_as(weights[name])
    assert torch.allclose(weights[name].grad, expected, atol=1e-5)


@pytest.mark.parametrize("base", BASES)
def test_a_sample_sheet_draws_a_long_prompt_beside_empty_chunks(base: str, bases: Path) -> None:
    held = loaded(bases, base)
    prompts = ["a face", f"a (face:1.3), {LONG}"]
    images = held.sampler(prompts, 2)()
    assert images is not None and images.std() > 0
    given = held._captions.guided(prompts[1])
    assert given["prompt_embeds"].shape == given["negative_prompt_embeds"].shape
    if base == "tiny-xl":
        assert not given["negative_prompt_embeds"].any() and not given["negative_pooled_prompt_embeds"].any()
    else:
        with torch.no_grad():
            empty = held.embed([""])["hidden"]
        assert (given["negative_prompt_embeds"][:, :CHUNK_STATES] - empty).abs().max() <= 1e-6
    plain = loaded(bases, base, CaptionReading()).sampler(prompts, 2)()
    assert (images[0] == plain[0]).all() and (images[1] != plain[1]).any()
    held.release_encoders()
    assert not held._captions.is_there


def test_a_smaller_text_encoder_reads_smaller_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "CONTEXT", 24)
    tiny.save_sd1(tmp_path / "bases" / "tiny")
    held = loaded(tmp_path / "bases", "tiny")
    assert held.embed(["a face", LONG])["mask"].sum(1).tolist() == [24, 3 * 24]
    assert held.sampler([LONG], 1)() is not None
