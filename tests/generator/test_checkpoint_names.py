"""Single-file checkpoints under every name their weights have borne: loaded whole, or refused by what they lack."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from konomi.errors import FailedPrecondition
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.loading import load_pipeline
from konomi_generator.backends.diffusers import pipeline
from tests.generator import tiny_models

Weights = dict[str, torch.Tensor]
CLIP = {"sd1": "cond_stage_model.transformer.", "sdxl": "conditioner.embedders.0.transformer."}
OPEN = {"sd2": "cond_stage_model.model.", "sdxl": "conditioner.embedders.1.model."}


def without_text_model(layout: str, tensors: Weights) -> Weights:
    """As NovelAI's descendants and A1111's old conversions name CLIP."""
    head = CLIP[layout]
    return {name.replace(f"{head}text_model.", head): tensor for name, tensor in tensors.items()}


def with_position_ids(layout: str, tensors: Weights) -> Weights:
    """With the buffer that checkpoints of before 2023 hold, as integers or, after a merge, as floats."""
    ids = torch.arange(77).reshape(1, -1)
    held = {f"{CLIP[layout]}text_model.embeddings.position_ids": ids}
    return tensors | held | {f"{CLIP[layout]}embeddings.position_ids": ids.float()}


def projection_as_layer(layout: str, tensors: Weights) -> Weights:
    """With OpenCLIP's projection as a layer's weight, which is its transpose."""
    name = f"{OPEN[layout]}text_projection"
    kept = {key: tensor for key, tensor in tensors.items() if key != name}
    return kept | {f"{name}.weight": tensors[name].T.contiguous()}


def with_more_layers(layout: str, tensors: Weights) -> Weights:
    """With OpenCLIP's last layer, which is not used, its mask and its temperature."""
    head = OPEN[layout]
    deepest = max(
        int(n.split("resblocks.")[1].split(".")[0]) for n in tensors if n.startswith(f"{head}transformer.resblocks.")
    )
    last = {n.replace(f"resblocks.{deepest}.", f"resblocks.{deepest + 1}."): t.clone() for n, t in tensors.items()}
    return last | tensors | {f"{head}logit_scale": torch.tensor(1.0), f"{head}attn_mask": torch.zeros(77, 77)}


def in_transformers_names(layout: str, tensors: Weights) -> Weights:
    """With the OpenCLIP encoder under transformers' names, as some converters write it back."""
    pipe = getattr(tiny_models, layout)()
    part = pipe.text_encoder_2 if layout == "sdxl" else pipe.text_encoder
    head = OPEN[layout]
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(head)}
    return kept | {f"{head}{name}": tensor.clone() for name, tensor in part.state_dict().items()}


def with_training_state(layout: str, tensors: Weights) -> Weights:
    """With an average of the weights and what training leaves behind."""
    more = {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3)}
    return tensors | more | {"global_step": torch.tensor(5), "cond_stage_model.logit_scale": torch.tensor(1.0)}


LAYOUTS: list[tuple[str, Callable[[str, Weights], Weights]]] = [
    *((layout, change) for layout in CLIP for change in (without_text_model, with_position_ids)),
    *((layout, change) for layout in OPEN for change in (with_more_layers, in_transformers_names)),
    ("sdxl", projection_as_layer),
    *((layout, with_training_state) for layout in ("sd1", "sd2", "sdxl")),
]


@pytest.fixture
def file(home: Path, tmp_path: Path):
    """Writes a changed checkpoint and loads it as the generator does."""
    (tmp_path / "models").mkdir()

    def load(layout: str, change: Callable[[Weights], Weights]):
        tensors = change(load_file(home / "models" / f"{layout}-file.safetensors"))
        save_file({name: t.contiguous() for name, t in tensors.items()}, tmp_path / "models" / "m.safetensors")
        return load_pipeline(BaseModels(tmp_path).get("m"), home / "configs", torch.device("cpu"), torch.float32)

    return load


@pytest.mark.parametrize(("layout", "change"), LAYOUTS, ids=[f"{layout}-{c.__name__}" for layout, c in LAYOUTS])
def test_every_name_of_a_weight_is_read(file, home: Path, layout: str, change) -> None:
    loaded = file(layout, lambda tensors: change(layout, tensors))
    model = BaseModels(home).get(layout)
    folder = load_pipeline(model, home / "configs", torch.device("cpu"), torch.float32)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if getattr(folder, part, None) is not None:
            ours, theirs = getattr(loaded, part).state_dict(), getattr(folder, part).state_dict()
            assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours), part
    prompt = {"num_inference_steps": 1, "width": 64, "height": 64, "output_type": "np"}
    images = [p("a cat", generator=torch.Generator().manual_seed(1), **prompt).images for p in (loaded, folder)]
    assert (images[0] == images[1]).all()


def lacking(part: str) -> Callable[[Weights], Weights]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def reshaped(part: str) -> Callable[[Weights], Weights]:
    return lambda tensors: {n: t[:-1].clone() if part in n and t.dim() else t for n, t in tensors.items()}


BROKEN = {
    "a layer of CLIP": ("sd1", lacking("text_model.encoder.layers.1."), "text encoder lacks 16 of"),
    "a layer of OpenCLIP": ("sd2", lacking("transformer.resblocks.1."), "text encoder lacks 16 of"),
    "the second encoder's end": ("sdxl", lacking("embedders.1.model.ln_final"), "text encoder lacks 2 of"),
    "a block of the UNet": ("sdxl", lacking("middle_block.1.transformer_blocks.1.attn2"), "UNet lacks 5 of"),
    "the decoder's end": ("sd1", lacking("first_stage_model.decoder.conv_out"), "autoencoder lacks 2 of"),
    "a weight of another shape": ("sd1", reshaped("out.2.weight"), "model.diffusion_model.out.2.weight"),
    "an encoder of another width": ("sdxl", reshaped("token_embedding"), "token_embedding"),
    "a UNet of another kind": (
        "sd1",
        lambda tensors: tensors | {"model.diffusion_model.input_blocks.1.2.motion.weight": torch.zeros(2)},
        "input_blocks.1.2.motion.weight",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", BROKEN)
def test_a_checkpoint_that_lacks_weights_is_refused_by_their_names(file, what: str) -> None:
    layout, change, named = BROKEN[what]
    with pytest.raises(FailedPrecondition) as caught:
        file(layout, change)
    assert caught.value.reason == "MODEL_BROKEN" and named in caught.value.message, caught.value.message
    assert 'The base model "m" cannot be loaded' in caught.value.message and "Download it again" in caught.value.message


def test_a_file_cut_while_it_is_copied_is_a_sentence(home: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    target = tmp_path / "models" / "m.safetensors"
    whole = (home / "models" / "sd1-file.safetensors").read_bytes()
    target.write_bytes(whole)
    model = BaseModels(tmp_path).get("m")
    target.write_bytes(whole[:-1000])
    with pytest.raises(FailedPrecondition, match="cannot be loaded") as caught:
        load_pipeline(model, home / "configs", torch.device("cpu"), torch.float32)
    assert caught.value.reason == "MODEL_BROKEN"
    target.unlink()
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        load_pipeline(model, home / "configs", torch.device("cpu"), torch.float32)


def test_a_preview_decoder_of_another_autoencoder_is_a_sentence(models, settings, tmp_path: Path) -> None:
    pipe = load_pipeline(models.get("sd1"), settings.single_file_configs, torch.device("cpu"), torch.float32)
    (tmp_path / "tiny_vae").mkdir()
    for tensors, named in (
        ({"encoder.layers.0.weight": torch.zeros(3, 3)}, "another"),
        ({"x": torch.zeros(1)}, "lacks"),
    ):
        save_file(tensors, tmp_path / "tiny_vae" / "sd.safetensors")
        with pytest.raises(FailedPrecondition, match=named) as caught:
            pipeline.load_preview_decoder(pipe, models.get("sd1"), tmp_path, torch.device("cpu"))
        assert caught.value.reason == "MODEL_BROKEN"
