"""What the generator says a night takes of the device: by the device, and by the settings of the model's file."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from konomi_chassis.models.catalogue import BaseModel, BaseModels
from konomi_chassis.models.model_settings import ModelSettings, TrainingSettings
from konomi_generator.generator import Generator
from konomi_generator.sampling import DeviceMemory

GIB = 1 << 30
PARAMETERS = {"unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840}
SDXL = BaseModel("mine", Path("mine"), "sdxl", "single_file", 0, 1024, PARAMETERS)


def trainer_peak(device: DeviceMemory, **settings: object) -> int:
    """Returns what a run on SDXL takes at its peak."""
    model = replace(SDXL, settings=ModelSettings(training=TrainingSettings(**settings)))
    backend = SimpleNamespace(device_memory=lambda asked: device)
    generator = Generator(BaseModels(Path("no home")), None, backend, None, writers=1, max_side=1024)
    _, night = generator.memory(model)
    return next(need.at_peak for need in night.needs if need.service == "trainer")


def card(gib: int) -> DeviceMemory:
    return DeviceMemory("cuda", gib * GIB, 2, 2)


def test_activations_are_made_twice_on_cards_without_room_alone():
    small, large = trainer_peak(card(24)), trainer_peak(card(48))
    assert large > 3 * small
    assert trainer_peak(card(24), gradient_checkpointing="off") == large
    assert trainer_peak(card(48), gradient_checkpointing="on") == small
    assert trainer_peak(DeviceMemory("cpu", 24 * GIB, 4, 1)) > large, "a CPU makes none twice, and computes in float32"


@pytest.mark.parametrize(("settings", "more"), [({"precision": "fp32"}, True), ({"batch_size": 1}, False)])
def test_the_model_s_file_counts(settings, more):
    assert (trainer_peak(card(24), **settings) > trainer_peak(card(24))) is more


def test_another_program_s_device_is_its_own():
    backend = SimpleNamespace(device_memory=lambda asked: None)
    assert Generator(None, None, backend, None, writers=1, max_side=1024).memory(SDXL) is None
