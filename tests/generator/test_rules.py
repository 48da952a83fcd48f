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


def test_images_as_a_prompt_and_drafts():
    image, digest = pb.ImageRequest(prompt="a cat", draft_digest="a" * 64), "b" * 64
    for digests, scale, fields in (
        ([digest], 0.0, set()),
        ([digest] * 16, 1.0, set()),
        ([], 0.5, {"image_prompt.digests"}),
        ([digest] * 17, 0.5, {"image_prompt.digests"}),
        (["x"], 1.5, {"image_prompt.digests[0]", "image_prompt.scale"}),
    ):
        prompt = pb.ImagePrompt(digests=digests, scale=scale)
        assert violations(pb.GenerateImagesRequest(images=[image], draft=True, image_prompt=prompt)) == fields
    image.draft_digest = "../x"
    assert violations(pb.GenerateImagesRequest(images=[image])) == {"images[0].draft_digest"}
