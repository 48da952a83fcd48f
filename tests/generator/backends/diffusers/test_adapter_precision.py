"""What of an adapter arrives in bfloat16: a LoRA exactly, beside the layer; all else without loss on average."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save

from konomi.errors import FailedPrecondition
from konomi_chassis.models.loading import load_pipeline
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.backends.diffusers.shared_network import takes_low_rank, with_low_rank
from konomi_generator.backends.diffusers.stochastic_rounding import rounded, seed_of
from konomi_generator.sampling import AdapterFile, ImageRequest, Sampling
from tests.generator import tiny_models
from tests.generator.backends.diffusers.test_adapters import lora

WIDTH, SHARE = 1280, 0.003
BFLOAT = torch.bfloat16


def changed_layer(dtype: torch.dtype, share: float = SHARE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A weight as attention has them, and factors (up, down) of a change of so large a share of its norm."""
    torch.manual_seed(1)
    weight = (torch.randn(WIDTH, WIDTH) * 0.025).to(dtype)
    down, up = torch.randn(8, WIDTH) * 0.016, torch.randn(WIDTH, 8)
    return weight, up * (share * weight.float().norm() / (up @ down).norm()), down


def error(arrived: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((arrived - wanted).norm() / wanted.norm())


def test_a_lora_beside_a_bfloat16_layer_arrives_within_2_percent() -> None:
    weight, up, down = changed_layer(BFLOAT)
    layer = torch.nn.Linear(WIDTH, WIDTH, bias=False, dtype=BFLOAT)
    layer.weight.data = weight
    beside = with_low_rank(layer, down, up)
    assert beside.weight is layer.weight
    assert error(beside.up.float() @ beside.down.float(), up @ down) < 0.02
    nearest = (weight.float() + up @ down).to(BFLOAT).float() - weight.float()
    assert error(nearest, up @ down) > 0.4, "what rounding to the nearest number would leave"


def test_rounding_by_chance_brings_the_whole_change_in_the_adapters_own_directions() -> None:
    weight, up, down = changed_layer(BFLOAT)
    wanted, plain = up @ down, weight.float()
    left, right = torch.linalg.qr(up)[0], torch.linalg.qr(down.T)[0]

    def inside(after: torch.Tensor) -> float:
        return error(left.T @ (after.float() - plain) @ right, left.T @ wanted @ right)

    assert inside(rounded(plain + wanted, BFLOAT, 5)) < 0.02 < 0.05 < inside((plain + wanted).to(BFLOAT))


def test_rounding_by_chance_takes_a_neighbour_is_fair_and_repeats() -> None:
    values = torch.tensor([0.0, 1.0, -1.0, 1.001, -3.14159, 1e-30, 65504.0, 3e38, -1e-40]).repeat(4000, 1)
    once = rounded(values, BFLOAT, 7)
    assert once.dtype == BFLOAT and torch.equal(once, rounded(values, BFLOAT, 7))
    assert not torch.equal(once, rounded(values, BFLOAT, 8))
    exact = values[0] == values[0].to(BFLOAT).float()
    assert torch.equal(once[:, exact].float(), values[:, exact]) and exact.sum() >= 3
    assert all(len(set(column.tolist())) <= 2 for column in once.float().T)
    mean, step = once.double().mean(0), once.double().std(0) / 4000**0.5
    assert bool(((mean - values[0].double()).abs() <= 5 * step + 1e-45).all())
    assert torch.equal(rounded(values, torch.float32, 7), values)
    assert torch.equal(rounded(values[:, :5], torch.float16, 7), values[:, :5].half())
    assert seed_of("a", 1) == seed_of("a", 1) != seed_of("a", 2)


@pytest.fixture
def opened(models, settings):
    """Opens a base model in a number format."""

    def opened(dtype: torch.dtype, id: str = "starter"):
        return load_pipeline(models.get(id), settings.single_file_configs, torch.device("cpu"), dtype)

    return opened


def image(pipe, adapters: Adapters) -> np.ndarray:
    with torch.inference_mode():
        batch = DenoisingBatch([ImageRequest(0, "a cat", 5)], 4)
        return Denoiser(pipe, adapters.base_unet).run(batch, Sampling(2, 4.0, 64, 64), lambda: False)


def test_a_lora_in_bfloat16_leaves_every_weight_as_it_is_and_comes_off_exactly(opened) -> None:
    pipe = opened(BFLOAT)
    plain = {name: weight.clone() for name, weight in pipe.unet.named_parameters()}
    kinds = [type(module) for module in pipe.unet.modules()]
    adapters = Adapters(pipe)
    bare = image(pipe, adapters)
    file = AdapterFile("a" * 64, lora(1, text=tiny_models.starter().text_encoder), 1.0)
    assert adapters.apply([file])
    once = image(pipe, adapters)
    assert np.abs(once - bare).max() > 1e-2
    assert all(torch.equal(weight, plain[name]) for name, weight in pipe.unet.named_parameters())
    base, own = adapters.base_unet(), {id(weight) for weight in pipe.unet.parameters()}
    assert {id(weight) for weight in base.parameters()} == own, "not a number is there twice"
    assert [type(module) for module in base.modules()] == kinds != [type(module) for module in pipe.unet.modules()]
    assert adapters.apply([]) and np.array_equal(image(pipe, adapters), bare)
    assert [type(module) for module in pipe.unet.modules()] == kinds
    assert adapters.apply([file]) and np.array_equal(image(pipe, adapters), once)


def arrived(pipe, adapters: Adapters) -> dict:
    """What each weight is changed by with a set of adapters on: its place → (O, …) float32."""
    fused = {place: adapters._parameter(place) - adapters._base[place] for place in adapters._touched}
    for place in adapters._plain:
        layer = adapters._layer(place)
        fused[place] = (layer.up.float().flatten(1) @ layer.down.float().flatten(1)).reshape(layer.weight.shape)
    return fused


def test_two_adapters_in_bfloat16_are_what_they_are_in_float32_and_the_same_every_time(opened) -> None:
    files = [AdapterFile("a" * 64, lora(1), 0.8), AdapterFile("b" * 64, lora(2, rank=2), 0.5)]
    pictures, changes = [], []
    for dtype in (torch.float32, BFLOAT, BFLOAT):
        pipe = opened(dtype)
        adapters = Adapters(pipe)
        adapters.apply(files)
        pictures.append(image(pipe, adapters))
        changes.append(arrived(pipe, adapters))
    assert np.array_equal(pictures[1], pictures[2])
    assert changes[0].keys() == changes[1].keys() and len(changes[0]) > 20
    assert all(error(changes[1][place], wanted) < 0.02 for place, wanted in changes[0].items())


@pytest.mark.parametrize("both", [False, True])
def test_in_float16_a_lora_runs_beside_where_the_base_runs_too_and_else_in_the_weights(both: bool, opened) -> None:
    pipe = opened(torch.float16)
    adapters = Adapters(pipe)
    bare, file = image(pipe, adapters), [AdapterFile("a" * 64, lora(1), 1.0)]
    assert adapters.apply(file, both=both) and not adapters.apply(file, both=both)
    assert bool(adapters._plain) is both and bool(adapters._touched) is not both
    own = {id(weight) for weight in pipe.unet.parameters()}
    assert ({id(weight) for weight in adapters.base_unet().parameters()} == own) is both
    assert all(error(change, wanted) < 0.05 for change, wanted in zip(*_changes(opened, file, both), strict=True))
    assert adapters.apply(file, both=not both) and bool(adapters._plain) is not both
    assert adapters.apply([]) and np.array_equal(image(pipe, adapters), bare)


def _changes(opened, file: list[AdapterFile], both: bool) -> list[list[torch.Tensor]]:
    """What arrives of an adapter in float16 and in float32, weight by weight."""
    changes = []
    for dtype in (torch.float16, torch.float32):
        pipe = opened(dtype)
        adapters = Adapters(pipe)
        adapters.apply(file, both=both)
        changes.append([change.float() for _, change in sorted(arrived(pipe, adapters).items())])
    return changes


def test_a_change_without_factors_is_rounded_by_chance_from_the_digest(opened) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    pipe = opened(BFLOAT)
    weight = pipe.unet.get_parameter(f"{name}.weight")
    delta = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)) * 1e-4
    data, adapters, seen = save({f"unet.{name}.diff": delta}), Adapters(pipe), []
    for digest in ("a", "a", "b"):
        adapters = Adapters(pipe)
        adapters.apply([AdapterFile(digest * 64, data, 1.0)])
        seen.append(weight.clone())
        adapters.apply([])
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert abs(float(((seen[0].float() - weight.float()) * delta).sum() / delta.square().sum()) - 1) < 0.5


def test_convolutions_take_a_lora_beside_them_too(opened) -> None:
    unet = tiny_models.starter().unet
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["conv1", "to_q"], init_lora_weights=False)
    inject_adapter_in_model(config, unet, "default")
    data = save({f"unet.{k}": v.contiguous() for k, v in get_peft_model_state_dict(unet).items()})
    changes = []
    for dtype in (torch.float32, BFLOAT):
        pipe = opened(dtype)
        adapters = Adapters(pipe)
        bare = image(pipe, adapters)
        adapters.apply([AdapterFile("a" * 64, data, 1.0)])
        kinds = {type(layer).__name__ for layer in adapters._plain.values()}
        assert kinds == ({"Linear", "Conv2d"} if dtype == BFLOAT else set())
        changes.append(arrived(pipe, adapters))
        assert np.abs(image(pipe, adapters) - bare).max() > 1e-2
    assert all(error(changes[1][place], wanted) < 0.02 for place, wanted in changes[0].items())


def test_a_layer_with_a_lora_beside_it_answers_as_one_with_the_change_in_its_weight() -> None:
    torch.manual_seed(2)
    for layer, given in (
        (torch.nn.Linear(8, 6), torch.randn(3, 5, 8)),
        (torch.nn.Conv2d(8, 6, 3, stride=2, padding=1), torch.randn(2, 8, 9, 9)),
    ):
        down, up = torch.randn(4, *layer.weight.shape[1:]), torch.randn(6, 4, *[1] * (layer.weight.dim() - 2))
        beside = with_low_rank(layer, down, up)
        plain = layer(given)
        layer.weight.data += (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape)
        whole = layer(given)
        layer.weight.data -= (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape)
        assert torch.allclose(beside(given), whole, atol=1e-4) and not torch.allclose(plain, whole, atol=1e-2)


def test_what_does_not_fit_is_refused_in_bfloat16_too(opened) -> None:
    pipe = opened(BFLOAT)
    adapters = Adapters(pipe)
    with pytest.raises(FailedPrecondition) as caught:
        adapters.apply([AdapterFile("c" * 64, lora(1, unet=tiny_models.sd1().unet), 1.0)])
    assert caught.value.reason == "ADAPTER_MISMATCH" and not adapters._plain
    assert not takes_low_rank(torch.nn.Conv2d(4, 4, 3, groups=2)) and takes_low_rank(torch.nn.Conv2d(4, 4, 3))
