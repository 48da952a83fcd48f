"""What a base model's licence is said to be: its own where it is known, else its family's as published."""

import pytest

from konomi.night.engine.bases import PUBLISHED_LICENCES, licence_of
from konomi.v1 import generator_pb2 as generator


@pytest.mark.parametrize(
    ("id", "layout", "licence"),
    [
        ("starter", "SD1", "Apache-2.0"),
        ("sdxl", "SDXL", "CreativeML Open RAIL++-M"),
        ("mine", "SDXL", ""),
        ("mine", "FLUX1", "its family as published: FLUX.1 [dev] non-commercial, [schnell] Apache-2.0"),
        ("mine", "FLUX2_KLEIN", "its family as published: 4B Apache-2.0, 9B non-commercial"),
        ("mine", "QWEN_IMAGE", "its family as published: Apache-2.0"),
    ],
)
def test_a_licence_is_a_models_own_or_its_familys(id: str, layout: str, licence: str) -> None:
    model = generator.BaseModel(id=id, layout=generator.ModelLayout.Value(f"MODEL_LAYOUT_{layout}"))
    assert licence_of(model) == licence


def test_every_family_that_follows_a_flow_has_its_licence() -> None:
    names = {name.removeprefix("MODEL_LAYOUT_") for name in generator.ModelLayout.keys()}  # noqa: SIM118
    assert names - {"UNSPECIFIED", "SD1", "SD2", "SDXL"} == set(PUBLISHED_LICENCES)
