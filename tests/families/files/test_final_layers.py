"""Adapters on a flow transformer's last layers, whose shift and scale some authors have the other way round."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from konomi.errors import FailedPrecondition
from konomi_chassis.models.safetensors_check import check_bytes
from konomi_generator.backends.diffusers.adapter_changes import Strength, changes
from konomi_generator.backends.diffusers.adapter_keys import ModuleNames
from tests.families.flow.test_packed import load

LAST = "final_layer.adaLN_modulation.1"
PLACES = {
    "flux1-dev": ("norm_out.linear", True),
    "klein-base": ("norm_out.linear", True),
    "z-image": ("all_final_layer.2-1.adaLN_modulation.1", False),
    "lumina2": ("norm_out.linear_1", False),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "head"), [("lora", "diffusion_model."), ("lokr", "lora_unet_"), ("dora", "lora_unet_")]
)
@pytest.mark.parametrize("id", PLACES)
def test_an_adapter_on_the_last_modulation_turns_its_halves_as_the_weights_are_turned(
    id: str, head: str, kind: str, home: Path
) -> None:
    module, turned = PLACES[id]
    pipe = load(home, id)
    weight = pipe.transformer.get_submodule(module).weight
    rows, columns = weight.shape

    def theirs(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat(tensor.chunk(2)[::-1]) if turned else tensor

    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    up, down, small, large = random(rows, 2), random(2, columns), random(rows // 8, 4), random(8, columns // 4)
    lengths, changed = random(rows, 1).abs(), theirs(weight) + up @ down
    tensors, whole = {
        "lora": ({"lora_up.weight": up, "lora_down.weight": down}, up @ down),
        "lokr": ({"lokr_w1": small, "lokr_w2": large}, torch.kron(small, large)),
        "dora": (
            {"lora_up.weight": up, "lora_down.weight": down, "dora_scale": lengths},
            changed * (lengths / changed.norm(dim=1, keepdim=True)) - theirs(weight),
        ),
    }[kind]
    called = f"{head}{LAST.replace('.', '_') if head.endswith('_') else LAST}"
    data = {f"{called}.{name}": tensor for name, tensor in tensors.items()}
    header = check_bytes(save(data), "it")
    made = changes("0" * 64, ModuleNames(pipe).read("0" * 64, header), data, Strength.of("0" * 64, header))
    assert set(made) == {("transformer", f"{module}.weight")}
    assert torch.allclose(made["transformer", f"{module}.weight"](weight), theirs(whole), atol=1e-4)


def test_chroma_has_no_such_layer_and_says_so(home: Path) -> None:
    header = check_bytes(save({f"diffusion_model.{LAST}.lora_{end}.weight": torch.ones(2, 2) for end in "AB"}), "it")
    with pytest.raises(FailedPrecondition, match=r"it has not, for example, diffusion_model\.final_layer\.adaLN") as no:
        ModuleNames(load(home, "chroma")).read("0" * 64, header)
    assert no.value.reason == "ADAPTER_MISMATCH"
