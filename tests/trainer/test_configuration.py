"""What a run is made of where the caller says nothing: by base model and device, and what a night sends."""

import pytest

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.night.gateway.messages import training
from konomi.night.records.fit import Fit
from konomi.night.settings import NightSettings
from konomi.night.systems.base import hyper_parameters
from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.base_models import device
from konomi_trainer.configuration import BaseTraits, Configuration, complete
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.servicer.messages import completed, given

DIGEST = "0" * 64
CARD = BaseTraits("bf16", True)
BEFORE = "8c2559275b987d36e4a65e01dfa4699ee1ab97cd4cb9d813589fd1fed42631e0"
"""Digest of a starter's run of a night as versions before "auto" recorded it."""


def of_night(base: str, traits: BaseTraits, method: str = "lora", **settings: object) -> Configuration:
    """Returns the configuration of a night's fit as the trainer completes what a night sends."""
    sent = pb.HyperParameters(**hyper_parameters(NightSettings(base_model=base, **settings)))
    return complete(method, base, DIGEST, 1, given(sent), METHODS[method].defaults, traits)


def test_a_night_on_the_starter_on_a_cpu_is_to_the_digest_what_it_was() -> None:
    assert of_night("starter", BaseTraits()).digest() == BEFORE


def test_a_night_on_a_base_of_sdxls_class_takes_what_that_asks_for() -> None:
    numbers = of_night("sdxl", CARD)
    assert (numbers.precision, numbers.batch_size, numbers.learning_rate) == ("bf16", 4, 0.0001)
    assert numbers.steps == 160 and numbers.gradient_accumulation == 1
    smaller = of_night("photos", BaseTraits("fp16", False))
    assert (smaller.precision, smaller.batch_size, smaller.learning_rate) == ("fp16", 16, 0.0001)


def test_custom_diffusion_of_a_large_base_keeps_its_rows_in_two_batches() -> None:
    numbers = complete("custom_diffusion", "sdxl", DIGEST, 1, {}, METHODS["custom_diffusion"].defaults, CARD)
    assert (numbers.batch_size, numbers.gradient_accumulation) == (4, 2)


def test_what_a_night_sets_itself_is_taken() -> None:
    numbers = of_night("sdxl", CARD, precision="fp32", batch_size=7, learning_rate=0.003)
    assert (numbers.precision, numbers.batch_size, numbers.learning_rate) == ("fp32", 7, 0.003)


def test_a_run_says_what_auto_became() -> None:
    request = pb.CreateTrainingRunRequest(hyper_parameters=pb.HyperParameters(precision="auto"))
    numbers = complete("lora", "sdxl", DIGEST, 1, given(request.hyper_parameters), METHODS["lora"].defaults, CARD)
    assert completed(request, numbers).hyper_parameters.precision == "bf16"
    assert completed(request, numbers).hyper_parameters.batch_size == 4


def test_a_night_keeps_what_the_trainer_settled() -> None:
    numbers = complete("lora", "sdxl", DIGEST, 1, {}, METHODS["lora"].defaults, CARD)
    run = pb.TrainingRun(request=completed(pb.CreateTrainingRunRequest(), numbers))
    settled = training(run, {"images_at_once": 1.0, "gradient_checkpointing": 1.0, "loss": 0.1})
    assert settled["precision"] == "bf16" and settled["batch_size"] == 4 and settled["learning_rate"] == 0.0001
    assert settled["images_at_once"] == settled["gradient_checkpointing"] == 1.0 and "loss" not in settled
    fit = Fit(model="m", training=settled)
    assert Fit(**fit.plain()).training == settled


def test_another_precision_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="fp32, bf16, fp16, auto; came 'int4'") as caught:
        complete("lora", "starter", DIGEST, 1, {"precision": "int4"}, METHODS["lora"].defaults)
    assert caught.value.field == "hyper_parameters.precision"


def test_auto_is_the_best_a_device_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.precision("cpu") == "fp32"
    for bf16, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(device, "abilities", lambda name, bf16=bf16: device.Abilities(bf16, 8 << 30))
        assert device.precision("cuda") == expected


@pytest.mark.slow
def test_a_device_is_asked_in_a_process_of_its_own() -> None:
    device.abilities.cache_clear()
    assert device.abilities("cpu").memory > 1 << 30
    with pytest.raises(FailedPrecondition, match="expected the GPU cuda:77 to say what it can") as caught:
        device.abilities("cuda:77")
    assert caught.value.reason == "DEVICE_BROKEN"


def test_a_gpu_that_is_not_there_and_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gpus", lambda: ["0", "1", "2"])
    device.check_processes(64, "cpu")
    device.check_processes(3, "cuda")
    device.check_processes(2, "cuda:1")
    with pytest.raises(FailedPrecondition, match="at most 2 processes for a run, one for each GPU from cuda:1"):
        device.check_processes(3, "cuda:1")
    with pytest.raises(FailedPrecondition, match="cuda:3 came and it has 3 GPUs"):
        device.chosen("cuda:3")
    assert device.chosen("cuda:2") == "cuda:2" and device.number("cuda:2") == 2
