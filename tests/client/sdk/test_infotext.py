"""Infotexts of other tools become requests, or are refused by the pair that konomi cannot draw."""

import pytest

from konomi.client.infotext import SAMPLERS, SPACINGS, parse_infotext
from konomi.errors import InvalidArgument
from konomi.v1 import generator_pb2 as generator
from konomi_generator import png

A1111 = """masterpiece, 1girl, (long hair:1.2), [hat],
blue sky <lora:add_detail:0.6>
Negative prompt: (worst quality:1.4),
lowres
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 4105678, Size: 512x768, \
Model hash: 6ce0161689, Model: anything-v3, Clip skip: 2, Lora hashes: "add_detail: 7c6bad76eb54, b: 1", \
Version: v1.10.1"""


def recipe(**changes: str):
    """Of a short text with these pairs."""
    pairs = {"Steps": "4", "Sampler": "Euler", "Seed": "1", "Size": "64x64"} | changes
    return parse_infotext("a cat\n" + ", ".join(f"{name}: {value}" for name, value in pairs.items() if value))


def refused(*, field: str, sentence: str, **changes: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        recipe(**changes)
    assert (caught.value.reason, caught.value.field) == ("INFOTEXT", field)
    assert sentence in caught.value.message


def test_a_text_of_the_web_ui_says_all_of_a_request() -> None:
    read = parse_infotext(A1111)
    adapter = generator.Adapter(digest="a" * 64, scale=0.6)
    request = read.request("sd15", [adapter])
    assert request == generator.GenerateImagesRequest(
        base_model="sd15",
        adapters=[adapter],
        images=[generator.ImageRequest(prompt="masterpiece, 1girl, (long hair:1.2), [hat], blue sky ", seed=4105678)],
        negative_prompt="(worst quality:1.4), lowres",
        steps=28,
        guidance_scale=6.5,
        guidance_rescale=0.0,
        width=512,
        height=768,
        scheduler="DPMSolverMultistepScheduler",
        karras_sigmas=True,
        clip_skip=2,
        prompt_syntax="weighted",
    )
    assert read.adapters == ("add_detail", "b") and read.base_model == "anything-v3"
    assert read.pairs["Version"] == "v1.10.1"


@pytest.mark.parametrize(
    ("sampler", "kind", "scheduler", "spacing", "karras"),
    [
        ("DPM++ 2M Karras", "", "DPMSolverMultistepScheduler", "", True),
        ("DPM++ 2M", "", "DPMSolverMultistepScheduler", "", None),
        ("DPM++ 2M", "Automatic", "DPMSolverMultistepScheduler", "", True),
        ("Euler a", "Automatic", "EulerAncestralDiscreteScheduler", "", None),
        ("euler A", "SGM Uniform", "EulerAncestralDiscreteScheduler", "trailing", False),
        ("Euler", "Align Your Steps", "EulerDiscreteScheduler", "ays", False),
        ("", "", "", "", None),
    ],
)
def test_sampler_and_schedule_type_are_konomi_s(sampler: str, kind: str, scheduler: str, spacing: str, karras) -> None:
    read = recipe(**{"Sampler": sampler, "Schedule type": kind})
    assert (read.scheduler, read.timestep_spacing, read.karras_sigmas) == (scheduler, spacing, karras)


def test_the_generator_s_names_are_read_back() -> None:
    assert {name: SAMPLERS[theirs.lower()] for name, theirs in png.SAMPLERS.items()} == {n: n for n in png.SAMPLERS}
    assert {name: SPACINGS[theirs.lower()] for name, theirs in png.SCHEDULE_TYPES.items()} == {
        name: name for name in png.SCHEDULE_TYPES
    }


def test_brackets_are_weights_but_for_the_starter_and_where_the_text_says_so() -> None:
    assert recipe().prompt_syntax == recipe(Model="sd15").prompt_syntax == "weighted"
    assert recipe(Model="starter").prompt_syntax == "" and recipe(Emphasis="None").prompt_syntax == "plain"
    assert recipe(Model="starter", Emphasis="Original").prompt_syntax == "weighted"


def test_values_in_quotation_marks_and_odd_pairs_hide_nothing() -> None:
    read = parse_infotext(
        'x\nSteps: 4, TI hashes: "a: 1, b: \\"2\\"", =, Civitai resources: [{"type":"checkpoint","n":1}], Seed: -7'
    )
    assert read.seed == -7 and read.pairs["TI hashes"] == 'a: 1, b: "2"' and read.negative_prompt == ""
    assert parse_infotext("Steps: 4, Sampler: Euler\nSteps: 5, Seed: 1").prompt == "Steps: 4, Sampler: Euler"
    assert parse_infotext("\r\nNegative prompt: b\r\nSteps: 5, Seed: 1").negative_prompt == "b"


def test_what_cannot_be_drawn_is_named() -> None:
    with pytest.raises(InvalidArgument, match="a line that begins with Steps, got none"):
        parse_infotext("a cat")
    refused(field="Seed", sentence="a whole number as Seed in the infotext, got -", Seed="")
    refused(field="Steps", sentence="got 4.5", Steps="4.5")
    refused(field="Seed", sentence="got 9223372036854775808", Seed=str(2**63))
    refused(field="CFG scale", sentence="a number as CFG scale in the infotext, got nan", **{"CFG scale": "nan"})
    refused(field="Size", sentence="width x height as Size in the infotext, got 64", Size="64")
    refused(field="Sampler", sentence="as Sampler in the infotext, got Restart", Sampler="Restart")
    refused(field="Schedule type", sentence="karras, align your steps", **{"Schedule type": "Beta"})
    refused(field="Emphasis", sentence="does not draw what Emphasis", Emphasis="No norm")
    refused(field="Hires upscale", sentence="does not draw what Hires upscale", **{"Hires upscale": "2"})


def test_what_the_text_leaves_to_others_is_asked_for() -> None:
    with pytest.raises(InvalidArgument, match="so give them: detail") as caught:
        parse_infotext("x <lora:detail:1>\nSteps: 4, Seed: 1").request("sd15")
    assert caught.value.field == "adapters"
    started = recipe(**{"Denoising strength": "0.5"})
    with pytest.raises(InvalidArgument, match="started from another one") as caught:
        started.request("sd15")
    assert caught.value.field == "init_digest"
    image = started.request("sd15", init_digest="a" * 64).images[0]
    assert (image.init_digest, image.strength) == ("a" * 64, 0.5)


def test_a_draft_is_asked_for_as_one_and_its_adapter_is_the_model_s_own() -> None:
    few = "c" * 12
    read = recipe(Draft=few, **{"Lora hashes": f'"{few}: {few}, {"d" * 12}: {"d" * 12}"'})
    assert read.draft and read.adapters == ("d" * 12,)
    assert recipe(Draft=few, **{"Lora hashes": f'"{few}: {few}"'}).request("sd15").draft
    assert not recipe().request("sd15").draft


def test_a_picture_like_others_needs_their_digests() -> None:
    read = recipe(**{"Image prompt": f'"{"a" * 12}, {"b" * 12}"'})
    assert read.like == ("a" * 12, "b" * 12)
    with pytest.raises(InvalidArgument, match="drawn to be like others; give their digests") as caught:
        read.request("sd15")
    assert caught.value.field == "image_prompt"
    prompt = generator.ImagePrompt(digests=["a" * 64], scale=0.6)
    assert read.request("sd15", image_prompt=prompt).image_prompt == prompt
