"""A picture drawn again from nothing but the infotext in its PNG has the same pixels."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from konomi.client.infotext import parse_infotext
from konomi.datasets.png_metadata import texts
from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.v1 import generator_pb2 as pb
from konomi.v1.generator_pb2_grpc import add_GeneratorServiceServicer_to_server
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.server import ServedService, start
from konomi_chassis.settings import ServerSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.generator import Generator
from konomi_generator.rules import RULES
from konomi_generator.servicer import GeneratorServicer
from konomi_generator.settings import GeneratorSettings
from tests.generator.conftest import OneByOne
from tests.generator.test_server import Calls

SIZE = {"width": 64, "height": 64, "steps": 3}
LONG = "1girl, (long hair:1.2), [hat], " * 20


@pytest.fixture(scope="module")
def calls(home: Path, store: ArtifactStore, models: BaseModels, settings: GeneratorSettings) -> Iterator[Calls]:
    """A server over the tiny home with a base of zero terminal SNR, a distilled one and an owner's file."""
    mark = torch.zeros(0)
    whole = load_file(home / "models" / "sdxl-file.safetensors")
    zero, owners = home / "models" / "zero.safetensors", home / "models" / "sd1.toml"
    save_file(whole | {"v_pred": mark, "ztsnr": mark}, zero)
    owners.write_text('[drawing]\nkarras_sigmas = true\nscheduler = "EulerDiscreteScheduler"\nclip_skip = 2\n')
    few = home / "models" / "x-lightning-2step.safetensors"
    shutil.copyfile(home / "models" / "sdxl-file.safetensors", few)
    decoder = Decoder()
    generator = Generator(models, store, OneByOne(settings), decoder, writers=1, max_side=512)
    service = ServedService(
        "konomi.v1.GeneratorService", add_GeneratorServiceServicer_to_server, GeneratorServicer(generator), RULES
    )
    server = start("generator", [service], ServerSettings(home=home), store)
    with grpc.insecure_channel(server.address) as channel:
        yield Calls(channel, (home / "tokens" / "owner.token").read_text().strip())
    assert server.stop(5.0)
    generator.close()
    decoder.close()
    for path in (zero, owners, few):
        path.unlink()


ASKED = {
    "all by the owner's file": {"base_model": "sd1"},
    "against the owner's file": {
        "base_model": "sd1",
        "karras_sigmas": False,
        "clip_skip": 1,
        "prompt_syntax": "plain",
    },
    "another spacing": {"base_model": "sd1", "timestep_spacing": "leading", "guidance_scale": 3.123456789},
    "the model's own PLMS": {"base_model": "sd1", "scheduler": "PNDMScheduler"},
    "Align Your Steps": {"base_model": "sdxl", "timestep_spacing": "ays", "negative_prompt": f"{LONG} BREAK (blur)"},
    "a stochastic sampler": {"base_model": "sd2", "scheduler": "EulerAncestralDiscreteScheduler"},
    "no signal at the end": {"base_model": "zero", "guidance_rescale": 0.4},
    "no signal and Karras": {"base_model": "zero", "karras_sigmas": True},
    "the starter": {"base_model": "starter"},
    "the starter with weights": {"base_model": "starter", "prompt_syntax": "weighted", "timestep_spacing": "linspace"},
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_the_infotext_alone_draws_the_same_picture(asked: dict, calls: Calls, store: ArtifactStore) -> None:
    for prompt in ("a (cat:1.3), [dog]", LONG):
        (first,) = calls.generate([(prompt, 11)], **(SIZE | asked))
        data = store.get(first.artifact.digest)
        infotext = dict(texts(data))["parameters"] or ""
        (again,) = calls.send(parse_infotext(infotext).request())
        assert again.artifact.digest == first.artifact.digest, infotext


def test_what_was_drawn_with_stands_there_in_the_web_ui_s_words(calls: Calls, store: ArtifactStore) -> None:
    def said(**asked: object) -> tuple[str, dict]:
        (made,) = calls.generate([("a (cat)", 1)], **(SIZE | asked))
        chunks = dict(texts(store.get(made.artifact.digest)))
        return (chunks["parameters"] or "").split("\n")[-1], json.loads(chunks["konomi"] or "")

    line, record = said(base_model="sd1")
    assert line.startswith("Steps: 3, Sampler: Euler, Schedule type: Karras, CFG scale: 7, Seed: 1, ")
    assert "Clip skip: 2, RNG: CPU, " in line and "Emphasis" not in line
    assert (record["karras_sigmas"], record["clip_skip"], record["prompt_syntax"]) == (True, 2, "weighted")
    line, record = said(base_model="sd1", timestep_spacing="trailing", prompt_syntax="plain", clip_skip=1)
    assert "Schedule type: SGM Uniform, " in line and "Emphasis: None" in line and "Clip skip" not in line
    assert record["timestep_spacing"] == "trailing" and {"karras_sigmas", "prompt_syntax"}.isdisjoint(record)
    line, record = said(base_model="starter")
    assert not {"Schedule type", "RNG", "Emphasis", "Clip skip"} & {part.split(":")[0] for part in line.split(", ")}
    assert {"timestep_spacing", "karras_sigmas", "clip_skip", "prompt_syntax"}.isdisjoint(record)


def test_settings_a_request_leaves_open_are_the_model_s_and_can_be_inspected(calls: Calls) -> None:
    model = calls.stub.InspectModel(pb.InspectModelRequest(id="sd1"), **calls.options)
    assert (model.drawing.steps, model.drawing.karras_sigmas, model.drawing.clip_skip) == (25, True, 2)
    assert model.drawing.prompt_syntax == "weighted" and model.training.precision == "auto"
    assert list(model.settings_in_file) == ["drawing.clip_skip", "drawing.karras_sigmas", "drawing.scheduler"]
    starter = calls.stub.InspectModel(pb.InspectModelRequest(id="starter"), **calls.options)
    assert (starter.drawing.steps, starter.drawing.guidance_scale, starter.drawing.prompt_syntax) == (8, 4.0, "plain")
    zero = calls.stub.InspectModel(pb.InspectModelRequest(id="zero"), **calls.options)
    assert (zero.drawing.timestep_spacing, zero.drawing.guidance_rescale) == ("trailing", 0.7)


def test_a_distilled_model_draws_as_it_was_distilled_for(calls: Calls, store: ArtifactStore) -> None:
    def record(**asked: object) -> dict:
        (made,) = calls.generate([("x", 1)], base_model="x-lightning-2step", width=64, height=64, **asked)
        return json.loads(dict(texts(store.get(made.artifact.digest)))["konomi"] or "")

    usual = record()
    assert (usual["steps"], usual["guidance_scale"], usual["scheduler"]) == (2, 1.0, "EulerDiscreteScheduler")
    assert usual["timestep_spacing"] == "trailing"
    asked = record(steps=3, guidance_scale=2.0, scheduler="DPMSolverSinglestepScheduler")
    assert (asked["steps"], asked["guidance_scale"]) == (3, 2.0)
    assert "timestep_spacing" not in asked, "this scheduler knows one way alone; nobody asked for another"


def test_a_scheduler_of_the_owner_s_file_that_is_none_is_named_as_its_line(calls: Calls, home: Path) -> None:
    file = home / "models" / "sd2.toml"
    file.write_text('[drawing]\nscheduler = "Eulr"\n')
    try:
        wrong = pb.GenerateImagesRequest(images=[pb.ImageRequest(prompt="x", seed=1)], base_model="sd2")
        error = calls.refused(wrong, FailedPrecondition, "MODEL_SETTINGS")
        assert "name the scheduler 'Eulr'" in error.message and "DDIMScheduler" in error.message
        wrong.scheduler = "DDIMScheduler"
        wrong.steps, wrong.width, wrong.height = 2, 64, 64
        assert calls.send(wrong)[0].artifact.digest
        file.write_text("[drawing]\nsteps = 0\n")
        assert "drawing.steps" in calls.refused(wrong, FailedPrecondition, "MODEL_SETTINGS").message
    finally:
        file.unlink()


def test_karras_and_a_spacing_are_not_asked_for_together(calls: Calls, store: ArtifactStore) -> None:
    both = pb.GenerateImagesRequest(
        images=[pb.ImageRequest(prompt="x", seed=1)], base_model="sd1", karras_sigmas=True, timestep_spacing="trailing"
    )
    error = calls.refused(both, InvalidArgument, "SCHEDULER")
    assert error.field == "timestep_spacing" and "karras_sigmas spaces the steps by itself" in error.message
    (made,) = calls.generate([("x", 1)], base_model="zero", karras_sigmas=True, **SIZE)
    with Image.open(io.BytesIO(store.get(made.artifact.digest))) as picture:
        assert "Schedule type: Karras, " in picture.text["parameters"], "the model's own trailing gives way"
        assert np.asarray(picture).std() > 0
