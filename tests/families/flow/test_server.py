"""The generator's real servicer over models that follow a flow: listed, inspected, drawn with, and drawn with again."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from konomi.client.infotext import parse_infotext
from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.v1 import generator_pb2 as pb
from konomi.v1.generator_pb2_grpc import add_GeneratorServiceServicer_to_server
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.families import table
from konomi_chassis.server import ServedService, start
from konomi_chassis.settings import ServerSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.generator import Generator
from konomi_generator.rules import RULES
from konomi_generator.servicer import GeneratorServicer
from konomi_generator.settings import GeneratorSettings
from tests.families.conftest import MODELS
from tests.families.flow.test_images import FLOWS
from tests.generator.conftest import OneByOne
from tests.generator.test_server import Calls


@pytest.fixture(scope="module")
def store(home: Path) -> ArtifactStore:
    return ArtifactStore(StoreSettings(home=home))


@pytest.fixture(scope="module")
def calls(home: Path, store: ArtifactStore) -> Iterator[Calls]:
    """A server over the home of all families, and calls to it."""
    backend = OneByOne(GeneratorSettings(home=home, threads=1, device="cpu"))
    decoder = Decoder()
    generator = Generator(BaseModels(home), store, backend, decoder, writers=1, max_side=256)
    adder, servicer = add_GeneratorServiceServicer_to_server, GeneratorServicer(generator)
    service = ServedService("konomi.v1.GeneratorService", adder, servicer, RULES)
    server = start("generator", [service], ServerSettings(home=home), store)
    with grpc.insecure_channel(server.address) as channel:
        yield Calls(channel, (home / "tokens" / "owner.token").read_text().strip())
    assert server.stop(5.0)
    generator.close()
    decoder.close()


@pytest.mark.slow
def test_every_family_has_its_name_in_the_contract(calls: Calls) -> None:
    assert {f"MODEL_LAYOUT_{name.upper()}" for name in table.FAMILIES if name != "toy"} <= set(pb.ModelLayout.keys())
    listed = calls.stub.ListBaseModels(pb.ListBaseModelsRequest(), **calls.options).base_models
    named = {model.id: pb.ModelLayout.Name(model.layout).removeprefix("MODEL_LAYOUT_").lower() for model in listed}
    assert named | {"toy": "toy"} == MODELS, "the toy of these tests is in no contract"


@pytest.mark.parametrize("id", FLOWS)
def test_a_model_is_inspected_with_its_family_s_numbers(id: str, calls: Calls) -> None:
    model = calls.stub.InspectModel(pb.InspectModelRequest(id=id), **calls.options)
    usual = table.family(MODELS[id]).defaults.drawing
    assert model.prediction_type == "flow" and model.parameters["transformer"] > 0
    drawing = model.drawing
    assert (drawing.steps, drawing.guidance_scale, drawing.prompt_syntax) == (
        usual.steps,
        usual.guidance_scale,
        "plain",
    )


def texts(data: bytes) -> tuple[str, dict[str, object]]:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image.text["parameters"], json.loads(image.text["konomi"])  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("id", FLOWS)
def test_a_picture_says_its_family_and_is_drawn_again_from_its_infotext(
    id: str, calls: Calls, store: ArtifactStore
) -> None:
    (made,) = calls.generate([("a cat", 3)], base_model=id, steps=2, guidance_scale=3.5, negative_prompt="fog")
    data = store.get(made.artifact.digest)
    said, record = texts(data)
    shift = 3.0 if id == "sd3" else 6.0
    assert (record["family"], record["shift"]) == (MODELS[id], shift)
    assert record["scheduler"] == "FlowMatchEulerDiscreteScheduler" and record["guidance_scale"] == 3.5
    assert "Sampler: Euler, CFG scale: 3.5, " in said and f"Model family: {MODELS[id]}, Shift: {shift:g}, " in said
    (again,) = calls.send(parse_infotext(said).request())
    assert again.artifact.digest == made.artifact.digest
    changed = pb.ImageRequest(prompt="a cat", seed=3, init_digest=made.artifact.digest, strength=0.5)
    (other,) = calls.send(pb.GenerateImagesRequest(images=[changed], base_model=id, steps=3, guidance_scale=1.0))
    pixels = [
        np.asarray(Image.open(io.BytesIO(store.get(each)))) for each in (made.artifact.digest, other.artifact.digest)
    ]
    assert pixels[0].shape == pixels[1].shape and not np.array_equal(*pixels)
    assert texts(store.get(other.artifact.digest))[1]["parents"] == [made.artifact.digest]


def test_what_a_flow_cannot_be_asked_is_refused_in_words(calls: Calls) -> None:
    def asked(**fields: object) -> pb.GenerateImagesRequest:
        return pb.GenerateImagesRequest(
            images=[pb.ImageRequest(prompt="x", seed=1)], base_model="lumina2", steps=2, **fields
        )

    error = calls.refused(asked(width=72, height=64), InvalidArgument, "SIZE")
    assert "A multiple of 16 was expected, as this base model (lumina2) draws; 72 came." in error.message
    error = calls.refused(asked(preview_every=1), FailedPrecondition, "PREVIEW_DECODER_MISSING")
    assert "run `konomi models fetch tiny-vae-flux1`, or leave preview_every at 0" in error.message
    error = calls.refused(asked(draft=True), FailedPrecondition, "DRAFT_ADAPTER_MISSING")
    assert "lumina2" in error.message
    error = calls.refused(asked(scheduler="DDIMScheduler"), InvalidArgument, "SCHEDULER")
    assert "One of FlowMatchEulerDiscreteScheduler was expected" in error.message
