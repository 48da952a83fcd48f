"""How a base model draws and learns: by its name and its noise, and by the owner's file."""

import tomllib

import pytest

from konomi.errors import FailedPrecondition
from konomi_chassis.models.model_settings import (
    STARTER_SETTINGS,
    DrawingSettings,
    ModelSettings,
    TrainingSettings,
    read_settings,
    settings_of_names,
    written,
)
from konomi_chassis.models.noise_schedule import NoiseSchedule

USUAL = NoiseSchedule()
ZERO = NoiseSchedule("v_prediction", zero_terminal_snr=True)


@pytest.mark.parametrize(
    ("name", "steps", "scheduler", "spacing"),
    [
        ("sd_xl_turbo_1.0_fp16", 4, "EulerAncestralDiscreteScheduler", "trailing"),
        ("dreamshaperxl_v21turbodpmsde", 4, "EulerAncestralDiscreteScheduler", "trailing"),
        ("sdxl_lightning_8step", 8, "EulerDiscreteScheduler", "trailing"),
        ("realvisxl_v5.0_lightning_fp16", 4, "EulerDiscreteScheduler", "trailing"),
        ("Hyper-SDXL-8steps", 8, "DDIMScheduler", "trailing"),
        ("hyper_sd15_1step", 1, "DDIMScheduler", "trailing"),
        ("lcm-dreamshaper", 4, "LCMScheduler", ""),
        ("sdxl-dmd2-4step", 4, "LCMScheduler", ""),
    ],
)
def test_a_distilled_model_draws_in_a_few_steps_without_guidance(name, steps, scheduler, spacing):
    drawing = settings_of_names([name], USUAL).drawing
    expected = (steps, 1.0, scheduler, spacing)
    assert (drawing.steps, drawing.guidance_scale, drawing.scheduler, drawing.timestep_spacing) == expected


@pytest.mark.parametrize("name", ["hyperrealism_v3", "sd_xl_base_1.0", "calcmix", "noobaixl-vpred", "25steps-mix"])
def test_another_model_draws_as_usual(name):
    assert settings_of_names([name], USUAL).drawing == DrawingSettings()


def test_a_title_says_it_where_the_name_does_not():
    assert settings_of_names(["mine", "SDXL Lightning 2 steps"], USUAL).drawing.steps == 2


def test_zero_terminal_snr_begins_at_the_last_step_and_rescales_guidance():
    drawing = settings_of_names(["noobai"], ZERO).drawing
    assert (drawing.timestep_spacing, drawing.guidance_rescale) == ("trailing", 0.7)
    assert settings_of_names(["noobai-lightning"], ZERO).drawing.guidance_rescale == 0


@pytest.mark.parametrize("settings", [ModelSettings(), STARTER_SETTINGS, settings_of_names(["x-turbo"], ZERO)])
def test_what_is_written_is_read_back(settings, tmp_path):
    path = tmp_path / "model.toml"
    path.write_text(written(settings), "utf-8")
    assert read_settings(path, ModelSettings()) == settings
    assert set(tomllib.loads(written(settings))) == {"drawing", "training", "draft", "image_prompt"}


def test_what_the_file_leaves_out_is_as_derived(tmp_path):
    path = tmp_path / "model.toml"
    path.write_text("[drawing]\nclip_skip = 2\n[training]\nbatch_size = 2\n", "utf-8-sig")
    derived = settings_of_names(["x-lightning"], USUAL)
    settings = read_settings(path, derived)
    assert settings.drawing == derived.drawing.model_copy(update={"clip_skip": 2})
    assert settings.training == TrainingSettings(batch_size=2)
    assert read_settings(tmp_path / "none.toml", derived) == derived


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "steps = 3\n",
            "has 'steps' where one of [drawing], [training], [draft], [image_prompt], [parts] was expected",
        ),
        ("drawing = 3\n", "has a value 'drawing' where the table [drawing] was expected"),
        ("[drawing]\nstep = 3\n", "has drawing.step = '3': extra inputs are not permitted"),
        ("[drawing]\nsteps = 0\n", "has drawing.steps = '0': input should be greater than or equal to 1"),
        ("[training]\nprecision = 'int8'\n", "has training.precision = 'int8': input should be"),
        ("[drawing\n", "cannot be read:"),
        (b"\xff\xfe\x00", "cannot be read:"),
    ],
)
def test_a_wrong_line_is_named_with_what_to_do(content, sentence, tmp_path):
    path = tmp_path / "model.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FailedPrecondition) as caught:
        read_settings(path, ModelSettings())
    assert caught.value.reason == "MODEL_SETTINGS"
    assert sentence in caught.value.message
    assert "model.toml" in caught.value.message and "Put it right, or remove the file" in caught.value.message
