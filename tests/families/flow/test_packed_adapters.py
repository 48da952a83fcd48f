"""LoRA files of the families that pack latents: trained, exported, read by konomi and plain diffusers, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from safetensors.torch import load as tensors_of
from safetensors.torch import save

from konomi.errors import FailedPrecondition
from konomi_chassis.models.families import table
from konomi_chassis.models.families.layer_names import HEAD
from konomi_chassis.models.safetensors_check import check_bytes
from konomi_generator.backends.diffusers.adapter_changes import Strength, changes
from konomi_generator.backends.diffusers.adapter_keys import ModuleNames
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.sampling import AdapterFile, ImageRequest, Sampling
from konomi_trainer.base_models.pipeline import BaseInfo
from konomi_trainer.data.tensors import pack
from konomi_trainer.export import kohya, model_card
from konomi_trainer.storage.models import ModelRow
from tests.families.flow.test_packed import by_prompt, load
from tests.families.test_protocol import prepared

IDS = ("flux1-dev", "chroma", "qwen-image", "klein-base")
ROW, SIDE, STEPS = ImageRequest(0, "a cat", 5), 32, 2
TRAINED_STEPS = 3


@pytest.fixture(scope="module", params=IDS)
def id(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def trained(id: str, home: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a LoRA after three steps."""
    _, method = prepared(home, tmp_path_factory.mktemp("cache"), id, SIDE)
    optimiser = torch.optim.AdamW(method.weights.values(), lr=0.05)
    for step in range(TRAINED_STEPS):
        optimiser.zero_grad()
        method.loss(step, range(3)).backward()
        optimiser.step()
    weights = {name: weight.detach().clone() for name, weight in method.weights.items()}
    return method.save(weights, {"schema": "konomi.adapter/1"}).adapter


@pytest.fixture(scope="module")
def pipe(id: str, home: Path) -> Any:
    pipe = load(home, id)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def image(pipe: Any, *adapters: bytes) -> np.ndarray:
    """Returns konomi's own image with adapters on; they are off again afterwards."""
    fused = Adapters(pipe)
    fused.apply([AdapterFile(f"{number:064x}", data, 1.0) for number, data in enumerate(adapters)])
    with torch.inference_mode():
        drawn = Denoiser(pipe).run(DenoisingBatch([ROW], 1), Sampling(STEPS, 1.0, SIDE, SIDE), lambda: False)
    fused.apply([])
    return drawn


def theirs(pipe: Any, data: bytes, folder: Path) -> np.ndarray:
    """Returns the image of plain diffusers with a file it loaded itself."""
    (folder / "lora.safetensors").write_bytes(data)
    pipe.load_lora_weights(folder, weight_name="lora.safetensors", local_files_only=True)
    try:
        with torch.inference_mode():
            settings = {"num_inference_steps": STEPS, "width": SIDE, "height": SIDE, "output_type": "np"}
            generator = torch.Generator().manual_seed(ROW.seed)
            return pipe(**by_prompt(pipe, ROW, 1.0), **settings, generator=generator).images
    finally:
        pipe.unload_lora_weights()


def exported(data: bytes, pipe: Any) -> bytes:
    return pack(kohya.rename(tensors_of(data), table.of_pipeline(pipe).name, 0), {})


def as_kohya(data: bytes) -> bytes:
    """Returns a file for ComfyUI under the names of kohya's scripts."""
    renamed = {}
    for name, tensor in tensors_of(data).items():
        flat = name.replace("lora_A.", "lora_down.").replace("lora_B.", "lora_up.")
        module, end = flat.rsplit(".alpha" if flat.endswith(".alpha") else ".lora_", 1)
        end = ".alpha" if flat.endswith(".alpha") else f".lora_{end}"
        renamed[f"lora_unet_{module.removeprefix(HEAD).replace('.', '_')}{end}"] = tensor
    return save(renamed)


def test_a_trained_lora_draws_the_same_in_plain_diffusers(trained: bytes, pipe: Any, tmp_path: Path) -> None:
    plain, drawn = image(pipe), image(pipe, trained)
    assert np.abs(drawn - plain).max() > 0.02
    assert np.abs(theirs(pipe, trained, tmp_path) - drawn).max() < 1e-3
    assert np.array_equal(image(pipe), plain)


@pytest.mark.slow
def test_its_export_for_comfyui_and_kohya_s_names_come_back_as_the_same_lora(
    id: str, trained: bytes, pipe: Any, tmp_path: Path
) -> None:
    """In plain diffusers where its converters take layers of any width; see the next test for the others."""
    drawn, comfy = image(pipe, trained), exported(trained, pipe)
    assert all(name.startswith(HEAD) for name in tensors_of(comfy))
    assert np.abs(image(pipe, comfy) - drawn).max() < 1e-3
    assert np.array_equal(image(pipe, as_kohya(comfy)), image(pipe, comfy))
    if id in ("qwen-image", "klein-base"):
        for data in (comfy, as_kohya(comfy)):
            assert np.abs(theirs(pipe, data, tmp_path) - drawn).max() < 1e-3


def test_diffusers_takes_a_joined_lora_of_the_published_widths_apart() -> None:
    """Of FLUX.1's width, 3072, which its converter counts on; Chroma's pipeline has the same."""
    width, rank = 3072, 2
    generator = torch.Generator().manual_seed(1)
    double, single = "transformer.transformer_blocks.18.attn.", "transformer.single_transformer_blocks.37.attn."
    modules = [f"{double}add_k_proj", f"{double}to_add_out", *(f"{single}{name}" for name in ("to_q", "to_k", "to_v"))]
    weights = {}
    for module in modules:
        weights[f"{module}.lora_A.weight"] = torch.randn(rank, width, generator=generator)
        weights[f"{module}.lora_B.weight"] = torch.randn(width, rank, generator=generator)
    seen = torch.randn(width, generator=generator) / width**0.5
    comfy = kohya.rename(weights, "flux1", 0)
    assert comfy.keys() == kohya.rename(weights, "chroma", 0).keys()
    for named in (comfy, tensors_of(as_kohya(save(comfy)))):
        read = FluxPipeline.lora_state_dict(dict(named))
        for module in modules:
            up, down = (read.pop(f"{module}.lora_{letter}.weight").float() for letter in "BA")
            own = weights[f"{module}.lora_B.weight"] @ (weights[f"{module}.lora_A.weight"] @ seen)
            assert torch.allclose(up @ (down @ seen), own, atol=1e-2), module
        assert not any(read[key].any() for key in read if "lora_B" in key)  # what is joined with them and did not learn


def strange(pipe: Any, data: bytes) -> str:
    with pytest.raises(FailedPrecondition) as refused:
        image(pipe, data)
    assert refused.value.reason == "ADAPTER_MISMATCH"
    return str(refused.value)


FOREIGN = {
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": "Stable Diffusion 1.x, 2.x or XL",
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q": "Stable Diffusion 1.x, 2.x or XL",
    "diffusion_model.joint_blocks.3.x_block.attn.qkv": "Stable Diffusion 3",
    "diffusion_model.layers.7.attention.to_q": "Z-Image",
    "lora_unet_double_blocks_30_img_attn_qkv": "FLUX.1, FLUX.2 or Chroma",
    "transformer.transformer_blocks.40.img_mlp.net.2": "Qwen-Image",
    "transformer.single_transformer_blocks.40.attn.to_qkv_mlp_proj": "FLUX.2",
    "transformer.transformer_blocks.40.attn.to_q": "a model with joint attention",
}


@pytest.mark.parametrize("layer", FOREIGN)
def test_an_adapter_of_another_family_is_refused_by_its_name(layer: str, pipe: Any) -> None:
    data = save({f"{layer}.lora_{end}.weight": torch.ones(2, 2) for end in ("down", "up")})
    assert f"it looks like an adapter of {FOREIGN[layer]}" in strange(pipe, data)


def test_one_layer_under_two_names_is_refused(home: Path) -> None:
    pipe = load(home, "flux1-dev")
    names = ("diffusion_model.double_blocks.0.img_attn.qkv", "transformer.transformer_blocks.0.attn.to_k")
    data = save({f"{name}.lora_{end}.weight": torch.ones(2, 2) for name in names for end in ("A", "B")})
    with pytest.raises(FailedPrecondition, match="the same layer twice, under two names") as refused:
        image(pipe, data)
    assert refused.value.reason == "ADAPTER_KIND"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "hada", "lokr", "dora", "diff"])
def test_every_kind_of_a_joined_layer_changes_each_part_by_its_own_outputs(kind: str, home: Path) -> None:
    pipe = load(home, "flux1-dev")
    block = pipe.transformer.single_transformer_blocks[0]
    parts = [block.attn.to_q, block.attn.to_k, block.attn.to_v, block.proj_mlp]
    whole = torch.cat([part.weight for part in parts])
    rows, columns = whole.shape
    generator = torch.Generator().manual_seed(2)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    up, down, more, less = random(rows, 2), random(2, columns), random(rows, 2), random(2, columns)
    small, large = random(rows // 8, 4), random(8, columns // 4)
    lengths = random(rows, 1).abs()
    turned = whole + up @ down
    tensors, expected = {
        "lora": ({"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(1.0)}, 0.5 * up @ down),
        "hada": (
            {"hada_w1_a": up, "hada_w1_b": down, "hada_w2_a": more, "hada_w2_b": less},
            (up @ down) * (more @ less),
        ),
        "lokr": ({"lokr_w1": small, "lokr_w2": large}, torch.kron(small, large)),
        "dora": (
            {"lora_up.weight": up, "lora_down.weight": down, "dora_scale": lengths},
            turned * (lengths / turned.norm(dim=1, keepdim=True)) - whole,
        ),
        "diff": ({"diff": up @ down}, up @ down),
    }[kind]
    data = save({f"lora_unet_single_blocks_0_linear1.{name}": tensor for name, tensor in tensors.items()})
    header = check_bytes(data, "it")
    keys = ModuleNames(pipe).read("0" * 64, header)
    made = changes("0" * 64, keys, tensors_of(data), Strength.of("0" * 64, header))
    assert len(made) == len(parts)
    names = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
    found = [
        made["transformer", f"single_transformer_blocks.0.{name}.weight"](part.weight)
        for name, part in zip(names, parts, strict=True)
    ]
    assert torch.allclose(torch.cat(found), expected, atol=1e-4)


def test_a_dora_of_a_part_of_a_layer_is_not_exported_for_comfyui(home: Path) -> None:
    weights = {"lora_A.weight": torch.ones(2, 8), "lora_B.weight": torch.ones(8, 2)}
    weights |= {"lora_magnitude_vector.weight": torch.ones(8)}
    name = "transformer.single_transformer_blocks.0.attn.to_q"
    with pytest.raises(FailedPrecondition, match=r"all of the layer single_blocks\.0\.linear1, or no DoRA") as no:
        kohya.rename({f"{name}.{end}": tensor for end, tensor in weights.items()}, "flux1", 0)
    assert no.value.reason == "EXPORT_FORMAT"


def row(method: str, base: str) -> ModelRow:
    texts = dict.fromkeys(("training_run", "taste", "display_name", "adapter_digest", "manifest_digest"), "")
    texts |= dict.fromkeys(("rater_version", "config_digest", "night"), "")
    return ModelRow(
        "m", method=method, base_model=base, base_digest="0" * 64, parents=(), configuration="{}", seed=1,
        metrics={}, create_time=0.0, **texts,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "bound"), [("flux1", "FLUX.1 [dev]"), ("flux2_klein", "FLUX.2 [klein] 9B"), ("chroma", "")]
)
def test_the_model_card_says_where_the_base_is_for_non_commercial_use(layout: str, bound: str) -> None:
    text = model_card.card(row("lora", "mine"), layout, [])
    assert ("non-commercial" in text) == bool(bound) and bound in text


@pytest.mark.parametrize("method", ["lora", "lokr"])
def test_the_header_for_other_programs_names_the_family_and_no_noise_that_is_predicted(method: str) -> None:
    """Every kind is exported as the LoRA that equals it, so the header names none of LyCORIS."""
    header = kohya.header(row(method, "mine"), BaseInfo("flux1", "flow", 1024, 0), 8, [])
    assert header["modelspec.architecture"] == "flux-1-dev/lora" and header["ss_base_model_version"] == "flux1"
    assert header["modelspec.implementation"].endswith("/flux") and header["ss_network_module"] == "networks.lora"
    assert "modelspec.prediction_type" not in header
