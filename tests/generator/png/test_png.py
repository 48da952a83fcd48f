"""What a PNG says of itself is read back by Pillow and by A1111's own expression."""

import io
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from konomi_generator import png
from konomi_generator.png import GenerationRecord, infotext

A1111 = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def record(**changes: object) -> GenerationRecord:
    base = {
        "prompt": "漫画, long hair: red, blue",
        "negative_prompt": "blurry, dark",
        "seed": -5,
        "width": 64,
        "height": 48,
        "steps": 8,
        "guidance_scale": 3.5,
        "scheduler": "DPMSolverMultistepScheduler",
        "base_model": "starter",
        "base_digest": "ab" * 32,
        "adapters": [("cd" * 32, 0.75)],
        "unit": "unit-1",
        "night": "night-1",
        "parents": ["cd" * 32],
        "strength": 0.5,
    }
    return GenerationRecord(**(base | changes))


def texts(data: bytes) -> dict[str, str]:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image.text


def test_pixels_and_texts_come_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    data = png.encode(pixels, record())
    assert data == png.encode(pixels, record())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    own = json.loads(texts(data)["konomi"])
    assert own == {
        "schema": "konomi.image/1",
        "prompt": "漫画, long hair: red, blue",
        "negative_prompt": "blurry, dark",
        "seed": -5,
        "width": 64,
        "height": 48,
        "steps": 8,
        "guidance_scale": 3.5,
        "scheduler": "DPMSolverMultistepScheduler",
        "base_model": "starter",
        "base_digest": "ab" * 32,
        "adapters": [{"digest": "cd" * 32, "scale": 0.75}],
        "unit": "unit-1",
        "night": "night-1",
        "parents": ["cd" * 32],
        "strength": 0.5,
    }


def test_the_infotext_is_a1111_s() -> None:
    lines = texts(png.encode(np.zeros((48, 64, 3), np.uint8), record()))["parameters"].split("\n")
    assert lines[:2] == ["漫画, long hair: red, blue", "Negative prompt: blurry, dark"]
    found = {name: json.loads(value) if value.startswith('"') else value for name, value in A1111.findall(lines[2])}
    assert found == {
        "Steps": "8",
        "Sampler": "DPM++ 2M",
        "CFG scale": "3.5",
        "Seed": "-5",
        "Size": "64x48",
        "Model hash": "ababababab",
        "Model": "starter",
        "Denoising strength": "0.5",
        "Lora hashes": f"{'cd' * 6}: {'cd' * 6}",
        "Hashes": json.dumps({"model": "ababababab", f"lora:{'cd' * 6}": "cd" * 6}),
    }


def test_what_follows_a_flow_says_its_family_and_its_shift() -> None:
    flow = record(scheduler="FlowMatchEulerDiscreteScheduler", family="z_image", shift=6.0)
    said = texts(png.encode(np.zeros((48, 64, 3), np.uint8), flow))
    assert {"family": "z_image", "shift": 6.0}.items() <= json.loads(said["konomi"]).items()
    found = dict(A1111.findall(said["parameters"].split("\n")[-1]))
    assert (found["Sampler"], found["Model family"], found["Shift"]) == ("Euler", "z_image", "6")


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=200))
def test_any_prompt_leaves_the_last_line_readable(prompt: str) -> None:
    data = png.encode(np.zeros((8, 8, 3), np.uint8), record(prompt=prompt))
    assert json.loads(texts(data)["konomi"])["prompt"] == prompt
    *head, last = texts(data)["parameters"].split("\n")
    assert head[0] == prompt
    assert dict(A1111.findall(last))["Seed"] == "-5"


def test_without_negative_prompt_there_is_no_such_line() -> None:
    assert infotext(record(negative_prompt="", strength=None, adapters=[])).count("\n") == 1


@pytest.mark.parametrize("shape", [(64, 64), (200, 100), (30, 300)])
def test_fit_crops_around_the_middle(shape: tuple[int, int]) -> None:
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[shape[0] // 2 - 5 : shape[0] // 2 + 5, shape[1] // 2 - 5 : shape[1] // 2 + 5] = 255
    fitted = png.fit(pixels, 64, 64)
    assert fitted.shape == (64, 64, 3) and fitted.dtype == np.uint8
    rows, columns = np.nonzero(fitted[..., 0] > 128)
    assert abs(rows.mean() - 31.5) < 1.5 and abs(columns.mean() - 31.5) < 1.5
