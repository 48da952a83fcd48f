"""Custom Diffusion on a real server and by hand: what is trained, what is not, resume, save and load, beside peft."""

import logging
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_trainer import configuration
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.data.cache import TensorCache
from konomi_trainer.data.manifest import ManifestItem
from konomi_trainer.jobs.trainer import Listener, Trainer
from konomi_trainer.methods import concept_file, custom_diffusion, token_rows
from konomi_trainer.methods.base import TrainingSource
from konomi_trainer.methods.concept_file import ConceptModel
from konomi_trainer.methods.concepts import Concept
from konomi_trainer.methods.custom_diffusion import METHOD
from konomi_trainer.settings import TrainerSettings
from konomi_trainer.training.loop import Progress, Stopped
from tests.trainer import concept_bench, tiny
from tests.trainer.conftest import Bench

FACE = (Concept("<a>", "face"),)


def configured(
    bases: BaseCatalogue, base: str = "tiny", traits: configuration.BaseTraits | None = None, **numbers: float
) -> configuration.Configuration:
    given = {"steps": 6, "batch_size": 4, "checkpoint_steps": 2, "learning_rate": 0.01, **numbers}
    given["concepts"] = tuple(asdict(concept) for concept in FACE)  # type: ignore[assignment]
    return configuration.complete(METHOD.name, base, bases.digest(base), 7, given, METHOD.defaults, traits)


def quiet(stopping: object = lambda: False) -> Listener:
    return Listener(lambda phase: None, lambda progress: None, stopping)  # type: ignore[arg-type]


@pytest.mark.parametrize("base", ["tiny", "tiny-xl"])
def test_a_run_learns_keys_values_and_rows_and_nothing_else(bench: Bench, base: str) -> None:
    model = concept_bench.trained(bench, base=base)
    found = concept_file.from_bytes(bench.store.get(model.adapter_digest))
    unet = concept_bench.pipeline(bench.home / "models" / base).unet
    cross = {name for name, _ in unet.named_modules() if name.endswith((".attn2.to_k", ".attn2.to_v"))}
    assert cross and set(found.deltas) == cross and [c.token for c in found.concepts] == ["<a>"]
    assert all(found.dense()[name].shape == unet.get_submodule(name).weight.shape for name in cross)
    assert all(bool(delta.abs().max() > 0) for delta in found.dense().values())
    assert found.base_digest == model.base_digest and found.record["manifest_digest"] == model.manifest_digest
    pipe = concept_bench.pipeline(bench.home / "models" / base)
    starts = [pipe.text_encoder.get_input_embeddings().weight[token_rows.BYTE_RARE]]
    if base == "tiny-xl":
        starts.append(pipe.text_encoder_2.get_input_embeddings().weight[token_rows.BYTE_RARE])
    assert len(found.rows["<a>"]) == len(starts)
    assert all(0 < (row - start).abs().max() < 0.1 for row, start in zip(found.rows["<a>"], starts, strict=True))
    assert model.metrics["regularisation_images"] == 8 and model.metrics["regularisation_generated"] == 0
    assert model.metrics["images"] == 2 and model.metrics["concepts"] == 1
    assert concept_file.to_bytes(found) == bench.store.get(model.adapter_digest)


def test_a_run_stopped_anywhere_resumes_to_the_same_bytes(bench: Bench, tmp_path: Path) -> None:
    digest, bases = concept_bench.manifest(bench), BaseCatalogue(bench.home, TrainerSettings(home=bench.home))
    trainer = Trainer(bench.store, bases.load, concept_bench.pixels, tmp_path)
    numbers = configured(bases)
    whole = trainer.fit("whole", digest, numbers, quiet())
    assert whole.files.adapter == trainer.fit("again", digest, numbers, quiet()).files.adapter
    for stop in (1, 3):
        done: list[Progress] = []
        listener = Listener(lambda p: None, done.append, lambda done=done, stop=stop: len(done) >= stop)
        with pytest.raises(Stopped):
            trainer.fit(f"cut{stop}", digest, numbers, listener)
        assert trainer.fit(f"cut{stop}", digest, numbers, quiet()).files.adapter == whole.files.adapter
    other = configured(bases, prior_weight=0.0)
    assert trainer.fit("bare", digest, other, quiet()).files.adapter != whole.files.adapter


def test_the_start_token_gives_no_gradient(bench: Bench) -> None:
    unet = concept_bench.pipeline(bench.home / "models" / "tiny").unet
    weights = custom_diffusion.attach(unet)
    layer = unet.get_submodule(next(iter(weights)))
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 5, layer.in_features, generator=generator)
    name = next(iter(weights))
    layer(hidden)[:, 0].sum().backward()
    assert weights[name].grad is None or not weights[name].grad.any()
    layer(hidden)[:, 1:].sum().backward()
    expected = hidden[:, 1:].sum((0, 1)).expand_as(weights[name])
    assert torch.allclose(weights[name].grad, expected, atol=1e-4)  # type: ignore[arg-type]
    assert all(weight.grad is None for weight in unet.parameters())
    with torch.no_grad():
        weights[name].fill_(0.5)
        changed = layer(hidden) - torch.nn.functional.linear(hidden, layer.weight)
    assert torch.allclose(changed, hidden.sum(-1, keepdim=True).expand_as(changed) * 0.5, atol=1e-4)


@pytest.mark.parametrize("lora", ["none", "before", "after"])
def test_it_works_beside_peft(bench: Bench, lora: str) -> None:
    """What training computes is what added weights compute, with a LoRA on the same layers put on before or after."""
    folder, generator = bench.home / "models" / "tiny", torch.Generator().manual_seed(1)

    def with_lora(unet: torch.nn.Module) -> None:
        config = LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "to_v"])
        inject_adapter_in_model(config, unet, adapter_name="other")
        fixed = torch.Generator().manual_seed(2)
        for weight_name, weight in sorted(unet.named_parameters()):
            if "lora_" in weight_name:
                weight.data = torch.randn(weight.shape, generator=fixed) * 0.1

    trained, fused = (concept_bench.pipeline(folder).unet for _ in range(2))
    if lora == "before":
        with_lora(trained)
    weights = custom_diffusion.attach(trained)
    if lora == "after":
        with_lora(trained)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
            fused.get_submodule(name).weight.add_(weight)
    if lora != "none":
        with_lora(fused)
    noisy, words = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 24, 32, generator=generator)
    with torch.no_grad():
        answers = [unet(noisy, torch.tensor([1, 500]), words).sample for unet in (trained, fused)]
    assert (answers[0] - answers[1]).abs().max() < 1e-5
    plain = concept_bench.pipeline(folder).unet(noisy, torch.tensor([1, 500]), words).sample
    assert (answers[0] - plain).abs().max() > 1e-3


@pytest.mark.parametrize("base", ["tiny", "tiny-xl"])
def test_saved_and_loaded_it_draws_the_same(bench: Bench, base: str) -> None:
    model = concept_bench.trained(bench, base=base, steps=3)
    folder, data = bench.home / "models" / base, bench.store.get(model.adapter_digest)
    first = concept_bench.draw(concept_bench.pipeline(folder, concept_file.from_bytes(data)), "a <a> face")
    again = concept_file.from_bytes(concept_file.to_bytes(concept_file.from_bytes(data)))
    assert torch.equal(first, concept_bench.draw(concept_bench.pipeline(folder, again), "a <a> face"))
    assert (first - concept_bench.draw(concept_bench.pipeline(folder), "a <a> face")).abs().max() > 1e-3


def test_ordinary_captions_are_as_before_and_the_end_token_is_found(bench: Bench) -> None:
    pipe = concept_bench.pipeline(bench.home / "models" / "tiny-xl")
    before = pipe.encode_prompt("a face", do_classifier_free_guidance=False)
    towers = [(pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)]
    rows = token_rows.bind(towers, FACE)
    after = pipe.encode_prompt("a face", do_classifier_free_guidance=False)
    assert torch.equal(before[0], after[0]) and torch.equal(before[2], after[2])
    assert len(pipe.tokenizer("<a>")["input_ids"]) == 3
    pooled = pipe.encode_prompt("<a> face", do_classifier_free_guidance=False)[2]
    others = pipe.encode_prompt("<a> cat", do_classifier_free_guidance=False)[2]
    assert (pooled - others).abs().max() > 1e-4  # the pooled state is read after the class word, not at V*
    pooled.sum().backward()
    assert rows["<a>"][1].grad is not None and rows["<a>"][1].grad.any()
    with pytest.raises(InvalidArgument):
        token_rows.bind(towers, FACE)


def test_an_initial_word_is_one_token(bench: Bench) -> None:
    pipe = concept_bench.pipeline(bench.home / "models" / "tiny")
    frozen = pipe.text_encoder.get_input_embeddings().weight.detach().clone()
    towers = [(pipe.tokenizer, pipe.text_encoder)]
    with pytest.raises(InvalidArgument) as caught:
        token_rows.bind(towers, (Concept("<b>", "face", "cat"),))
    assert "is 3 in this base" in caught.value.message
    word = pipe.tokenizer("a", add_special_tokens=False)["input_ids"][0]
    rows = token_rows.bind(towers, (Concept("<c>", "face", "a"),))
    assert torch.equal(rows["<c>"][0], frozen[word])


@pytest.mark.parametrize(("prior", "words"), [("prior_generated", "generated"), ("", "no regularisation")])
def test_what_the_regularisation_lacks_is_said(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture, prior: str, words: str
) -> None:
    bases = BaseCatalogue(bench.home, TrainerSettings(home=bench.home))
    trainer = Trainer(bench.store, bases.load, concept_bench.pixels, tmp_path)
    with caplog.at_level(logging.WARNING):
        fitted = trainer.fit("r", concept_bench.manifest(bench, prior=prior), configured(bases, steps=1), quiet())
    assert any(words in record.getMessage() for record in caplog.records)
    assert fitted.metrics["regularisation_generated"] == (8 if prior else 0)


def test_a_file_that_is_no_model_is_refused() -> None:
    with pytest.raises(FailedPrecondition) as caught:
        concept_file.from_bytes(b"{}")
    assert caught.value.reason == "ADAPTER_KIND"
    rows = {"<a>": (torch.zeros(4),)}
    data = concept_file.to_bytes(ConceptModel(FACE, {}, rows, "tiny", "0" * 64))
    cut = data.replace(b"tokens.<a>", b"tokens.<b>")
    with pytest.raises(FailedPrecondition) as caught:
        concept_file.from_bytes(cut)
    assert "<a>" in caught.value.message


@pytest.mark.parametrize("base", ["tiny", "tiny-xl"])
def test_concepts_are_learnt_from_captions_of_several_lengths(bench: Bench, tmp_path: Path, base: str) -> None:
    """Long captions of concepts and of the prior, some dropped: whole batches and their rows give one loss."""
    long, side = "a face, " * 20, 64 if base == "tiny" else 16
    captions = [("a <a> face", "selected"), (f"{long}a (<a>:1.3) face", "selected")]
    captions += [("a red hat", "prior"), (f"{long}old", "prior")]
    items = tuple(
        ManifestItem(bench.store.put(tiny.png(i, side), "image/png").digest, caption, 1.0, role)
        for i, (caption, role) in enumerate(captions)
    )
    bases = BaseCatalogue(bench.home, TrainerSettings(home=bench.home))
    numbers = configured(bases, base, traits=bases.traits(base), caption_dropout=0.3, scale_augmentation=False)
    assert numbers.prompt_syntax == "weighted"
    source = TrainingSource(
        items, lambda digest: concept_bench.pixels(bench.store.get(digest)), TensorCache(tmp_path), lambda: None
    )
    prepared = METHOD.prepare(bases.load(numbers), source, numbers)
    with torch.no_grad():
        for step in range(6):
            whole = prepared.loss(step, range(4))
            parts = sum(prepared.loss(step, range(row, row + 1)) for row in range(4))
            assert abs(whole - parts) <= 1e-5 * abs(whole)
    prepared.loss(0, range(4)).backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in prepared.weights.values())
