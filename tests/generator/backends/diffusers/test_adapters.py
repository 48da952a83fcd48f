"""Adapters: fused as peft would run them, taken off to the last bit, refused in words when they do not fit."""

import io
import json
import pickle
from typing import NoReturn

import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save

from konomi.errors import FailedPrecondition
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.backends.diffusers.pipeline import load_pipeline
from konomi_generator.backends.diffusers.text_conditioning import Texts
from konomi_generator.sampling import AdapterFile, ImageRequest, Sampling
from tests.generator import tiny_models

SAMPLING = Sampling(2, 4.0, 64, 64)


def lora(seed: int, rank: int = 4, alpha: int = 8, unet=None, text=None) -> bytes:
    """A random LoRA of the tiny starter as the trainer writes it: diffusers' keys, peft's configuration."""
    torch.manual_seed(seed)
    tensors, configs = {}, {}
    parts = {"unet": (unet or tiny_models.starter().unet, ["to_q", "to_v"]), "text_encoder": (text, ["q_proj"])}
    for prefix, (model, targets) in parts.items():
        if model is None:
            continue
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, init_lora_weights=False)
        model.add_adapter(config)
        state = get_peft_model_state_dict(model, adapter_name="default")
        tensors |= {f"{prefix}.{name}": tensor.contiguous() for name, tensor in state.items()}
        configs |= {f"{prefix}.{name}": value for name, value in config.to_dict().items()}
    return save(tensors, {"format": "pt", "lora_adapter_metadata": json.dumps(configs, default=sorted)})


@pytest.fixture
def pipe(models, settings):
    return load_pipeline(models.get("starter"), settings.single_file_configs, torch.device("cpu"), torch.float32)


def image(pipe) -> np.ndarray:
    with torch.inference_mode():
        return Denoiser(pipe).run(DenoisingBatch([ImageRequest(0, "a cat", 5)], 4), SAMPLING, lambda: False)


def unread(data: bytes) -> NoReturn:
    raise LookupError("the file is read again")


def state(pipe) -> dict[str, torch.Tensor]:
    parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    return {f"{part}.{k}": v.clone() for part, model in parts.items() for k, v in model.state_dict().items()}


def test_fused_adapters_give_what_peft_gives_and_come_off_exactly(pipe, models, settings, tmp_path) -> None:
    first, second = lora(1, text=tiny_models.starter().text_encoder), lora(2, rank=2)
    before, plain = state(pipe), image(pipe)
    adapters = Adapters(pipe)
    assert adapters.apply([AdapterFile("a" * 64, first, 0.8), AdapterFile("b" * 64, second, 0.5)])
    fused = image(pipe)
    assert not hasattr(pipe.unet, "peft_config") or not pipe.unet.peft_config
    other = load_pipeline(models.get("starter"), settings.single_file_configs, torch.device("cpu"), torch.float32)
    for name, data in (("one", first), ("two", second)):
        (tmp_path / f"{name}.safetensors").write_bytes(data)
        other.load_lora_weights(str(tmp_path), weight_name=f"{name}.safetensors", adapter_name=name)
    other.set_adapters(["one", "two"], [0.8, 0.5])
    assert np.abs(fused - image(other)).max() < 1e-3
    assert np.abs(fused - plain).max() > 1e-2
    assert adapters.apply([])
    after = state(pipe)
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert np.array_equal(image(pipe), plain)


def test_a_remembered_set_comes_back_bit_by_bit_without_loading(pipe, monkeypatch) -> None:
    adapters, data = Adapters(pipe), lora(1)
    adapters.apply([AdapterFile("a" * 64, data, 1.0)])
    once = image(pipe)
    assert not adapters.apply([AdapterFile("a" * 64, data, 1.0)])
    adapters.apply([])
    monkeypatch.setattr("konomi_generator.backends.diffusers.adapters.load", unread)
    assert adapters.apply([AdapterFile("a" * 64, data, 1.0)])
    assert np.array_equal(image(pipe), once)


@pytest.mark.parametrize("sets", [0, 1])
def test_the_weights_of_recent_sets_keep_to_their_bytes(sets: int, pipe, monkeypatch) -> None:
    first, second = AdapterFile("a" * 64, lora(1), 1.0), AdapterFile("b" * 64, lora(2), 1.0)
    probe = Adapters(pipe)
    probe.apply([first])
    size = sum(weight.numel() * weight.element_size() for weight in probe._base.values())
    probe.apply([])
    monkeypatch.setattr("konomi_generator.backends.diffusers.adapters.KEPT_BYTES", size * (1 + sets))
    adapters = Adapters(pipe)
    assert adapters.apply([first]) and adapters.apply([second]) and adapters.apply([])
    held = [*adapters._base.values(), *(weight for kept in adapters._kept.values() for weight in kept.weights.values())]
    assert sum(weight.numel() * weight.element_size() for weight in held) == size * (1 + sets)
    monkeypatch.setattr("konomi_generator.backends.diffusers.adapters.load", unread)
    if sets:
        assert adapters.apply([second]) and adapters.apply([])
    with pytest.raises(LookupError, match="read again"):
        adapters.apply([first])


def test_texts_used_least_recently_are_encoded_again(pipe, monkeypatch) -> None:
    monkeypatch.setattr("konomi_generator.backends.diffusers.text_conditioning.KEPT_BYTES", 64)
    texts, encode, asked = Texts(pipe), pipe.encode_prompt, []

    def counted(text, **options):
        asked.append(text)
        return encode(text, **options)

    monkeypatch.setattr(pipe, "encode_prompt", counted)
    with torch.inference_mode():
        for text in [*map(str, range(64)), "0", "new", "0", "1"]:
            texts.encode(text)
    assert asked == [*map(str, range(64)), "new", "1"]


def test_scale_and_alpha_count_and_scale_zero_is_no_adapter(pipe) -> None:
    adapters = Adapters(pipe)
    base = state(pipe)

    def change(data: bytes, scale: float, digest: str) -> torch.Tensor:
        adapters.apply([AdapterFile(digest * 64, data, scale)])
        name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
        return state(pipe)[name] - base[name]

    whole, half = change(lora(1), 1.0, "a"), change(lora(1), 0.5, "a")
    double = change(lora(1, alpha=16), 1.0, "b")
    assert torch.allclose(half, whole / 2, atol=1e-6) and torch.allclose(double, whole * 2, atol=1e-6)
    assert whole.abs().max() > 1e-3
    assert change(lora(1), 0.0, "a").abs().max() == 0


@pytest.mark.parametrize("what", ["other base", "other width", "nothing", "pickle", "NaN"])
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_the_base_alone(pipe, what: str) -> None:
    buffer = io.BytesIO()
    torch.save({"unet.x.lora_A.weight": torch.ones(1)}, buffer)
    data = {
        "other base": lambda: lora(1, unet=tiny_models.sd1().unet),
        "other width": lambda: _cut(lora(1)),
        "nothing": lambda: save({"emb_params": torch.ones(3)}),
        "pickle": lambda: pickle.dumps({"a": 1}),
        "NaN": lambda: _nan(lora(1)),
    }[what]()
    before, adapters = state(pipe), Adapters(pipe)
    adapters.apply([AdapterFile("a" * 64, lora(2), 1.0)])
    with pytest.raises(FailedPrecondition) as caught:
        adapters.apply([AdapterFile("c" * 64, data, 1.0)])
    expected = {"nothing": "ADAPTER_KIND", "pickle": "UNSAFE_FORMAT"}.get(what, "ADAPTER_MISMATCH")
    assert caught.value.reason == expected
    after = state(pipe)
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert adapters.apply([AdapterFile("a" * 64, lora(2), 1.0)])


def _cut(data: bytes) -> bytes:
    from safetensors.torch import load

    return save({k: (v[:, :-2].contiguous() if "lora_A" in k else v) for k, v in load(data).items()})


def _nan(data: bytes) -> bytes:
    from safetensors.torch import load

    return save({k: torch.full_like(v, float("nan")) for k, v in load(data).items()})


def test_guidance_from_the_base_amplifies_the_adapter_and_changes_nothing_without_one(pipe) -> None:
    adapters = Adapters(pipe)
    denoiser, batch = Denoiser(pipe, adapters.base_unet), DenoisingBatch([ImageRequest(0, "a cat", 5)], 4)

    def made(adapted: bool, scale: float, from_base: bool) -> torch.Tensor:
        adapters.apply([AdapterFile("a" * 64, lora(1), 0.5)] if adapted else [])
        sampling = Sampling(1, scale, 64, 64, guide_from_base=from_base)
        with torch.inference_mode():
            return torch.from_numpy(denoiser.run(batch, sampling, lambda: False))

    assert torch.equal(made(False, 4.0, True), made(False, 4.0, False))
    base, plain, guided = made(False, 4.0, False), made(True, 4.0, False), made(True, 4.0, True)
    assert (guided - base).abs().mean() > 1.5 * (plain - base).abs().mean() > 0
    beside = {name: weight.clone() for name, weight in adapters.base_unet().named_parameters()}
    assert torch.equal(made(False, 4.0, False), base), "the base came back to the last bit"
    assert all(torch.equal(beside[name], weight) for name, weight in pipe.unet.named_parameters())
    assert adapters.made_base_unet() is None, "it is there while an adapter is on"
