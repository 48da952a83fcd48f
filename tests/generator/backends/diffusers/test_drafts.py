"""Drafts: a few-step adapter beside the base, drawn as diffusers' own LCM pipeline does, recorded, refused in words."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, LCMScheduler
from PIL import Image as Picture
from safetensors.torch import save_file

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.loading import load_pipeline
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.generator import Generator
from konomi_generator.requests import Image, Request
from konomi_generator.settings import GeneratorSettings
from tests.generator.backends.diffusers.test_adapters import lora
from tests.generator.conftest import OneByOne

SIDE = 64


def kohya(unet: torch.nn.Module, seed: int, rank: int = 4) -> dict[str, torch.Tensor]:
    """A random LoRA of a UNet's attention as LCM-LoRA is published: kohya's keys, an alpha for each layer."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, module in unet.named_modules():
        if isinstance(module, torch.nn.Linear) and name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            key = f"lora_unet_{name.replace('.', '_')}"
            wide, tall = module.in_features, module.out_features
            tensors[f"{key}.lora_down.weight"] = torch.randn(rank, wide, generator=generator) / wide**0.5
            tensors[f"{key}.lora_up.weight"] = torch.randn(tall, rank, generator=generator) / 2
            tensors[f"{key}.alpha"] = torch.tensor(float(rank))
    return tensors


@pytest.fixture(scope="module")
def drafting(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with starter, sd1 and sdxl, and a random LCM-LoRA beside each; sd1's and sdxl's under the usual names."""
    own = tmp_path_factory.mktemp("drafting")
    few_step = own / "models" / "few_step"
    few_step.mkdir(parents=True)
    for id in ("starter", "sd1", "sdxl"):
        (own / "models" / id).symlink_to(home / "models" / id)
    models, cpu = BaseModels(own), torch.device("cpu")
    for id, name in (("starter", "lcm-mine"), ("sd1", "lcm-lora-sdv1-5"), ("sdxl", "lcm-lora-sdxl")):
        unet = load_pipeline(models.get(id), home / "configs", cpu, torch.float32).unet
        save_file(kohya(unet, 3), few_step / f"{name}.safetensors")
    (own / "models" / "starter.toml").write_text('[draft]\nadapter = "lcm-mine.safetensors"\n')
    return own


@pytest.fixture(scope="module")
def drawer(drafting: Path) -> Iterator[Generator]:
    settings = GeneratorSettings(home=drafting, threads=1, single_file_configs=drafting, device="cpu")
    decoder, store = Decoder(), ArtifactStore(StoreSettings(home=drafting))
    generator = Generator(BaseModels(drafting), store, OneByOne(settings), decoder, writers=1, max_side=SIDE)
    yield generator
    generator.close()
    decoder.close()


def rows_together(drawer: Generator, id: str) -> int:
    """Rows that went through the network with the last image of a base model."""
    return [sizes for key, sizes in drawer._backend._sizes.items() if key[0][0] == id][-1][-1]


def draw(drawer: Generator, **fields: object) -> list[tuple[str, np.ndarray, dict[str, object], str]]:
    """Digest, pixels, record and infotext of every image."""
    request = Request(**({"images": [Image("a cat", 5)], "width": SIDE, "height": SIDE} | fields))
    drawn = []
    for finished in sorted(drawer.generate(request, lambda: False), key=lambda image: image.index):
        assert finished.error is None and finished.artifact is not None
        picture = Picture.open(io.BytesIO(drawer._store.get(finished.artifact.digest)))
        record = json.loads(picture.text["konomi"])
        drawn.append((finished.artifact.digest, np.asarray(picture), record, picture.text["parameters"]))
    return drawn


@pytest.mark.slow
@pytest.mark.parametrize("id", ["starter", "sd1", "sdxl"])
def test_a_draft_is_what_diffusers_draws_with_the_same_adapter(id: str, drawer, drafting) -> None:
    ((_, pixels, record, _),) = draw(drawer, base_model=id, draft=True, prompt_syntax="plain")
    assert (record["steps"], record["guidance_scale"], record["scheduler"]) == (4, 1.0, "LCMScheduler")
    models = BaseModels(drafting)
    pipe = load_pipeline(models.get(id), drafting, torch.device("cpu"), torch.float32)
    file = models.draft(models.get(id)).path
    pipe.load_lora_weights(str(file.parent), weight_name=file.name)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    shared = {"guidance_scale": 1.0, "width": SIDE, "height": SIDE, "output_type": "np"}
    rows = rows_together(drawer, id)  # matrix libraries round rows of one and of many apart
    noise = [torch.Generator().manual_seed(5) for _ in range(rows)]
    theirs = pipe(["a cat"] * rows, num_inference_steps=4, generator=noise, **shared).images[0]
    apart = pixels.astype(int) - (theirs * 255).round().astype(int)
    assert np.abs(apart).max() <= 1 and (apart != 0).mean() < 1e-3  # some processors round a last bit of them apart


@pytest.mark.slow
def test_a_unit_and_the_few_step_adapter_add_up(drawer, drafting) -> None:
    unit = drawer._store.put(lora(1), "application/octet-stream").digest
    both, few, alone = (
        draw(drawer, draft=True, **fields)[0][1] for fields in ({"adapters": [(unit, 0.8)]}, {}, {"adapters": []})
    )
    assert np.array_equal(few, alone) and not np.array_equal(both, few)
    models = BaseModels(drafting)
    pipe = load_pipeline(models.get("starter"), drafting, torch.device("cpu"), torch.float32)
    file = models.draft(models.get("starter")).path
    pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="few")
    (drafting / "unit.safetensors").write_bytes(lora(1))
    pipe.load_lora_weights(str(drafting), weight_name="unit.safetensors", adapter_name="unit")
    pipe.set_adapters(["few", "unit"], [1.0, 0.8])
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(5)
    shared = {"guidance_scale": 1.0, "width": SIDE, "height": SIDE, "output_type": "np"}
    theirs = pipe("a cat", num_inference_steps=4, generator=noise, **shared).images[0]
    assert np.abs(both / 255 - theirs).max() < 0.01  # a rounding of weights apart, and one of pixels


def test_drawn_in_full_after_a_draft_is_what_it_was_before(drawer) -> None:
    before = draw(drawer)
    draft, pixels, record, infotext = draw(drawer, draft=True)[0]
    after = draw(drawer)
    assert before[0][0] == after[0][0] and not np.array_equal(before[0][1], pixels)
    assert record["draft"] is True and record["few_step"]["scale"] == 1.0 and len(record["few_step"]["digest"]) == 64
    assert f"Draft: {record['few_step']['digest'][:12]}" in infotext
    assert not {"draft", "few_step", "draft_digest"} & set(before[0][2])
    assert record["parents"] == [] and record["adapters"] == []
    again = draw(drawer, images=[Image("a cat", 5, draft_digest=draft)])[0]
    assert np.array_equal(again[1], before[0][1]) and again[2]["draft_digest"] == draft


def test_what_the_request_and_the_file_say_goes_before_the_adapters_name(drawer, drafting) -> None:
    asked = draw(drawer, draft=True, steps=6, scheduler="EulerDiscreteScheduler", timestep_spacing="trailing")[0][2]
    assert (asked["steps"], asked["scheduler"]) == (6, EulerDiscreteScheduler.__name__)
    file = drafting / "models" / "starter.toml"
    kept = file.read_text()
    file.write_text(kept + 'steps = 8\nscale = 0.5\nscheduler = "TCDScheduler"\n')
    try:
        record = draw(drawer, draft=True)[0][2]
        assert (record["steps"], record["scheduler"], record["few_step"]["scale"]) == (8, "TCDScheduler", 0.5)
    finally:
        file.write_text(kept)


@pytest.mark.parametrize("field", [{"guide_from_base": True}, {"base_share": 0.5}])
def test_a_draft_runs_with_its_adapter_from_first_to_last(field, drawer) -> None:
    with pytest.raises(InvalidArgument, match="from the first step to the last") as caught:
        draw(drawer, draft=True, **field)
    assert caught.value.reason == "DRAFT" and caught.value.field in field
    with pytest.raises(InvalidArgument, match="no image drawn again"):
        draw(drawer, draft=True, images=[Image("a cat", 5, draft_digest="a" * 64)])


def test_a_home_without_the_adapter_says_what_to_put_where(drawer, drafting) -> None:
    file = drafting / "models" / "few_step" / "lcm-lora-sdv1-5.safetensors"
    aside = shutil.move(file, drafting / "aside.safetensors")
    try:
        with pytest.raises(FailedPrecondition) as caught:
            draw(drawer, base_model="sd1", draft=True)
    finally:
        shutil.move(aside, file)
    assert caught.value.reason == "DRAFT_ADAPTER_MISSING"
    for words in ("models fetch lcm-lora-sd15", "models/few_step", "models/sd1.toml", "[draft]", file.name):
        assert words in caught.value.message


@pytest.mark.slow
def test_pickles_and_names_that_say_nothing_are_refused(drawer, drafting) -> None:
    models, file = drafting / "models", drafting / "models" / "sd1.toml"
    (models / "few_step" / "lcm-other.bin").write_bytes(b"\x80\x02.")
    shutil.copy(models / "few_step" / "lcm-lora-sdv1-5.safetensors", models / "few_step" / "quick.safetensors")
    cases = {
        "lcm-other.safetensors": ("UNSAFE_FORMAT", "lcm-other.bin"),
        "lcm-other.bin": ("UNSAFE_FORMAT", "lcm-other.bin"),
        "quick.safetensors": ("MODEL_SETTINGS", "scheduler and steps"),
    }
    try:
        for name, (reason, words) in cases.items():
            file.write_text(f'[draft]\nadapter = "{name}"\n')
            with pytest.raises(FailedPrecondition, match=words) as caught:
                draw(drawer, base_model="sd1", draft=True)
            assert caught.value.reason == reason
        file.write_text('[draft]\nadapter = "quick.safetensors"\nscheduler = "LCMScheduler"\nsteps = 5\n')
        assert draw(drawer, base_model="sd1", draft=True)[0][2]["steps"] == 5
    finally:
        file.unlink()


@pytest.mark.slow
def test_a_base_of_few_steps_needs_no_adapter(drawer, drafting, home) -> None:
    turbo = drafting / "models" / "tiny-turbo"
    turbo.symlink_to(home / "models" / "sd1")
    record = draw(drawer, base_model="tiny-turbo", draft=True)[0][2]
    assert record["draft"] is True and "few_step" not in record
    assert (record["steps"], record["scheduler"]) == (4, "EulerAncestralDiscreteScheduler")
