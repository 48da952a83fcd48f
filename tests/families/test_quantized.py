"""Frozen weights of 8 and 4 bits: what a layer answers, what a step and an image lose, what fits, what is refused."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.families import quantized_blocks
from konomi_chassis.models.families.quantization import NAMES, NONE, PACKED_BYTES, is_quantizable
from konomi_chassis.models.families.quantized_blocks import QuantizedLinear, quantize
from konomi_chassis.models.loading import load_pipeline
from konomi_chassis.models.memory_needs import NightShape, night_memory, trains_in_blocks
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.sampling import AdapterFile, Sampling
from konomi_generator.settings import GeneratorSettings, TrainerQuantization
from konomi_trainer.base_models import pipeline
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.base_models.streamed_blocks import StreamedBlocks
from konomi_trainer.configuration import MethodDefaults, complete
from konomi_trainer.data.cache import TensorCache, Tensors
from konomi_trainer.methods import lora
from konomi_trainer.methods.base import PreparedMethod, TrainingSource
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.settings import TrainerSettings
from tests.families.flow.test_published_flows import FITS, GIB, HALF, PUBLISHED, published_model
from tests.families.test_protocol import TEXTS, ManifestItem, image

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
BITS = tuple(name for name in NAMES if name != NONE)
ERROR = {"int8": 0.01, "nf4": 0.12}
"""How far a format may be from the weights, by their norm: nf4's is .09 for normal weights."""
FITTING = {
    "int8": {
        "Chroma1-HD": ("reduced", "reduced", "whole", "whole"),
        "Qwen-Image": ("none", "none", "reduced", "whole"),
        "Z-Image": ("reduced", "reduced", "whole", "whole"),
    },
    "nf4": {
        "FLUX.1 [dev]": ("reduced", "reduced", "whole", "whole"),
        "FLUX.1 [schnell]": ("reduced", "reduced", "whole", "whole"),
        "Chroma1-HD": ("reduced", "reduced", "whole", "whole"),
        "Qwen-Image": ("none", "none", "reduced", "whole"),
        "FLUX.2 [klein] 4B": ("reduced", "whole", "whole", "whole"),
        "Stable Diffusion 3.5 Large": ("none", "reduced", "whole", "whole"),
        "Z-Image": ("reduced", "reduced", "whole", "whole"),
        "Lumina Image 2.0": ("whole", "whole", "whole", "whole"),
    },
}
"""What of a night fits on cards of 12, 16, 24 and 48 GiB that does not with whole weights: text encoders stay whole."""


def run(home: Path, folder: Path, id: str, bits: str, kind: lora.Kind = lora.LORA) -> tuple[Any, PreparedMethod]:
    """Returns a base with so many bits, and a method made ready on it."""
    model, place = BaseModels(home).get(id), pipeline.TrainingPlacement("cpu", "fp32", False, False, False, bits)
    base = pipeline.load(model, home / "configs", "0" * 64, place, 32)
    items = [ManifestItem(f"{number:064x}", TEXTS[number % 2], 1.0, "selected") for number in range(3)]

    def pixels(digest: str) -> np.ndarray:
        rng = np.random.default_rng(int(digest, 16))
        return rng.integers(0, 256, (base.resolution, base.resolution, 3), np.uint8)

    source = TrainingSource(items, pixels, TensorCache(folder), lambda: None)
    given = {"batch_size": 3, "rank": 2, "caption_dropout": 0.0, "quantization": bits}
    return base, kind.prepare(base, source, complete("lora", id, "0" * 64, 1, given, MethodDefaults()))


def step(home: Path, folder: Path, bits: str, *, streamed: bool = False) -> tuple[float, Tensors]:
    """Returns loss and gradients of a LoRA's first step on the tiny Z-Image."""
    base, method = run(home, folder, "z-image", bits)
    if streamed:
        StreamedBlocks(base.network, CPU)
    else:
        base.checkpoint_activations()
    loss = method.loss(0, range(3))
    loss.backward()
    return loss.item(), {name: weight.grad for name, weight in method.weights.items() if weight.grad is not None}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_answers_as_a_plain_one_with_the_unpacked_weights(bits: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    plain = torch.nn.Linear(70, 33).to(dtype).requires_grad_(False)
    packed, own = QuantizedLinear(plain, bits, CPU), plain.weight.float().clone()
    assert packed.weight.dtype == dtype
    assert float((packed.weight.float() - own).norm() / own.norm()) < ERROR[bits]
    size = packed.packed.numel() + 4 * packed.scales.numel()
    assert size == pytest.approx(PACKED_BYTES[bits] * plain.weight.numel(), rel=0.01)
    plain.weight.data.copy_(packed.weight)
    for half in (False, True):
        answers, gradients = [], []
        for layer in (plain, packed):
            given = torch.randn(5, 70, generator=torch.Generator().manual_seed(2)).to(dtype).requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                answers.append(layer(given))
            answers[-1].float().square().sum().backward()
            gradients.append(given.grad)
        assert torch.equal(*answers) and answers[0].dtype == answers[1].dtype
        assert torch.equal(*gradients)


@pytest.mark.parametrize("bits", BITS)
def test_a_step_beside_packed_weights_is_near_the_whole_one_and_always_the_same(
    bits: str, home: Path, tmp_path: Path
) -> None:
    whole, exact = step(home, tmp_path, NONE)
    loss, gradients = step(home, tmp_path, bits)
    assert loss == pytest.approx(whole, rel=ERROR[bits]) and loss != whole
    learning = [name for name in exact if exact[name].norm() > 0]
    assert gradients.keys() == exact.keys() and learning
    mine, theirs = (torch.cat([rows[name].flatten() for name in learning]) for rows in (gradients, exact))
    assert float((mine - theirs).norm() / theirs.norm()) < 5 * ERROR[bits]
    again, others = step(home, tmp_path, bits)
    assert (again, loss) == (loss, again) and all(torch.equal(others[name], gradients[name]) for name in gradients)
    streamed, others = step(home, tmp_path, bits, streamed=True)
    assert streamed == loss, "blocks that come one by one bring their packed weights"
    assert all(torch.equal(others[name], gradients[name]) for name in gradients)


@pytest.mark.parametrize("kind", [lora.DORA, lora.LOHA, lora.LOKR], ids=lambda kind: kind.name)
def test_every_kind_of_adapter_learns_beside_packed_weights(kind: lora.Kind, home: Path, tmp_path: Path) -> None:
    _, method = run(home, tmp_path, "z-image", "nf4", kind)
    method.loss(0, range(3)).backward()
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in method.weights.values())


def test_an_adapter_s_file_is_what_it_is_beside_whole_weights(home: Path, tmp_path: Path) -> None:
    files = []
    for bits in (NONE, "nf4"):
        _, method = run(home, tmp_path, "z-image", bits)
        start = {name: weight.detach().clone() for name, weight in method.weights.items()}
        files.append(method.save(start, {"schema": "konomi.adapter/1"}).adapter)
    assert files[0] == files[1]


@pytest.mark.parametrize("bits", BITS)
def test_an_image_of_packed_weights_is_near_the_whole_one_and_adapters_run_beside(
    bits: str, home: Path, tmp_path: Path
) -> None:
    model = BaseModels(home).get("z-image")
    pipe = load_pipeline(model, home / "configs", CPU, torch.float32)
    plain, dtype = image(pipe), pipe.transformer.dtype
    assert quantize(pipe.transformer, bits, CPU) > 0 and pipe.transformer.dtype == dtype
    drawn = image(pipe)
    assert np.array_equal(drawn, image(pipe)) and not np.array_equal(drawn, plain)
    assert float(np.abs(drawn - plain).mean()) < ERROR[bits]
    _, method = run(home, tmp_path, "z-image", bits)
    method.loss(0, range(3)).backward()
    learned = {n: w.detach() if w.grad is None else w.detach() - w.grad for n, w in method.weights.items()}
    data = method.save(learned, {"schema": "konomi.adapter/1"}).adapter
    adapters = Adapters(pipe)
    adapters.apply([AdapterFile("a" * 64, data, 20.0)])
    changed = image(pipe)
    assert not np.array_equal(changed, drawn)
    assert not np.array_equal(image(pipe, adapters=adapters, guide_from_base=True), changed)
    adapters.apply([])
    assert np.array_equal(image(pipe), drawn)


def test_an_adapter_that_is_no_plain_lora_is_refused_beside_packed_weights(home: Path, tmp_path: Path) -> None:
    pipe = load_pipeline(BaseModels(home).get("z-image"), home / "configs", CPU, torch.float32)
    quantize(pipe.transformer, "nf4", CPU)
    _, method = run(home, tmp_path, "z-image", NONE, lora.DORA)
    own = {name: weight.detach() + 0.01 for name, weight in method.weights.items()}
    data, drawn = method.save(own, {"schema": "konomi.adapter/1"}).adapter, image(pipe)
    with pytest.raises(
        FailedPrecondition, match=r"weights are packed as nf4, .* Set \[generator\] quantization"
    ) as caught:
        Adapters(pipe).apply([AdapterFile("a" * 64, data, 1.0)])
    assert caught.value.reason == "ADAPTER_QUANTIZED"
    assert np.array_equal(image(pipe), drawn)


def test_what_the_catalogue_counts_is_what_is_packed(home: Path) -> None:
    for id in ("sd3", "z-image", "lumina2", "chroma", "klein-base"):
        model = BaseModels(home).get(id)
        pipe = load_pipeline(model, home / "configs", CPU, torch.float32)
        linear = {n: m for n, m in pipe.transformer.named_modules() if type(m) is torch.nn.Linear}
        within = [layer for name, layer in linear.items() if is_quantizable(f"{name}.weight", 2)]
        sizes = [layer.weight.numel() for layer in within]
        assert (sum(sizes), max(sizes)) == (model.quantizable, model.largest_layer), id
        assert quantize(pipe.transformer, "int8", CPU) == sum(layer.in_features % 2 == 0 for layer in within)
    assert BaseModels(home).get("sdxl").quantizable == 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_of_a_published_transformer_almost_all_is_packed(name: str) -> None:
    model = published_model(name)
    assert 0.89 < model.quantizable / model.parameters["transformer"] < 1


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", FITS)
def test_what_night_fits_on_which_card_with_packed_weights(name: str, bits: str) -> None:
    shape = NightShape(images_together=1, rows_together=1, drawn_as=bits, trained_as=bits)
    memory = night_memory(published_model(name), shape)
    assert memory is not None
    assert tuple(memory.fit(size * GIB) for size in (12, 16, 24, 48)) == FITTING[bits].get(name, FITS[name])


def test_twelve_billion_weights_train_whole_on_24_gb_where_they_are_packed() -> None:
    flux = published_model("FLUX.1 [dev]")
    assert trains_in_blocks(flux, HALF, 24 * GIB)
    assert not trains_in_blocks(flux, HALF, 24 * GIB, "int8") and not trains_in_blocks(flux, HALF, 16 * GIB, "nf4")


def test_the_settings_decide_a_run_s_weights_and_the_request_stands_over_them(home: Path, tmp_path: Path) -> None:
    bases = BaseCatalogue(home, TrainerSettings(home=home, device="cpu", quantization="nf4"))
    defaults, digest = METHODS["lora"].defaults, bases.digest("z-image")
    for given, bits in (({}, "nf4"), ({"quantization": "int8"}, "int8"), ({"quantization": "none"}, "none")):
        configuration = complete("lora", "z-image", digest, 1, given, defaults, bases.traits("z-image"))
        bases.check(configuration)
        layers = [type(layer) for layer in bases.load(configuration).network.modules()]
        assert configuration.quantization == bits and (QuantizedLinear in layers) is (bits != NONE)
    digests = {
        complete("lora", "z-image", digest, 1, {"quantization": bits}, defaults).digest() for bits in ("", *NAMES)
    }
    assert len(digests) == 3, "the digest tells them apart, and none is what it was before there was a choice"
    assert complete("lora", "sd1", digest, 1, {}, defaults, bases.traits("sd1")).quantization == NONE


def test_the_generator_names_packed_weights_in_what_it_draws(home: Path) -> None:
    models = BaseModels(home)
    settings = GeneratorSettings(home=home, device="cpu", quantization="int8", single_file_configs=home / "configs")
    backend = DiffusersBackend(settings)
    assert backend.prepare(models.get("z-image"), [], Sampling(1, 4.0, 32, 32)).precision == "fp32+int8"
    assert backend.device_memory(models.get("z-image")).quantization == "int8"
    assert backend.prepare(models.get("sd1"), [], Sampling(1, 4.0, 32, 32)).precision == "fp32"
    (home / "konomi.toml").write_text('[trainer]\nquantization = "nf4"\nprocesses = 1\n')
    try:
        assert TrainerQuantization(home=home).quantization == "nf4"
    finally:
        (home / "konomi.toml").unlink()


def test_what_cannot_be_packed_is_refused_in_words(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bases = BaseCatalogue(home, TrainerSettings(home=home, device="cpu"))
    defaults = METHODS["lora"].defaults
    with pytest.raises(InvalidArgument, match="expected quantization none, int8, nf4; came 'int3'") as caught:
        complete("lora", "z-image", "0" * 64, 1, {"quantization": "int3"}, defaults)
    assert caught.value.field == "hyper_parameters.quantization"
    with pytest.raises(InvalidArgument, match=r"expected none, since of a sd1 so little .* nf4 came") as caught:
        bases.check(complete("lora", "sd1", bases.digest("sd1"), 1, {"quantization": "nf4"}, defaults))
    assert caught.value.field == "hyper_parameters.quantization"
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    asked = complete("lora", "z-image", bases.digest("z-image"), 1, {"quantization": "nf4"}, defaults)
    with pytest.raises(FailedPrecondition, match=r"pip install 'konomi\[quantized\]', or set \[trainer\]") as refused:
        bases.check(asked)
    assert refused.value.reason == "QUANTIZATION_UNAVAILABLE"
    backend = DiffusersBackend(GeneratorSettings(home=home, device="cpu", quantization="nf4"))
    with pytest.raises(FailedPrecondition, match=r"or set \[generator\] quantization to \"none\""):
        backend.prepare(BaseModels(home).get("z-image"), [], Sampling(1, 4.0, 32, 32))


def test_nothing_is_packed_where_nobody_asks() -> None:
    network = torch.nn.Module()
    network.layers = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(3, 4))])
    assert quantize(network, NONE, CPU) == 0
    assert quantize(network, "nf4", CPU) == 1, "a byte holds two weights of a row, so rows of an odd length stay whole"
    assert quantized_blocks.BLOCK_WEIGHTS["nf4"] == 64
