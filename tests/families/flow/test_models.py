"""Models of the flow families as services know them: how they draw and learn, what is refused, what a batch changes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
from diffusers.pipelines.lumina2.pipeline_lumina2 import calculate_shift

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.families.flow.lumina2 import LATENT_CHANNELS, LUMINA2
from konomi_chassis.models.loading import load_pipeline
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.sampling import GeneratedImage, ImageRequest, Preview, Sampling
from konomi_generator.settings import GeneratorSettings
from konomi_trainer.base_models import pipeline
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.settings import TrainerSettings
from tests.families.flow.test_images import CPU, LONG, NEGATIVE, SHORT, drawn, theirs_drawn
from tests.generator.conftest import SmallBatches


def changed(home: Path, folder: Path, id: str, part: str, **values: object) -> Path:
    """Returns a home with a copy of a model, under the id "other", whose part's configuration says something else."""
    shutil.copytree(home / "models" / id, folder / "models" / "other")
    file = folder / "models" / "other" / part / f"{'scheduler_' if part == 'scheduler' else ''}config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return folder


@pytest.mark.parametrize(
    ("id", "shift", "name", "steps", "guidance"),
    [
        ("z-image", 6.0, "mine", 40, 5.0),
        ("z-image", 3.0, "mine", 8, 1.0),  # a Turbo of any name keeps its scheduler
        ("z-image", 6.0, "z-image-turbo", 8, 1.0),
        ("z-image", 6.0, "z-lightning-4steps", 4, 1.0),
        ("sd3", 3.0, "sd3.5-medium", 28, 5.0),
        ("sd3", 3.0, "sd3.5-large-turbo", 4, 1.0),
        ("lumina2", 6.0, "mine", 30, 4.0),
    ],
)
def test_a_model_draws_as_its_family_and_a_distilled_one_without_guidance(
    id: str, shift: float, name: str, steps: int, guidance: float, home: Path, tmp_path: Path
) -> None:
    changed(home, tmp_path, id, "scheduler", shift=shift)
    (tmp_path / "models" / "other").rename(tmp_path / "models" / name)
    drawing = BaseModels(tmp_path).get(name).settings.drawing
    assert (drawing.steps, drawing.guidance_scale, drawing.scheduler) == (steps, guidance, "")
    assert drawing.prompt_syntax == "plain"


@pytest.mark.parametrize(
    ("id", "part", "values", "why"),
    [
        ("z-image", "transformer", {"siglip_feat_dim": 8}, "reads pictures beside the text"),
        ("z-image", "transformer", {"all_patch_size": [4]}, "has no patches of 2 x 2"),
        ("z-image", "transformer", {"cap_feat_dim": 24}, "does not take the text encoder's states"),
        ("z-image", "vae", {"latent_channels": 4}, "does not take the vae's latents"),
        ("lumina2", "transformer", {"cap_feat_dim": 24}, "does not take the text encoder's states"),
        ("lumina2", "transformer", {"in_channels": 4}, "does not take the vae's latents"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(
    id: str, part: str, values: dict[str, object], why: str, home: Path, tmp_path: Path
) -> None:
    with pytest.raises(FailedPrecondition, match=why) as caught:
        BaseModels(changed(home, tmp_path, id, part, **values)).get("other")
    assert caught.value.reason == "MODEL_LAYOUT"


@pytest.fixture(scope="module")
def backend(home: Path) -> SmallBatches:
    return SmallBatches(GeneratorSettings(home=home, device="cpu", threads=1))


def made(backend: SmallBatches, home: Path, id: str, rows: list[ImageRequest], sampling: Sampling) -> dict[int, Any]:
    model, images = BaseModels(home).get(id), dict[int, Any]()

    def deliver(index: int, image: GeneratedImage | Preview | KonomiError) -> None:
        assert isinstance(image, GeneratedImage)
        images[index] = image.pixels

    backend.prepare(model, [], sampling, len(rows))
    backend.run(model, rows, sampling, lambda: False, deliver)
    return images


@pytest.mark.slow
@pytest.mark.parametrize("id", ["z-image", "lumina2"])
def test_an_image_has_its_bits_whatever_texts_stand_beside_it(id: str, backend: SmallBatches, home: Path) -> None:
    side = BaseModels(home).get(id).resolution
    sampling = Sampling(2, 4.0, side, side, negative_prompt=NEGATIVE)
    texts = (SHORT, LONG, "a dog", SHORT, LONG, "an owl on a wall")
    rows = [ImageRequest(place, text, place) for place, text in enumerate(texts)]
    together = made(backend, home, id, rows, sampling)
    for row in rows[2:5]:
        assert np.array_equal(together[row.index], made(backend, home, id, [row], sampling)[row.index])


@pytest.mark.slow
@pytest.mark.parametrize(("id", "unit"), [("lumina2", 16), ("sd3", 4)])
def test_sides_that_are_no_whole_tokens_are_refused(id: str, unit: int, backend: SmallBatches, home: Path) -> None:
    with pytest.raises(InvalidArgument, match=f"A multiple of {unit} was expected.*{unit + 1} came") as caught:
        backend.prepare(BaseModels(home).get(id), [], Sampling(2, 1.0, 4 * unit, unit + 1))
    assert (caught.value.reason, caught.value.field) == ("SIZE", "height")


def test_half_precision_keeps_the_latents_of_z_image_whole_as_diffusers_does(home: Path) -> None:
    own = load_pipeline(BaseModels(home).get("z-image"), home, CPU, torch.bfloat16)
    own.vae.float()
    theirs = ZImagePipeline(**own.components)
    theirs.set_progress_bar_config(disable=True)
    sampling, row = Sampling(4, 3.0, 32, 32), ImageRequest(0, SHORT, 5)
    denoiser = Denoiser(own)
    assert np.array_equal(
        drawn(denoiser, [row], sampling), theirs_drawn(denoiser, theirs, row, sampling, height=32, width=32)
    )


@pytest.mark.parametrize("steps", [4, 30])
def test_lumina_s_shift_by_size_takes_channels_for_tokens_as_its_pipeline_does(steps: int) -> None:
    own, theirs = (FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True) for _ in range(2))
    theirs.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=calculate_shift(LATENT_CHANNELS))
    for cells in (64, 16384):
        assert torch.equal(LUMINA2.path(own).timesteps(own, steps, CPU, cells), theirs.timesteps)


@pytest.mark.slow
@pytest.mark.parametrize("id", ["z-image", "lumina2", "sd3"])
def test_methods_that_bind_words_are_refused_before_a_run(id: str, home: Path) -> None:
    bases = BaseCatalogue(home, TrainerSettings(home=home, device="cpu"))
    layout = BaseModels(home).get(id).layout
    with pytest.raises(
        InvalidArgument, match=f"{id} is a {layout}, which reads text and image in one attention"
    ) as caught:
        bases.check_binds(id)
    assert (caught.value.reason, caught.value.field) == ("METHOD", "method")
    bases.check_binds("sd1")


@pytest.mark.parametrize("shift", [6.0, 3.0])
def test_a_sample_sheet_is_guided_as_the_model_is(shift: float, home: Path, tmp_path: Path) -> None:
    model = BaseModels(changed(home, tmp_path, "z-image", "scheduler", shift=shift)).get("other")
    base = pipeline.load(model, home, "0" * 64, pipeline.TrainingPlacement("cpu", "fp32", False))
    asked: list[float] = []
    call: Callable[..., Any] = base._pipe.__class__.__call__

    def watched(*given: Any, guidance_scale: float, **named: Any) -> Any:
        asked.append(guidance_scale)
        return call(*given, guidance_scale=guidance_scale, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base._pipe.__class__, "__call__", watched)
        sheet = base.sampler([SHORT, LONG], 2)()
    assert sheet is not None and sheet.shape == (2, 32, 32, 3)
    assert set(asked) == {4.0 if shift == 6.0 else 0.0}
