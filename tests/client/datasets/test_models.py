"""Which model made an image elsewhere, and with how many steps, as the image itself says."""

import io
import json

import pytest
from PIL import Image, PngImagePlugin

from konomi.datasets.png_metadata import origin_of
from konomi.datasets.prompts import MOST_MODEL, model_name

INFOTEXT = (
    "a river, Model: a toy\nNegative prompt: blur\nSteps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 102, "
    "Size: 512x512, Model hash: 6ce0161689, Model: dreamy_v3, Version: 1.9"
)
GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 1, "steps": 20, "cfg": 8, "positive": ["6", 0], "model": ["4", 0]},
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd/dreamy_v3.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a river", "clip": ["4", 1]}},
}


def png(**texts: str) -> bytes:
    info, out = PngImagePlugin.PngInfo(), io.BytesIO()
    for name, value in texts.items():
        info.add_text(name, value)
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def test_an_infotext_names_its_model_steps_and_guidance():
    origin = origin_of(png(parameters=INFOTEXT))
    assert origin.model == "dreamy_v3", "a prompt that speaks of a model names none"
    assert origin.numbers == {"steps": 20.0, "guidance_scale": 7.5, "sampler: euler a": 1.0}


def test_a_graph_names_the_checkpoint_it_loads_and_none_of_several():
    assert origin_of(png(prompt=json.dumps(GRAPH))).model == "dreamy_v3"
    refiner = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "refiner.safetensors"}}
    assert origin_of(png(prompt=json.dumps(GRAPH | {"9": refiner}))).model == ""


@pytest.mark.parametrize(
    "model", ["dreamy_v3", "models\\\\dreamy_v3.ckpt", {"model_name": "dreamy_v3"}, {"name": "dreamy_v3"}]
)
def test_a_flat_record_names_its_model(model):
    record = {"positive_prompt": "a river", "seed": 1, "model": model}
    assert origin_of(png(invokeai_metadata=json.dumps(record))).model == "dreamy_v3"


@pytest.mark.parametrize("value", [None, 3, [], {}, {"name": 3}, "", "  ", "/"])
def test_what_names_no_model_names_none(value):
    assert model_name(value) == ""


def test_a_name_is_cut_and_clean():
    assert model_name("a\nb\x00c") == "abc"
    assert len(model_name("é" * 999).encode()) <= MOST_MODEL
    assert origin_of(png(parameters="a river")).model == ""
