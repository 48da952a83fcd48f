"""A base whose noise schedule ends without any signal is trained, sampled and exported with that schedule."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load

from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.families.unet import discrete_path
from konomi_trainer.base_models import pipeline
from tests.trainer.conftest import Bench

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PLACE = pipeline.TrainingPlacement("cpu", "fp32", False)


def rescale(home: Path, id: str, prediction: str = "v_prediction") -> None:
    """Makes a base of the home one of zero terminal SNR."""
    file = home / "models" / id / "scheduler" / "scheduler_config.json"
    said = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": prediction}
    file.write_text(json.dumps(json.loads(file.read_text()) | said))


def test_at_zero_signal_noise_targets_and_weights_are_finite_and_the_paper_s() -> None:
    alphas = DDPMScheduler(**SCHEDULE, rescale_betas_zero_snr=True).alphas_cumprod[[0, 500, 998, 999]]
    assert float(alphas[-1]) == 0
    latents, noise = (torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    assert torch.equal(discrete_path.add_noise(latents, noise, alphas)[-1], noise[-1])
    assert torch.equal(discrete_path.target("v_prediction", latents, noise, alphas)[-1], -latents[-1])
    for kind in ("epsilon", "v_prediction"):
        weights = discrete_path.min_snr(kind, alphas, 5.0)
        assert torch.isfinite(weights).all()
        assert weights[-1].item() == (1.0 if kind == "epsilon" else 0.0)


def test_the_trainer_s_schedule_is_the_rescaled_one(bench: Bench) -> None:
    model = BaseModels(bench.home)
    plain = pipeline.load(model.get("tiny"), bench.home / "configs", "0" * 64, PLACE)
    rescale(bench.home, "tiny")
    base = pipeline.load(model.get("tiny"), bench.home / "configs", "0" * 64, PLACE)
    wanted = DDPMScheduler(**SCHEDULE, rescale_betas_zero_snr=True).alphas_cumprod
    assert torch.equal(base.path.alphas, wanted) and float(base.path.alphas[-1]) == 0 < float(plain.path.alphas[-1])
    assert base.path.prediction == "v_prediction"
    sheets = [one.sampler(["face 1"], 3)() for one in (plain, base)]
    assert (sheets[0] != sheets[1]).any()


@pytest.mark.parametrize("gamma", [0.0, 5.0])
def test_a_run_trains_on_it_and_its_exports_say_so(bench: Bench, gamma: float, tmp_path: Path) -> None:
    rescale(bench.home, "tiny-xl")
    numbers = {"steps": 4, "learning_rate": 0.01, "min_snr_gamma": gamma, "validation_share": 0.3}
    model = bench.trained(bench.manifest(4, 16), "tiny-xl", **numbers)
    assert model.metrics["skipped_steps"] == 0 and model.metrics["loss"] > 0
    assert torch.isfinite(torch.tensor([model.metrics["loss"], model.metrics["validation_loss"]])).all()
    kohya = bench.store.get(bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_KOHYA).digest)
    header = json.loads(kohya[8 : 8 + int.from_bytes(kohya[:8], "little")])["__metadata__"]
    assert (header["ss_zero_terminal_snr"], header["modelspec.prediction_type"]) == ("True", "v")
    merged = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MERGED)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "merged.safetensors").write_bytes(bench.store.get(merged.digest))
    schedule = BaseModels(tmp_path).get("merged").schedule
    assert (schedule.prediction_type, schedule.zero_terminal_snr) == ("v_prediction", True)
    tensors = load(bench.store.get(merged.digest))
    assert tensors["v_pred"].numel() == tensors["ztsnr"].numel() == 0


def test_a_plain_base_s_exports_bear_no_marks(bench: Bench) -> None:
    model = bench.trained(bench.manifest(4, 16), "tiny-xl", steps=1)
    merged = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MERGED)
    assert not {"v_pred", "ztsnr"} & load(bench.store.get(merged.digest)).keys()
