"""FLUX.1, Chroma, Qwen-Image, FLUX.2 [klein] as services know them: how they draw, what is refused, a batch."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError
from konomi_chassis.models.catalogue import BaseModels
from konomi_generator.sampling import GeneratedImage, ImageRequest, Preview, Sampling
from konomi_generator.servicer import _model
from konomi_generator.settings import GeneratorSettings
from konomi_trainer.base_models import pipeline
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.settings import TrainerSettings
from tests.generator.conftest import SmallBatches

SIDE = 32


@pytest.fixture(scope="module")
def backend(home: Path) -> SmallBatches:
    return SmallBatches(GeneratorSettings(home=home, device="cpu", threads=1))


@pytest.mark.parametrize(
    ("id", "steps", "guidance", "unguided"),
    [
        ("flux1-dev", 28, 3.5, True),
        ("flux1-schnell", 4, 1.0, True),
        ("chroma", 40, 3.0, False),
        ("qwen-image", 50, 4.0, False),
        ("klein-base", 50, 4.0, False),
        ("klein", 4, 1.0, True),
        ("sd1", 25, 7.0, False),
    ],
)
def test_a_model_draws_as_its_family_and_says_whether_it_has_an_unconditional_half(
    id: str, steps: int, guidance: float, unguided: bool, home: Path
) -> None:
    model = BaseModels(home).get(id)
    assert (model.settings.drawing.steps, model.settings.drawing.guidance_scale) == (steps, guidance)
    assert _model(model, "0" * 64).unguided is model.schedule.unguided is unguided


@pytest.mark.parametrize("id", ["flux1-dev", "klein"])
def test_guidance_by_the_base_is_refused_where_there_is_no_unconditional_half(
    id: str, backend: SmallBatches, home: Path
) -> None:
    model = BaseModels(home).get(id)
    with pytest.raises(
        InvalidArgument, match=f"\\({model.layout}\\) was distilled and has no unconditional half"
    ) as no:
        backend.prepare(model, [], Sampling(2, 3.5, SIDE, SIDE, guide_from_base=True))
    assert (no.value.reason, no.value.field) == ("GUIDANCE", "guide_from_base")
    backend.prepare(model, [], Sampling(2, 3.5, SIDE, SIDE))


@pytest.mark.slow
@pytest.mark.parametrize("id", ["chroma", "qwen-image"])  # whose texts are as long as they are
def test_an_image_has_its_bits_whatever_texts_stand_beside_it(id: str, backend: SmallBatches, home: Path) -> None:
    model, sampling = BaseModels(home).get(id), Sampling(2, 4.0, SIDE, SIDE, negative_prompt="fog")
    texts = ("a cat", "an owl on a wall in the rain", "a dog", "a cat")
    rows = [ImageRequest(place, text, place) for place, text in enumerate(texts)]

    def made(rows: list[ImageRequest]) -> dict[int, Any]:
        images: dict[int, Any] = {}

        def deliver(index: int, image: GeneratedImage | Preview | KonomiError) -> None:
            assert isinstance(image, GeneratedImage)
            images[index] = image.pixels

        backend.prepare(model, [], sampling, len(rows))
        backend.run(model, rows, sampling, lambda: False, deliver)
        return images

    together = made(rows)
    for row in rows[1:3]:
        assert np.array_equal(together[row.index], made([row])[row.index])


@pytest.mark.parametrize("id", ["flux1-dev", "chroma", "qwen-image", "klein-base"])
def test_a_transformer_for_other_latents_is_refused(id: str, home: Path, tmp_path: Path) -> None:
    """FLUX.1 Fill and its kin take a picture beside the latents, whatever their pipeline is called."""
    shutil.copytree(home / "models" / id, tmp_path / "models" / "other")
    file = tmp_path / "models" / "other" / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"in_channels": 384}))
    with pytest.raises(FailedPrecondition, match="its transformer does not take the vae's latents") as no:
        BaseModels(tmp_path).get("other")
    assert no.value.reason == "MODEL_LAYOUT"


@pytest.mark.slow
@pytest.mark.parametrize("id", ["flux1-schnell", "chroma", "qwen-image", "klein-base"])
def test_a_sample_sheet_is_drawn(id: str, home: Path) -> None:
    base = pipeline.load(
        BaseModels(home).get(id), home / "configs", "0" * 64, pipeline.TrainingPlacement("cpu", "fp32", False)
    )
    sheet = base.sampler(["a cat", "an owl"], 2)()
    assert sheet is not None and sheet.shape == (2, SIDE, SIDE, 3) and (sheet[0] != sheet[1]).any()


def test_text_encoders_that_learn_are_refused_before_a_run_where_none_can(home: Path) -> None:
    bases = BaseCatalogue(home, TrainerSettings(home=home, device="cpu"))
    asked: Any = {"text_encoder_learning_rate": 1e-5, "precision": "fp32", "optimizer": "adamw", "quantization": "none"}
    for id in ("chroma", "qwen-image", "klein", "z-image"):
        with pytest.raises(InvalidArgument, match=f"text encoder of {id} stays as it is") as no:
            bases.check(SimpleNamespace(base_model=id, **asked))  # type: ignore[arg-type]
        assert no.value.field == "hyper_parameters.text_encoder_learning_rate"
    for id in ("flux1-dev", "sd1"):
        bases.check(SimpleNamespace(base_model=id, **asked))  # type: ignore[arg-type]
