"""LoHa and LoKr as LoRA: the same change as peft's own, each layer at its own rank, sizes counted on SDXL's layers."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import inject_adapter_in_model

from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.sampling import AdapterFile
from konomi_trainer.data.tensors import unpack
from konomi_trainer.export import kohya
from konomi_trainer.methods import adapter_file, exact_factors, lora
from tests.benchmarks.trainer import published_layouts as published

KINDS = {"loha": lora.LOHA, "lokr": lora.LOKR}
RECORD = {"schema": "konomi.adapter/1", "method": "x"}


class Layer(torch.nn.Module):
    """One attention layer of a shape."""

    def __init__(self, out: int, into: int) -> None:
        super().__init__()
        self.to_q = torch.nn.Linear(into, out)


def injected(kind: str, out: int, into: int, rank: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Returns an adapter's own random weights by name, and the change peft makes of them."""
    layer = Layer(out, into)
    inject_adapter_in_model(KINDS[kind].configure(rank, ["to_q"]), layer, adapter_name="default")
    generator = torch.Generator().manual_seed(out + into + rank)
    own = {}
    for name, weight in layer.named_parameters():
        if any(mark in name for mark in KINDS[kind].marks):
            weight.data = torch.randn(weight.shape, generator=generator)
            own[f"unet.{name.removesuffix('.default')}"] = weight.detach()
    return own, layer.to_q.get_delta_weight("default").detach()


@pytest.mark.parametrize("rank", [1, 2, 5, 16])
@pytest.mark.parametrize(("out", "into"), [(40, 24), (24, 40), (36, 36), (7, 30)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_product_of_the_factors_is_pefts_own_change(kind: str, out: int, into: int, rank: int) -> None:
    own, delta = injected(kind, out, into, rank)
    ((up, down),) = exact_factors.of_modules(own).values()
    assert up.shape[1] == down.shape[0] <= min(out, into)
    if kind == "loha":
        assert down.shape[0] == min(rank * rank, out, into)
    assert (up.double() @ down.double() - delta.double()).abs().max() < 4e-6 * delta.abs().max()


def test_layers_of_another_rank_are_named_in_the_header() -> None:
    own = {}
    for number, (out, into) in enumerate([(40, 24), (40, 24), (9, 30)]):
        weights, _ = injected("loha", out, into, 4)
        own |= {name.replace("to_q", f"b.{number}.to_q"): tensor for name, tensor in weights.items()}
    files = adapter_file.other_file(own, 4, RECORD)
    tensors, header = unpack(files.adapter)
    metadata = json.loads(header["lora_adapter_metadata"])
    assert metadata["unet.r"] == metadata["unet.lora_alpha"] == 16
    assert metadata["unet.rank_pattern"] == metadata["unet.alpha_pattern"] == {"b.2.to_q": 9}
    assert tensors["unet.b.2.to_q.lora_A.weight"].shape == (9, 30)
    assert len(files.companions) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rank", "gigabytes"), [("loha", 8, 0.4), ("lokr", 8, 1.5), ("loha", 32, None), ("lokr", 16, None)]
)
def test_sizes_on_sdxls_layers(kind: str, rank: int, gigabytes: float | None) -> None:
    """Counted on shapes without weights; None is larger than a generator reads, so its own weights are published."""
    with torch.device("meta"):
        unet = published.unet("sdxl")
        inject_adapter_in_model(
            KINDS[kind].configure(rank, adapter_file.UNET_TARGETS["unet"]), unet, adapter_name="default"
        )
    named = ((name, weight) for name, weight in unet.named_parameters() if any(m in name for m in KINDS[kind].marks))
    own = {f"unet.{name.removesuffix('.default')}": weight.detach() for name, weight in named}
    size = adapter_file.lora_bytes(exact_factors.of_modules(own))
    assert len(exact_factors.of_modules(own)) == 560
    if gigabytes is None:
        assert size > adapter_file.LARGEST_BYTES
        assert sum(4 * tensor.numel() for tensor in own.values()) < 0.5e9
    else:
        assert 0.8 * gigabytes < size / 1e9 <= gigabytes


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_large_as_a_lora_is_published_as_it_is_and_everything_reads_it(
    kind: str, bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(bases / "tiny", local_files_only=True)
    weights = lora.attach({"unet": pipe.unet}, KINDS[kind], 3, 1)
    generator = torch.Generator().manual_seed(4)
    trained = {name: torch.randn(weight.shape, generator=generator) * 0.3 for name, weight in weights.items()}
    equal = KINDS[kind].files({"unet": pipe.unet}, trained, 3, RECORD)
    monkeypatch.setattr(adapter_file, "LARGEST_BYTES", 1000)
    files = KINDS[kind].files({"unet": pipe.unet}, trained, 3, RECORD)
    assert files.companions == () and files.adapter != equal.adapter
    names = unpack(files.adapter)[0]
    assert all(any(mark in name for mark in KINDS[kind].marks) for name in names)
    loaded = unpack(adapter_file.loadable(files.adapter))[0]
    expected = unpack(equal.adapter)[0]
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in loaded)
    assert adapter_file.loadable(equal.adapter) is equal.adapter
    assert any("hada" in name or "lokr" in name for name in kohya.rename(names, "sd1", 1, 3))
    assert_generator_makes_the_same(bases, files.adapter, equal.adapter)


def assert_generator_makes_the_same(bases: Path, native: bytes, equal: bytes) -> None:
    """The generator adds the own weights as it adds the LoRA that equals them."""
    changed = []
    for number, data in enumerate((native, equal)):
        pipe = StableDiffusionPipeline.from_pretrained(bases / "tiny", local_files_only=True)
        before = {name: weight.clone() for name, weight in pipe.unet.named_parameters()}
        Adapters(pipe).apply([AdapterFile(str(number) * 64, data, 0.8)])
        changed.append({name: weight - before[name] for name, weight in pipe.unet.named_parameters()})
    left, right = changed
    assert max(change.abs().max().item() for change in right.values()) > 1e-3
    assert all(torch.allclose(left[name], right[name], atol=1e-5) for name in left)
