"""What a night takes of a card, before it starts, on the bases people bring and the cards they have."""

from pathlib import Path

import pytest

from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.memory_needs import NightShape, night_memory

GB, GIB = 1e9, 1 << 30
VAE, CLIP_L, CLIP_G = 83_653_863, 123_060_480, 694_659_840
XL = {"unet": 2_567_463_684, "vae": VAE, "text_encoder": CLIP_L, "text_encoder_2": CLIP_G}
SD = {"unet": 859_520_964, "vae": VAE, "text_encoder": CLIP_L}


def model(layout, resolution, parameters):
    return BaseModel("mine", Path("mine"), layout, "single_file", 0, resolution, parameters)


SDXL, SD15 = model("sdxl", 1024, XL), model("sd1", 512, SD)


def needs(base, **shape):
    memory = night_memory(base, NightShape(**shape))
    return memory, {need.service: need for need in memory.needs}


def test_sdxl_keeps_the_plan_s_figures():
    _, by = needs(SDXL, rows_together=1)
    assert 7.1 * GB < by["generator"].at_rest < 8 * GB
    assert by["trainer"].at_peak <= 11 * GB
    assert by["trainer"].at_rest == 0, "its process ends with its run"


@pytest.mark.parametrize(
    ("base", "shape", "fits"),
    [
        (SDXL, {}, {6: "none", 8: "reduced", 12: "whole", 16: "whole", 24: "whole"}),
        (SDXL, {"checkpointing": False}, {8: "reduced", 24: "reduced", 48: "whole"}),
        (SDXL, {"precision_bytes": 4, "trained_bytes": 4}, {8: "none", 12: "none", 16: "reduced", 24: "whole"}),
        (SD15, {}, {4: "reduced", 6: "whole", 8: "whole"}),
        (SD15, {"checkpointing": False}, {6: "reduced", 12: "whole"}),
    ],
)
def test_what_fits_on_which_card(base, shape, fits):
    memory, _ = needs(base, **shape)
    assert {size: memory.fit(size * GIB) for size in fits} == fits


def test_more_pixels_and_more_rows_take_more_and_the_least_stays():
    memory, by = needs(SDXL)
    more, more_by = needs(SDXL, images_together=16, rows_together=16)
    assert more_by["generator"].at_peak > by["generator"].at_peak
    assert more_by["trainer"].at_peak > by["trainer"].at_peak
    assert more.least == memory.least and more.peak > memory.peak
    larger, _ = needs(model("sdxl", 1536, XL))
    assert larger.least > memory.least


def test_a_model_of_another_program_has_no_table():
    assert night_memory(model("unknown", 512, {}), NightShape()) is None


def test_a_few_step_adapter_counts_beside_the_base_on_a_card_and_as_the_base_s_own_weights_on_a_cpu():
    for on_card, more in ((True, 400_000_000), (False, XL["unet"] * 2)):
        _, without = needs(SDXL, on_card=on_card)
        _, beside = needs(SDXL, few_step_bytes=400_000_000, on_card=on_card)
        assert beside["generator"].at_rest - without["generator"].at_rest == more
        assert beside["generator"].at_peak - without["generator"].at_peak == more
        assert beside["generator"].at_least - without["generator"].at_least == (0 if on_card else more)
        assert beside["trainer"] == without["trainer"]
