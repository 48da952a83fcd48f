"""Which model made an image elsewhere, and with which sampler, steps and guidance, as the image itself says."""

import io
import json
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from konomi.datasets.captions import making_of
from konomi.datasets.png_metadata import origin_of
from konomi.datasets.prompts import MOST_MODEL, MOST_SAMPLER, model_name, numbers_of

INFOTEXT = (
    "a river, Model: a toy\nNegative prompt: blur\nSteps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 102, "
    "Size: 512x512, Model hash: 6ce0161689, Model: dreamy_v3, Version: 1.9"
)
GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 1,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "euler",
            "scheduler": "karras",
            "positive": ["6", 0],
            "model": ["4", 0],
        },
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


FLAT: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "fooocus": (
        {"prompt": "a river", "steps": 30, "guidance_scale": 4.0, "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras"},
        {"steps": 30, "guidance_scale": 4, "sampler: dpmpp_2m_sde_gpu": 1},
    ),
    "invokeai": (
        {"positive_prompt": "a river", "steps": 20, "cfg_scale": 7.5, "scheduler": "euler_a"},
        {"steps": 20, "guidance_scale": 7.5, "sampler: euler_a": 1},
    ),
    "sd-metadata": (
        {"image": {"prompt": "a river", "steps": 50, "cfg_scale": 7.5, "sampler": "k_lms"}},
        {"steps": 50, "guidance_scale": 7.5, "sampler: k_lms": 1},
    ),
    "swarmui": (
        {"sui_image_params": {"prompt": "a river", "steps": 8, "cfgscale": 1, "sampler": "euler"}},
        {"steps": 8, "guidance_scale": 1, "sampler: euler": 1},
    ),
    "draw things": (
        {"c": "a river", "steps": 4, "scale": 1.5, "sampler": "DPM++ 2M Karras", "seed": 1},
        {"steps": 4, "guidance_scale": 1.5, "sampler: dpm++ 2m karras": 1},
    ),
    "easy diffusion": (
        {"prompt": "a river", "num_inference_steps": "25", "guidance_scale": 7, "sampler_name": "ddim"},
        {"steps": 25, "guidance_scale": 7, "sampler: ddim": 1},
    ),
    "says none": ({"prompt": "a river", "seed": 1}, {}),
}


@pytest.mark.parametrize(("record", "numbers"), FLAT.values(), ids=FLAT.keys())
def test_records_say_sampler_steps_and_guidance_in_their_own_names(record, numbers):
    origin = origin_of(png(parameters=json.dumps(record)))
    assert (origin.prompt, origin.numbers) == ("a river", numbers)


def test_novelais_two_texts_and_a_command_line_say_them_too():
    comment = json.dumps({"prompt": "a river", "steps": 28, "sampler": "k_euler", "scale": 11.0})
    novelai = png(Software="NovelAI", Description="a river", Comment=comment)
    assert origin_of(novelai).numbers == {"steps": 28, "guidance_scale": 11, "sampler: k_euler": 1}
    dream = png(Dream='"a river" -s 50 -S 102 -W 512 -C 7.5 -A k_lms')
    assert origin_of(dream).numbers == {"steps": 50, "guidance_scale": 7.5, "sampler: k_lms": 1}


def test_konomis_own_record_says_them():
    record = {"prompt": "a river", "seed": 1, "steps": 12, "guidance_scale": 3.0, "scheduler": "DDIMScheduler"}
    found = origin_of(png(konomi=json.dumps(record)))
    assert found.numbers == {"steps": 12, "guidance_scale": 3, "sampler: ddimscheduler": 1}


def test_a_graph_says_them_where_its_nodes_agree():
    whole = origin_of(png(prompt=json.dumps(GRAPH))).numbers
    assert whole == {"steps": 20, "guidance_scale": 8, "sampler: euler": 1}, "its scheduler is how steps are spaced"
    second = {"class_type": "KSampler", "inputs": {**GRAPH["3"]["inputs"], "steps": 8, "cfg": ["4", 0]}}
    refined = origin_of(png(prompt=json.dumps({**GRAPH, "9": second}))).numbers
    assert refined == {"guidance_scale": 8, "sampler: euler": 1}


@pytest.mark.parametrize("value", [None, True, -1, 0, 1e9, float("nan"), "many", [20], {}])
def test_what_cannot_be_an_amount_is_left_out(value):
    assert numbers_of({"steps": value, "cfg": value}) == {}


def test_a_samplers_name_is_short_enough_for_the_rater():
    assert numbers_of({"sampler": "e" * MOST_SAMPLER}) and not numbers_of({"sampler": "e" * (MOST_SAMPLER + 1)})
    long = INFOTEXT.replace("Euler a", "e" * 60)
    assert origin_of(png(parameters=long)).numbers == {"steps": 20.0, "guidance_scale": 7.5}
    assert numbers_of({"sampler": "a\x00b"}) == numbers_of({"sampler": "  "}) == {}


def test_a_row_of_konomis_own_says_them_again_and_no_other_number():
    made = {"steps": 20.0, "guidance_scale": 7.5, "sampler: euler a": 1.0, "depth": 3.0}
    assert making_of({"parameters": made}) == {"steps": 20, "guidance_scale": 7.5, "sampler: euler a": 1}
    assert making_of({}) == making_of({"parameters": "steps 20"}) == making_of({"steps": 20}) == {}
