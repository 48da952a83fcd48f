"""Custom Diffusion files: on the pipeline what the paper's patch by hand gives, off it to the last bit."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from konomi.errors import FailedPrecondition
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.backends.diffusers.pipeline import load_pipeline
from konomi_generator.sampling import AdapterFile, ImageRequest, Sampling
from konomi_trainer.methods.concept_file import ConceptModel, to_bytes
from konomi_trainer.methods.concepts import Concept
from tests.generator.backends.diffusers.test_adapters import lora, state

SAMPLING = Sampling(2, 4.0, 64, 64)
PROMPT = "photo of a <new1> cat"


def open_pipe(id: str, models, settings):
    return load_pipeline(models.get(id), settings.single_file_configs, torch.device("cpu"), torch.float32)


def concept(pipe, token: str = "<new1>", seed: int = 1, rank: int = 0) -> bytes:
    """A random Custom Diffusion model as the trainer writes it; of factors where a rank is given."""
    rng = torch.Generator().manual_seed(seed)
    deltas: dict[str, object] = {}
    for name, module in pipe.unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            out, width = module.weight.shape
            if rank:
                factors = torch.randn(out, rank, generator=rng), torch.randn(rank, width, generator=rng)
                deltas[name] = tuple(0.3 * factor for factor in factors)
            else:
                deltas[name] = 0.2 * torch.randn(out, width, generator=rng)
    towers = [pipe.text_encoder] + ([pipe.text_encoder_2] if hasattr(pipe, "text_encoder_2") else [])
    widths = [tower.get_input_embeddings().weight.shape[1] for tower in towers]
    rows = {token: tuple(torch.randn(width, generator=rng) for width in widths)}
    return to_bytes(ConceptModel((Concept(token, "cat"),), deltas, rows, "starter", "0" * 64))


def image(pipe, prompt: str = PROMPT) -> np.ndarray:
    with torch.inference_mode():
        return Denoiser(pipe).run(DenoisingBatch([ImageRequest(0, prompt, 5)], 4), SAMPLING, lambda: False)


def patched(pipe, data: bytes, scale: float):
    """The same file put on by hand, as transformers adds tokens."""
    tensors = load(data)
    with torch.no_grad():
        for name, tensor in tensors.items():
            module, _, kind = name.rpartition(".")
            if kind == "u":
                pipe.unet.get_parameter(f"{module}.weight").add_(scale * tensor @ tensors[f"{module}.v"])
            elif module.endswith((".to_k", ".to_v")) and kind == "weight":
                pipe.unet.get_parameter(name).add_(scale * tensor)
        towers = [("tokens.", pipe.tokenizer, pipe.text_encoder)]
        if hasattr(pipe, "text_encoder_2"):
            towers.append(("tokens_2.", pipe.tokenizer_2, pipe.text_encoder_2))
        for prefix, tokenizer, encoder in towers:
            tokenizer.add_tokens(["<new1>"])
            encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
            encoder.get_input_embeddings().weight[len(tokenizer) - 1] = tensors[f"{prefix}<new1>"]
            for module in encoder.modules():
                if hasattr(module, "eos_token_id"):
                    module.eos_token_id = tokenizer.eos_token_id
    return pipe


@pytest.mark.parametrize(("id", "rank"), [("starter", 0), ("sd1", 3), ("sdxl", 0)])
def test_a_concept_is_what_the_patch_by_hand_gives_and_comes_off_exactly(id: str, rank: int, models, settings) -> None:
    pipe = open_pipe(id, models, settings)
    data, before, plain = concept(pipe, rank=rank), state(pipe), image(pipe)
    tokens, adapters = len(pipe.tokenizer), Adapters(pipe)
    assert adapters.apply([AdapterFile("a" * 64, data, 0.7)])
    bound = image(pipe)
    assert np.abs(bound - image(patched(open_pipe(id, models, settings), data, 0.7))).max() < 1e-5
    assert np.abs(bound - plain).max() > 1e-2
    assert adapters.apply([])
    after = state(pipe)
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert len(pipe.tokenizer) == tokens and np.array_equal(image(pipe), plain)
    assert adapters.apply([AdapterFile("a" * 64, data, 0.7)]) and np.array_equal(image(pipe), bound)


def test_a_word_means_something_only_while_its_adapter_is_on(models, settings) -> None:
    pipe = open_pipe("starter", models, settings)
    row = load(concept(pipe))["tokens.<new1>"]
    only = save({"tokens.<new1>": row}, {"format": "konomi.custom_diffusion/1"})
    adapters, denoiser = Adapters(pipe), Denoiser(pipe)
    with torch.inference_mode():
        plain, other = denoiser.text(PROMPT).hidden, denoiser.text("photo of a cat").hidden
        adapters.apply([AdapterFile("a" * 64, only, 1.0)])
        denoiser.texts.forget()
        assert torch.equal(denoiser.text("photo of a cat").hidden, other)
        assert not torch.equal(denoiser.text(PROMPT).hidden, plain)
        adapters.apply([])
        denoiser.texts.forget()
        assert torch.equal(denoiser.text(PROMPT).hidden, plain)


def test_concepts_and_loras_stack_in_one_set(models, settings) -> None:
    pipe = open_pipe("starter", models, settings)
    one, two, style = concept(pipe, "<new1>", 1), concept(pipe, "<new2>", 2), lora(3)
    adapters = Adapters(pipe)
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight"
    base = state(pipe)[f"unet.{name}"]
    adapters.apply([AdapterFile("c" * 64, style, 0.4)])
    styled = state(pipe)[f"unet.{name}"]
    files = [AdapterFile("a" * 64, one, 0.5), AdapterFile("b" * 64, two, 0.25), AdapterFile("c" * 64, style, 0.4)]
    assert adapters.apply(files)
    expected = styled + 0.5 * load(one)[name] + 0.25 * load(two)[name]
    assert torch.allclose(state(pipe)[f"unet.{name}"], expected, atol=1e-6)
    assert len(pipe.tokenizer.tokenize("<new1> <new2>")) == 2
    adapters.apply([])
    assert torch.equal(state(pipe)[f"unet.{name}"], base)


def spoiled(what: str, pipe) -> list[bytes]:
    """Files that do not fit, by what is wrong with them."""
    tensors = load(concept(pipe))
    header = {"format": "konomi.custom_diffusion/1"}
    name = next(key for key in tensors if key.endswith("to_k.weight"))
    return {
        "other width": lambda: [save({name: tensors[name][:, 1:].contiguous()}, header)],
        "no such module": lambda: [save({f"nowhere.{name}": tensors[name]}, header)],
        "odd tensor": lambda: [save({"unet.conv_in.weight": torch.ones(2)}, header)],
        "half a pair": lambda: [save({name.replace(".weight", ".u"): torch.ones(2, 1)}, header)],
        "other second half": lambda: [save({name.replace(".weight", ".v"): torch.ones(2, 1)}, header)],
        "NaN": lambda: [save({name: torch.full_like(tensors[name], float("nan"))}, header)],
        "row of another width": lambda: [save({"tokens.<a>": torch.ones(3)}, header)],
        "no second encoder": lambda: [save({"tokens_2.<a>": torch.ones(32)}, header)],
        "known word": lambda: [save({"tokens.cat</w>": torch.ones(32)}, header)],
        "one word twice": lambda: [concept(pipe, seed=1), concept(pipe, seed=2)],
    }[what]()


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("other width", "ADAPTER_MISMATCH"),
        ("no such module", "ADAPTER_MISMATCH"),
        ("odd tensor", "ADAPTER_KIND"),
        ("half a pair", "ADAPTER_KIND"),
        ("other second half", "ADAPTER_KIND"),
        ("NaN", "ADAPTER_KIND"),
        ("row of another width", "ADAPTER_MISMATCH"),
        ("no second encoder", "ADAPTER_MISMATCH"),
        ("known word", "ADAPTER_MISMATCH"),
        ("one word twice", "ADAPTER_MISMATCH"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_the_base_alone(what: str, reason: str, models, settings) -> None:
    pipe = open_pipe("starter", models, settings)
    before, words = state(pipe), len(pipe.tokenizer)
    files = [AdapterFile(str(n) * 64, data, 1.0) for n, data in enumerate(spoiled(what, pipe))]
    with pytest.raises(FailedPrecondition) as caught:
        Adapters(pipe).apply([AdapterFile("c" * 64, lora(2), 1.0), *files])
    assert caught.value.reason == reason
    after = state(pipe)
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert len(pipe.tokenizer) == words
