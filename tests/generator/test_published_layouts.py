"""SD 1.5, SD 2.x of both predictions and SDXL from their published configurations, narrower: load, generate, repeat."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.generator import Generator
from konomi_generator.requests import Image, Request
from konomi_generator.settings import GeneratorSettings
from tests.benchmarks.trainer import published_layouts as published
from tests.generator import original_layout
from tests.generator.conftest import SmallBatches
from tests.generator.tiny_models import save_configs, tokenizer

DIVISOR = 8
KINDS = {
    "sd1": ("epsilon", "PNDMScheduler"),
    "sd2": ("epsilon", "DDIMScheduler"),
    "sd2-v": ("v_prediction", "DDIMScheduler"),
    "sdxl": ("epsilon", "EulerDiscreteScheduler"),
}


def narrow(kind: str):
    """The published model with an eighth of its widths and random weights."""
    layout, (prediction, _) = kind.partition("-")[0], KINDS[kind]
    pipe = published.pipeline(layout, DIVISOR)
    pipe.scheduler.register_to_config(prediction_type=prediction)
    if layout == "sd2":
        pipe.tokenizer = tokenizer("!")
    if prediction == "v_prediction":  # what tells the two kinds of SD 2.x apart in an original checkpoint
        torch.nn.init.normal_(pipe.unet.up_blocks[3].attentions[2].transformer_blocks[0].norm1.bias, std=0.3)
    return layout, pipe


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_published_layout_gives_the_same_image_from_folder_and_file(kind: str, tmp_path: Path) -> None:
    layout, pipe = narrow(kind)
    pipe.save_pretrained(tmp_path / "models" / "folder")
    save_configs(pipe, tmp_path / "configs" / layout)
    save_file(original_layout.checkpoint(pipe), tmp_path / "models" / "file.safetensors")
    models = BaseModels(tmp_path)
    settings = GeneratorSettings(home=tmp_path, threads=1, device="cpu", single_file_configs=tmp_path / "configs")
    store, decoder = ArtifactStore(StoreSettings(home=tmp_path)), Decoder()
    generator = Generator(models, store, SmallBatches(settings), decoder, writers=1, max_side=512)
    pixels = {}
    for id in ("folder", "file"):
        assert (models.get(id).layout, models.get(id).prediction_type) == (layout, KINDS[kind][0])
        images = [Image("a red cat", 3), Image("a red cat", 4)]
        given = {"base_model": id, "steps": 2, "width": 64, "height": 64, "scheduler": KINDS[kind][1]}
        found = {f.seed: f.artifact.digest for f in generator.generate(Request(images, **given), lambda: False)}
        alone = [f.artifact.digest for f in generator.generate(Request(images[1:], **given), lambda: False)]
        assert alone == [found[4]] and found[3] != found[4]
        pixels[id] = [decoder.decode(store.get(digest)).pixels.tobytes() for digest in found.values()]
    assert sorted(pixels["folder"]) == sorted(pixels["file"])
    generator.close()
    decoder.close()


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_the_configurations_are_complete_enough_to_need_no_hub(layout: str) -> None:
    index = json.loads((published.CONFIGS / layout / "model_index.json").read_text())
    for part in ("unet", "vae", "scheduler", "text_encoder", *(["text_encoder_2"] if layout == "sdxl" else [])):
        assert part in index and list((published.CONFIGS / layout / part).glob("*.json"))
