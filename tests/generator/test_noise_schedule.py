"""What a model says of its noise is what it is drawn with: marks, metadata, betas, a folder's configuration."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from PIL import Image as Picture
from safetensors.torch import load_file, save_file

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModel, BaseModels
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.backends.diffusers.pipeline import load_pipeline, make_scheduler
from konomi_generator.generator import Generator
from konomi_generator.requests import Image, Request
from konomi_generator.sampling import ImageRequest, Sampling
from tests.generator.conftest import OneByOne

MARK = torch.zeros(0)


@pytest.fixture
def marked(home: Path, tmp_path: Path):
    """Puts a copy of a checkpoint with more tensors and metadata into a home of its own; returns the catalogue."""
    (tmp_path / "models").mkdir()

    def make(layout: str, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> BaseModels:
        whole = load_file(home / "models" / f"{layout}-file.safetensors")
        save_file(whole | tensors, tmp_path / "models" / "m.safetensors", metadata)
        return BaseModels(tmp_path)

    return make


def load(model: BaseModel, settings):
    return load_pipeline(model, settings.single_file_configs, torch.device("cpu"), torch.float32)


def zero_betas() -> torch.Tensor:
    """Lin et al. 2023, algorithm 1, written down from the paper."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    root = torch.cumprod(1 - betas, 0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    root = (root - last) * first / (first - last)
    bars = root**2
    return 1 - torch.cat([bars[:1], bars[1:] / bars[:-1]])


MARKS = {
    "v_pred and ztsnr": ({"v_pred": MARK, "ztsnr": MARK}, None, "v_prediction", True),
    "v_pred": ({"v_pred": MARK}, None, "v_prediction", False),
    "a mark against the header": ({"v_pred": MARK}, {"modelspec.prediction_type": "epsilon"}, "v_prediction", False),
    "modelspec v": ({}, {"modelspec.prediction_type": "v"}, "v_prediction", False),
    "modelspec v-prediction": ({}, {"modelspec.prediction_type": "V-Prediction"}, "v_prediction", False),
    "modelspec epsilon": ({}, {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
    "kohya's word": ({"v_pred": MARK}, {"ss_zero_terminal_snr": "True"}, "v_prediction", True),
    "ztsnr alone": ({"ztsnr": MARK}, None, "epsilon", True),
    "rescaled betas": ({"v_pred": MARK, "betas": zero_betas().float()}, None, "v_prediction", True),
    "alphas alone": ({"v_pred": MARK, "alphas_cumprod": torch.linspace(1, 0, 1000)}, None, "v_prediction", True),
    "nothing": ({}, None, "epsilon", False),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", MARKS)
def test_a_checkpoint_s_own_words_make_its_schedule(marked, settings, what: str) -> None:
    tensors, metadata, prediction, zero = MARKS[what]
    model = marked("sdxl", tensors, metadata).get("m")
    assert (model.prediction_type, model.schedule.zero_terminal_snr) == (prediction, zero)
    scheduler = load(model, settings).scheduler
    scheduler.set_timesteps(10)
    assert scheduler.config.prediction_type == prediction
    assert bool(scheduler.config.get("rescale_betas_zero_snr")) is zero
    usual = load(marked("sdxl", {}).get("m"), settings).scheduler.config.timestep_spacing
    assert scheduler.config.timestep_spacing == ("trailing" if zero else usual) and usual != "trailing"
    assert float(scheduler.timesteps[0]) == 999 or not zero
    assert (float(scheduler.alphas_cumprod[-1]) < 1e-6) is zero


@pytest.mark.slow
def test_betas_of_its_own_are_the_checkpoint_s_schedule_and_the_published_ones_are_no_change(marked, settings) -> None:
    usual = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    for betas, own in ((usual, False), (usual.half(), False), (torch.linspace(0.0001, 0.02, 1000), True)):
        model = marked("sd1", {"betas": betas}).get("m")
        assert bool(model.schedule.betas) is own
        products = load(model, settings).scheduler.alphas_cumprod
        assert torch.allclose(products, torch.cumprod(1 - (betas if own else usual).float(), 0), atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "metadata", "named"),
    [
        ({"edm_mean": torch.zeros(1, 4, 1, 1), "edm_std": torch.ones(1, 4, 1, 1)}, None, "edm_mean"),
        ({"edm_vpred.sigma_max": torch.tensor(120.0), "v_pred": MARK}, None, "edm_vpred.sigma_max"),
        ({}, {"modelspec.prediction_type": "flow"}, "'flow'"),
        ({"model.diffusion_model.scaled_fp8": torch.zeros(2)}, None, "scales"),
        ({"model.diffusion_model.out.2.scale_weight": torch.ones(1)}, None, "scales"),
    ],
)
def test_noise_and_numbers_of_another_kind_are_refused_by_name(marked, tensors, metadata, named: str) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        marked("sdxl", tensors, metadata).get("m")
    assert caught.value.reason == "MODEL_LAYOUT" and named in caught.value.message


def drawn(pipe, **changes: object) -> np.ndarray:
    sampling = Sampling(**({"steps": 4, "guidance_scale": 5.0, "width": 64, "height": 64} | changes))
    with torch.inference_mode():
        return Denoiser(pipe).run(DenoisingBatch([ImageRequest(0, "a cat", 5)], 1), sampling, lambda: False)


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_a_marked_checkpoint_draws_what_diffusers_draws_with_that_schedule(marked, settings, layout: str) -> None:
    plain = load(marked(layout, {"v_pred": MARK}).get("m"), settings)
    pipe = load(marked(layout, {"v_pred": MARK, "ztsnr": MARK}).get("m"), settings)
    if layout == "sd1":  # PLMS, its configuration's own, cannot begin in pure noise
        assert type(pipe.scheduler) is EulerDiscreteScheduler
    for rescale in (0.0, 0.7):
        ours = drawn(pipe, guidance_rescale=rescale)
        pipe.set_progress_bar_config(disable=True)
        theirs = pipe(
            "a cat",
            num_inference_steps=4,
            guidance_scale=5.0,
            guidance_rescale=rescale,
            width=64,
            height=64,
            generator=torch.Generator().manual_seed(5),
            output_type="np",
        ).images
        assert np.abs(ours - theirs).max() < 1e-4
        assert np.abs(ours - drawn(plain, guidance_rescale=rescale)).max() > 1e-3
    assert np.abs(drawn(pipe) - drawn(pipe, guidance_rescale=0.7)).max() > 1e-4


def test_rescaled_guidance_does_not_depend_on_a_row_s_neighbours(marked, settings) -> None:
    pipe = load(marked("sdxl", {"v_pred": MARK, "ztsnr": MARK}).get("m"), settings)
    sampling = Sampling(2, 5.0, 64, 64, guidance_rescale=0.7)
    rows = [ImageRequest(n, f"a cat {n}", n) for n in range(3)]
    with torch.inference_mode():
        whole = Denoiser(pipe).run(DenoisingBatch(rows, 4), sampling, lambda: False)
        alone = Denoiser(pipe).run(DenoisingBatch(rows[1:2], 4), sampling, lambda: False)
    assert np.array_equal(whole[1:2], alone)


@pytest.mark.slow
def test_a_scheduler_that_would_draw_with_another_schedule_is_refused(marked, settings) -> None:
    pipe = load(marked("sdxl", {"v_pred": MARK, "ztsnr": MARK}).get("m"), settings)
    for name in (
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
    ):
        scheduler = make_scheduler(pipe, name)
        assert float(scheduler.alphas_cumprod[-1]) < 1e-6 and scheduler.config.timestep_spacing == "trailing"
        assert np.isfinite(drawn(pipe, scheduler=name)).all()
    for name in ("PNDMScheduler", "LMSDiscreteScheduler", "HeunDiscreteScheduler", "DEISMultistepScheduler"):
        with pytest.raises(InvalidArgument, match="zero terminal SNR; one of DDIMScheduler") as caught:
            make_scheduler(pipe, name)
        assert caught.value.field == "scheduler"
    epsilon = load(marked("sdxl", {"ztsnr": MARK}).get("m"), settings)
    with pytest.raises(InvalidArgument, match=r"one of DPMSolver.* was expected; DDIMScheduler came"):
        make_scheduler(epsilon, "DDIMScheduler")
    assert np.isfinite(drawn(epsilon)).all()


@pytest.mark.slow
def test_a_folder_s_configuration_is_honoured_whichever_scheduler_it_names(
    home: Path, tmp_path: Path, settings
) -> None:
    (tmp_path / "models").mkdir()
    for name in ("sd1", "sd2"):
        (tmp_path / "models" / name).mkdir()
        for path in (home / "models" / name).iterdir():
            if path.name != "scheduler":
                (tmp_path / "models" / name / path.name).symlink_to(path)
        (tmp_path / "models" / name / "scheduler").mkdir()
        file = home / "models" / name / "scheduler" / "scheduler_config.json"
        config = json.loads(file.read_text()) | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        target = tmp_path / "models" / name / "scheduler" / "scheduler_config.json"
        target.write_text(json.dumps(config | {"prediction_type": "v_prediction"}))
        model = BaseModels(tmp_path).get(name)
        scheduler = load(model, settings).scheduler
        scheduler.set_timesteps(5)
        assert model.schedule.zero_terminal_snr and float(scheduler.alphas_cumprod[-1]) < 1e-6
        assert int(scheduler.timesteps[0]) == 999
        target.write_text(json.dumps(config | {"prediction_type": "flow_prediction"}))
        with pytest.raises(FailedPrecondition, match="flow_prediction"):
            BaseModels(tmp_path).get(name)


def test_the_image_itself_says_which_schedule_made_it(marked, store, settings, tmp_path: Path) -> None:
    decoder, models = Decoder(), marked("sdxl", {"v_pred": MARK, "ztsnr": MARK})
    generator = Generator(models, store, OneByOne(settings), decoder, writers=1, max_side=512)
    texts = {}
    for rescale in (None, 0.0, 0.3):
        request = Request([Image("a cat", 3)], "m", steps=2, width=64, height=64, guidance_rescale=rescale)
        (finished,) = generator.generate(request, lambda: False)
        (tmp_path / "x.png").write_bytes(store.get(finished.artifact.digest))
        with Picture.open(tmp_path / "x.png") as picture:
            texts[rescale] = (picture.text["parameters"], json.loads(picture.text["konomi"]))
    assert "Noise Schedule: Zero Terminal SNR, CFG Rescale: 0.7, " in texts[None][0]
    assert texts[None][1]["guidance_rescale"] == 0.7 and texts[None][1]["noise_schedule"] == "Zero Terminal SNR"
    assert "CFG Rescale: 0.3" in texts[0.3][0] and "CFG Rescale" not in texts[0.0][0]
    assert "guidance_rescale" not in texts[0.0][1]
    generator.close()
    decoder.close()


def test_the_rescaled_schedule_is_the_paper_s(marked, settings) -> None:
    scheduler = load(marked("sd2", {"ztsnr": MARK, "v_pred": MARK}).get("m"), settings).scheduler
    assert torch.allclose(scheduler.alphas_cumprod.double(), torch.cumprod(1 - zero_betas(), 0), atol=1e-6)
    assert math.isclose(float(scheduler.alphas_cumprod[500]), 0.241, abs_tol=0.01)
