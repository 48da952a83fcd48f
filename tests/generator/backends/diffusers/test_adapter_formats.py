"""Every tensor of an adapter file is applied, by the equation of its kind, or the file is refused by name."""

import hashlib
import json
import math

import pytest
import torch
from safetensors.torch import save

from konomi.errors import FailedPrecondition
from konomi_generator.backends.diffusers.adapters import Adapters, check_adapter
from konomi_generator.sampling import AdapterFile
from tests.generator import tiny_models

ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
CONVOLUTION = "down_blocks.1.resnets.0.conv1"
XL_NAMES = {
    ATTENTION: "input_blocks_4_1_transformer_blocks_0_attn2_to_k",
    CONVOLUTION: "input_blocks_4_0_in_layers_2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op",
    "mid_block.attentions.0.proj_in": "middle_block_1_proj_in",
    "time_embedding.linear_1": "time_embed_0",
}
"""Modules of SDXL's UNet and what kohya's files call them, written down from such files."""
TEXT = "encoder.layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def sd1():
    return tiny_models.sd1()


@pytest.fixture(scope="module")
def sdxl():
    return tiny_models.sdxl()


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def parameter(pipe, module: str, component: str = "unet", name: str = "weight") -> torch.Tensor:
    network = getattr(pipe, component)
    names = dict(network.named_parameters())
    key = next(key for key in names if key.removeprefix("text_model.") == f"{module}.{name}")
    return names[key]


def adapter(tensors: dict[str, torch.Tensor], scale: float = 1.0, header: dict[str, str] | None = None) -> AdapterFile:
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, header)
    return AdapterFile(hashlib.sha256(data).hexdigest(), data, scale)


def changed(pipe, file: AdapterFile) -> dict[str, torch.Tensor]:
    """What a file adds to the weights it touches; the pipeline is as before afterwards."""
    parts = [name for name in ("unet", "text_encoder", "text_encoder_2") if getattr(pipe, name, None) is not None]
    before = {f"{p}.{n}": w.detach().clone() for p in parts for n, w in getattr(pipe, p).named_parameters()}
    adapters = Adapters(pipe)
    adapters.apply([file])
    after = {f"{p}.{n}": w.detach().clone() for p in parts for n, w in getattr(pipe, p).named_parameters()}
    adapters.apply([])
    back = {f"{p}.{n}": w for p in parts for n, w in getattr(pipe, p).named_parameters()}
    assert all(torch.equal(back[name], before[name]) for name in before), "the base comes back to the last bit"
    return {name: after[name] - before[name] for name in before if not torch.equal(after[name], before[name])}


def only(changes: dict[str, torch.Tensor]) -> torch.Tensor:
    (change,) = changes.values()
    return change


def pair(weight: torch.Tensor, rank: int = 3, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return drawn(rank, *weight.shape[1:], seed=seed), drawn(
        weight.shape[0], rank, *[1] * (weight.dim() - 2), seed=seed + 1
    )


def as_conv(up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """What convolving with `down` and then with `up` is as one kernel."""
    return torch.einsum("orxy,rikl->oikl", up, down)


@pytest.mark.parametrize("module", [ATTENTION, CONVOLUTION])
def test_a_lora_is_alpha_by_rank_times_its_product_at_its_scale(sd1, module: str) -> None:
    weight = parameter(sd1, module)
    down, up = pair(weight)
    key = f"lora_unet_{module.replace('.', '_')}"
    wanted = up @ down if weight.dim() == 2 else as_conv(up, down)
    tensors = {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(1.5)}
    assert torch.allclose(only(changed(sd1, adapter(tensors, 0.8))), 0.8 * 0.5 * wanted, atol=1e-5)
    tensors.pop(f"{key}.alpha")
    assert torch.allclose(only(changed(sd1, adapter(tensors))), wanted, atol=1e-5), "without alpha it is the rank"


def test_a_convolution_with_a_middle_part_is_the_three_in_turn(sd1) -> None:
    weight = parameter(sd1, CONVOLUTION)
    down, mid, up = drawn(3, weight.shape[1], 1, 1), drawn(3, 3, 3, 3, seed=2), drawn(weight.shape[0], 3, 1, 1, seed=3)
    image = drawn(1, weight.shape[1], 5, 5, seed=4)
    conv = torch.nn.functional.conv2d
    wanted = conv(conv(conv(image, down), mid, padding=1), up)
    key = f"lora_unet_{CONVOLUTION.replace('.', '_')}"
    change = only(
        changed(
            sd1, adapter({f"{key}.lora_down.weight": down, f"{key}.lora_mid.weight": mid, f"{key}.lora_up.weight": up})
        )
    )
    assert torch.allclose(conv(image, change, padding=1), wanted, atol=1e-4)


@pytest.mark.parametrize("module", [ATTENTION, CONVOLUTION])
@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_a_kohya_dora_gives_rows_or_columns_their_learnt_lengths(sd1, module: str, axis: str) -> None:
    weight = parameter(sd1, module).detach()
    down, up = pair(weight)
    turned = weight + (up @ down if weight.dim() == 2 else as_conv(up, down))
    kept = 0 if axis == "rows" else 1
    norm = turned.pow(2).sum(dim=[d for d in range(weight.dim()) if d != kept], keepdim=True).sqrt()
    lengths = norm * (1 + drawn(*norm.shape, seed=9))
    key = f"lora_unet_{module.replace('.', '_')}"
    tensors = {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.dora_scale": lengths}
    wanted = turned * lengths / norm - weight
    assert torch.allclose(only(changed(sd1, adapter(tensors))), wanted, atol=1e-5)
    assert torch.allclose(only(changed(sd1, adapter(tensors, 0.25))), 0.25 * wanted, atol=1e-5)


def test_two_adapters_on_one_weight_are_each_reckoned_from_the_base(sd1) -> None:
    weight = parameter(sd1, ATTENTION).detach()
    key = f"lora_unet_{ATTENTION.replace('.', '_')}"
    files = []
    for seed in (1, 5):
        down, up = pair(weight, seed=seed)
        lengths = weight.norm(dim=1, keepdim=True) * 1.3
        files.append(
            adapter({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.dora_scale": lengths})
        )
    parts = [only(changed(sd1, file)) for file in files]
    adapters = Adapters(sd1)
    before = weight.clone()
    adapters.apply(files)
    assert torch.allclose(parameter(sd1, ATTENTION) - before, parts[0] + parts[1], atol=1e-5)
    adapters.apply(files[::-1])
    assert torch.allclose(parameter(sd1, ATTENTION) - before, parts[0] + parts[1], atol=1e-5)
    adapters.apply([])


def test_loha_is_the_product_of_two_products_cell_by_cell(sd1) -> None:
    weight, key = parameter(sd1, ATTENTION), f"lora_unet_{ATTENTION.replace('.', '_')}"
    a1, b1, a2, b2 = (drawn(*s, seed=n) for n, s in enumerate([(64, 2), (2, 64), (64, 2), (2, 64)], 1))
    assert weight.shape == (32, 64) or weight.shape[1] == 64
    a1, a2 = a1[: weight.shape[0]], a2[: weight.shape[0]]
    tensors = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "alpha": torch.tensor(1.0)}
    change = only(changed(sd1, adapter({f"{key}.{name}": tensor for name, tensor in tensors.items()})))
    assert torch.allclose(change, 0.5 * (a1 @ b1) * (a2 @ b2), atol=1e-5)


@pytest.mark.parametrize("first", ["whole", "product"])
@pytest.mark.parametrize("second", ["whole", "product"])
def test_lokr_is_a_kronecker_product_and_alpha_counts_where_a_factor_has_a_rank(sd1, first: str, second: str) -> None:
    weight, key = parameter(sd1, ATTENTION), f"lora_unet_{ATTENTION.replace('.', '_')}"
    small, large = drawn(4, 8), drawn(weight.shape[0] // 4, weight.shape[1] // 8, seed=2)
    tensors = {"alpha": torch.tensor(1.0)}
    factor = 1.0 if (first, second) == ("whole", "whole") else 0.5
    for name, kind, matrix in (("lokr_w1", first, small), ("lokr_w2", second, large)):
        if kind == "whole":
            tensors[name] = matrix
        else:
            tensors |= {f"{name}_a": matrix[:, :2], f"{name}_b": drawn(2, matrix.shape[1], seed=7)}
    small = small if first == "whole" else tensors["lokr_w1_a"] @ tensors["lokr_w1_b"]
    large = large if second == "whole" else tensors["lokr_w2_a"] @ tensors["lokr_w2_b"]
    change = only(changed(sd1, adapter({f"{key}.{name}": tensor for name, tensor in tensors.items()})))
    rows = [torch.cat([value * large for value in row], dim=1) for row in small]
    assert torch.allclose(change, factor * torch.cat(rows), atol=1e-5)


def test_whole_changes_of_layers_norms_and_biases_are_added(sd1) -> None:
    norm, layer = "down_blocks.1.resnets.0.norm1", "time_embedding.linear_1"
    tensors = {
        f"lora_unet_{norm.replace('.', '_')}.w_norm": drawn(*parameter(sd1, norm).shape),
        f"lora_unet_{norm.replace('.', '_')}.b_norm": drawn(*parameter(sd1, norm, name="bias").shape, seed=2),
        f"lora_unet_{layer.replace('.', '_')}.diff": drawn(*parameter(sd1, layer).shape, seed=3),
        f"lora_unet_{layer.replace('.', '_')}.diff_b": drawn(*parameter(sd1, layer, name="bias").shape, seed=4),
    }
    changes = changed(sd1, adapter(tensors, 0.5))
    assert len(changes) == 4
    names = (f"{norm}.weight", f"{norm}.bias", f"{layer}.weight", f"{layer}.bias")
    for tensor, name in zip(tensors.values(), names, strict=True):
        assert torch.allclose(changes[f"unet.{name}"], 0.5 * tensor, atol=1e-6)


def spelled(module: str, letter: str) -> dict[str, tuple[str, str]]:
    """The names of one layer's two factors in files of every age, by where such files come from."""
    under = module.replace(".", "_")
    attention = module.rpartition(".")[0]
    text = f"text_model.{TEXT}"
    return {
        "kohya": (f"lora_unet_{under}.lora_down.weight", f"lora_unet_{under}.lora_up.weight"),
        "LyCORIS alone": (f"lycoris_{under}.lora_down.weight", f"lycoris_{under}.lora_up.weight"),
        "diffusers": (f"unet.{module}.lora_A.weight", f"unet.{module}.lora_B.weight"),
        "diffusers 0.19": (f"unet.{module}.lora.down.weight", f"unet.{module}.lora.up.weight"),
        "diffusers 0.15": (
            f"unet.{attention}.processor.to_{letter}_lora.down.weight",
            f"unet.{attention}.processor.to_{letter}_lora.up.weight",
        ),
        "diffusers 0.12": (
            f"{attention}.processor.to_{letter}_lora.down.weight",
            f"{attention}.processor.to_{letter}_lora.up.weight",
        ),
        "peft's names": (f"unet.{module}.lora_A.default.weight", f"unet.{module}.lora_B.default.weight"),
        "text, kohya": (
            f"lora_te_{text.replace('.', '_')}.lora_down.weight",
            f"lora_te_{text.replace('.', '_')}.lora_up.weight",
        ),
        "text, diffusers": (f"text_encoder.{text}.lora_A.weight", f"text_encoder.{text}.lora_B.weight"),
        "text, transformers 5": (f"text_encoder.{TEXT}.lora_A.weight", f"text_encoder.{TEXT}.lora_B.weight"),
        "text, diffusers 0.19": (
            f"text_encoder.{text}.lora_linear_layer.down.weight",
            f"text_encoder.{text}.lora_linear_layer.up.weight",
        ),
        "text, diffusers 0.18": (
            f"text_encoder.{text.removesuffix('.q_proj')}.to_q_lora.down.weight",
            f"text_encoder.{text.removesuffix('.q_proj')}.to_q_lora.up.weight",
        ),
    }


@pytest.mark.parametrize("source", spelled(ATTENTION, "k"))
def test_the_names_of_every_age_mean_the_same_layer(sd1, source: str) -> None:
    text = source.startswith("text")
    weight = parameter(sd1, TEXT if text else ATTENTION, "text_encoder" if text else "unet")
    down, up = pair(weight)
    names = spelled(ATTENTION, "k")[source]
    change = only(changed(sd1, adapter(dict(zip(names, (down, up), strict=True)))))
    assert torch.allclose(change, up @ down, atol=1e-5)


@pytest.mark.parametrize("module", XL_NAMES)
def test_sdxl_s_unet_goes_by_its_original_block_numbers_too(sdxl, module: str) -> None:
    weight = parameter(sdxl, module)
    down, up = pair(weight)
    for key in (XL_NAMES[module], module.replace(".", "_")):
        tensors = {f"lora_unet_{key}.lora_down.weight": down, f"lora_unet_{key}.lora_up.weight": up}
        change = changed(sdxl, adapter(tensors))
        assert list(change) == [f"unet.{module}.weight"]


def test_sdxl_s_second_text_encoder_is_meant_by_te2(sdxl) -> None:
    for head, component in (("lora_te1", "text_encoder"), ("lora_te2", "text_encoder_2")):
        weight = parameter(sdxl, TEXT, component)
        down, up = pair(weight)
        key = f"{head}_text_model_{TEXT.replace('.', '_')}"
        change = changed(sdxl, adapter({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}))
        assert [name.partition(".")[0] for name in change] == [component]


@pytest.mark.parametrize(
    ("said", "factor"),
    [
        ({"lora_alpha": 6, "r": 3}, 2.0),
        ({"lora_alpha": 6, "r": 3, "use_rslora": True}, 6 / math.sqrt(3)),
        ({"lora_alpha": 6, "r": 8, "rank_pattern": {"attn2.to_k": 3}, "alpha_pattern": {"attn2.to_k": 12}}, 4.0),
        ({"lora_alpha": 6, "r": 3, "alpha_pattern": {"attn1.to_k": 12}}, 2.0),
    ],
)
def test_the_header_s_own_alpha_and_its_patterns_count(sd1, said: dict, factor: float) -> None:
    down, up = pair(parameter(sd1, ATTENTION))
    header = {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in said.items()})}
    tensors = {f"unet.{ATTENTION}.lora_A.weight": down, f"unet.{ATTENTION}.lora_B.weight": up}
    assert torch.allclose(only(changed(sd1, adapter(tensors, header=header))), factor * (up @ down), atol=1e-4)


KEY = f"lora_unet_{ATTENTION.replace('.', '_')}"
FOREIGN = {
    "OFT": {f"{KEY}.oft_blocks": (2, 4, 4), f"{KEY}.alpha": ()},
    "GLoRA": {f"{KEY}.a1.weight": (2, 4), f"{KEY}.a2.weight": (4, 2), f"{KEY}.b1.weight": (2, 4)},
    "IA3": {f"{KEY}.weight": (4,), f"{KEY}.on_input": ()},
    "sparse biases": {f"{KEY}.lora_up.weight": (4, 2), f"{KEY}.lora_down.weight": (2, 4), f"{KEY}.bias_indices": (1,)},
    "bundled with embeddings": {f"{KEY}.lora_up.weight": (4, 2), "bundle_emb.cat.string_to_param.*": (1, 4)},
    "adapter_config.json": {f"base_model.model.{ATTENTION}.lora_A.weight": (2, 4)},
    "FLUX": {"lora_unet_double_blocks_0_img_attn_proj.scale_weight": (2, 4)},
    "textual inversion": {"emb_params": (2, 4)},
    "whole checkpoint": {"model.diffusion_model.out.2.weight": (2, 4)},
    "no adapter that konomi knows": {"anything": (2,)},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_cannot_be_applied_is_refused_by_the_name_of_its_kind(sd1, kind: str) -> None:
    file = adapter({name: torch.zeros(shape) for name, shape in FOREIGN[kind].items()})
    with pytest.raises(FailedPrecondition) as caught:
        check_adapter(file.digest, file.data)
    assert caught.value.reason == "ADAPTER_KIND" and kind in caught.value.message
    assert "tensors that konomi cannot apply" in caught.value.message and "Give a LoRA" in caught.value.message
    with pytest.raises(FailedPrecondition):
        changed(sd1, file)


def pieces() -> dict[str, dict[str, torch.Tensor]]:
    """Files that are short of something, by what is wrong with them."""
    down, up = drawn(3, 64), drawn(32, 3, seed=2)
    number = torch.tensor(1.0)
    whole = {"lora_down.weight": down, "lora_up.weight": up}
    files = {
        "no up": {"lora_down.weight": down, "alpha": number},
        "alpha alone": {"alpha": number},
        "lengths alone": {"dora_scale": drawn(32, 1)},
        "half a LoHa": {"hada_w1_a": up, "hada_w1_b": down},
        "half a LoKr": {"lokr_w1": drawn(4, 8), "lokr_w2_a": drawn(8, 2)},
        "two kinds": whole | {"diff": drawn(32, 64)},
        "rank 0": {"lora_down.weight": drawn(0, 64), "lora_up.weight": drawn(32, 0), "alpha": number},
        "a number for a matrix": {"lora_down.weight": number, "lora_up.weight": up},
        "alpha of two": whole | {"alpha": torch.ones(2)},
    }
    named = {what: {f"{KEY}.{name}": tensor for name, tensor in file.items()} for what, file in files.items()}
    return named | {"one layer twice": named["two kinds"] | {f"unet.{ATTENTION}.lora_A.weight": drawn(3, 64)}}


@pytest.mark.parametrize("what", pieces())
def test_half_a_change_is_refused_and_the_base_stays(sd1, what: str) -> None:
    before = parameter(sd1, ATTENTION).detach().clone()
    with pytest.raises(FailedPrecondition) as caught:
        Adapters(sd1).apply([adapter(pieces()[what])])
    assert caught.value.reason == "ADAPTER_KIND" and ATTENTION.replace(".", "_") in caught.value.message.replace(
        ".", "_"
    )
    assert torch.equal(parameter(sd1, ATTENTION), before)


def misfits() -> dict[str, dict[str, torch.Tensor]]:
    """Files of other models, by what does not fit."""
    down, up, other = drawn(3, 64), drawn(32, 3, seed=2), "lora_unet_down_blocks_9_attn"
    huge = torch.zeros(3000, 3000)
    files = {
        "too wide": {"lora_down.weight": drawn(3, 65), "lora_up.weight": up},
        "ranks that differ": {"lora_down.weight": drawn(4, 64), "lora_up.weight": up},
        "a Kronecker product beyond memory": {"lokr_w1": huge, "lokr_w2": huge.clone()},
        "lengths of other rows": {"lora_down.weight": down, "lora_up.weight": up, "dora_scale": drawn(7, 1)},
        "no such bias": {"diff_b": drawn(32)},
        "infinity": {"lora_down.weight": down * math.inf, "lora_up.weight": up},
    }
    return {what: {f"{KEY}.{name}": tensor for name, tensor in file.items()} for what, file in files.items()} | {
        "no such layer": {f"{other}.lora_down.weight": down, f"{other}.lora_up.weight": up},
        "a second text encoder": {"lora_te2_text_model_final_layer_norm.diff": drawn(64)},
    }


@pytest.mark.parametrize("what", misfits())
def test_an_adapter_of_another_model_is_refused_and_the_base_stays(sd1, what: str) -> None:
    before = parameter(sd1, ATTENTION).detach().clone()
    with pytest.raises(FailedPrecondition) as caught:
        Adapters(sd1).apply([adapter(misfits()[what])])
    assert caught.value.reason == "ADAPTER_MISMATCH" and "trained on this base model" in caught.value.message
    assert torch.equal(parameter(sd1, ATTENTION), before)


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"unet.peft_type": "OFT"}', "OFT"),
        ('{"unet.use_dora": true}', "without the lengths"),
    ],
)
def test_a_header_that_says_what_the_file_does_not_hold_is_refused(sd1, header: str, kind: str) -> None:
    down, up = pair(parameter(sd1, ATTENTION))
    tensors = {f"unet.{ATTENTION}.lora_A.weight": down, f"unet.{ATTENTION}.lora_B.weight": up}
    with pytest.raises(FailedPrecondition) as caught:
        Adapters(sd1).apply([adapter(tensors, header={"lora_adapter_metadata": header})])
    assert caught.value.reason == "ADAPTER_KIND" and kind in caught.value.message
