"""The generator's field rules, by example."""

import pytest

from konomi.v1 import generator_pb2 as pb
from konomi_chassis.rpc.validation import InvalidFields, check
from konomi_generator.rules import RULES


def violations(message):
    try:
        check(message, RULES)
    except InvalidFields as error:
        return {field for field, _ in error.violations}
    return set()


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (pb.InspectModelRequest(id="starter"), set()),
        (pb.InspectModelRequest(id="../starter"), {"id"}),
        (pb.InspectModelRequest(id=".hidden"), {"id"}),
    ],
)
def test_examples(message, fields):
    assert violations(message) == fields


def test_generation():
    good = pb.ImageRequest(prompt="a portrait", seed=-1)
    assert violations(pb.GenerateImagesRequest(images=[good])) == set()
    bad = pb.GenerateImagesRequest(
        base_model="/models/x",
        adapters=[pb.Adapter(digest="x", scale=2.5)],
        images=[good, pb.ImageRequest(prompt="x" * 4097, init_digest="x", strength=1.5)],
        steps=201,
        guidance_scale=0.5,
        width=513,
        height=8192,
        scheduler="os.system",
        negative_prompt="\n",
        timestep_spacing="karras",
        clip_skip=13,
        prompt_syntax="compel",
    )
    assert violations(bad) == {
        "base_model",
        "adapters[0].digest",
        "adapters[0].scale",
        "images[1].prompt",
        "images[1].init_digest",
        "images[1].strength",
        "steps",
        "guidance_scale",
        "width",
        "height",
        "scheduler",
        "negative_prompt",
        "timestep_spacing",
        "clip_skip",
        "prompt_syntax",
    }
    for spacing in ("", "leading", "trailing", "linspace", "ays"):
        given = pb.GenerateImagesRequest(images=[good], timestep_spacing=spacing, clip_skip=2, prompt_syntax="plain")
        assert violations(given) == set()
