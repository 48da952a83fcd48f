"""What konomi writes into a PNG, read back by another project's reader."""

import io

import numpy as np
import pytest
from PIL import Image
from sd_parsers import ParserManager

from konomi_generator import png
from konomi_generator.png import SAMPLERS, GenerationRecord


def record(**changes: object) -> GenerationRecord:
    given = {
        "prompt": 'a "red" cat, (smiling:1.2), ears: pointed',
        "negative_prompt": "blur, low quality",
        "seed": 1234567890123,
        "width": 64,
        "height": 96,
        "steps": 8,
        "guidance_scale": 4.5,
        "scheduler": "DPMSolverMultistepScheduler",
        "base_model": "sd15",
        "base_digest": "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
        "adapters": [("ab" * 32, 0.6)],
        "unit": "unit-1",
        "night": "n1",
        "parents": ["ab" * 32],
        "strength": 0.5,
    }
    return GenerationRecord(**(given | changes))  # type: ignore[arg-type]


def parsed(made: GenerationRecord):
    data = png.encode(np.zeros((made.height, made.width, 3), np.uint8), made)
    found = ParserManager().parse(Image.open(io.BytesIO(data)))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "prompt",
    ['a "red" cat, (smiling:1.2), ears: pointed', "猫、笑顔、赤い耳", "Steps: 3, Sampler: none", "a cat\\, comma", "x"],
)
def test_sd_parsers_reads_the_infotext_back(prompt: str) -> None:
    found = parsed(record(prompt=prompt))
    assert found.generator.value == "AUTOMATIC1111"
    assert [p.value for p in found.prompts] == [prompt]
    assert [p.value for p in found.negative_prompts] == ["blur, low quality"]
    (sampler,) = found.samplers
    assert sampler.name == SAMPLERS["DPMSolverMultistepScheduler"] == "DPM++ 2M"
    assert sampler.parameters["seed"] == "1234567890123" and sampler.parameters["steps"] == "8"
    assert sampler.parameters["cfg_scale"] == "4.5"
    (model,) = found.models
    assert (model.name, model.hash) == ("sd15", "6ce0161689")
    assert found.metadata["Size"] == "64x96" and found.metadata["Denoising strength"] == "0.5"


def test_without_a_negative_prompt_or_a_strength_there_is_none() -> None:
    found = parsed(record(negative_prompt="", strength=None, adapters=[]))
    assert not found.negative_prompts and "Denoising strength" not in found.metadata
