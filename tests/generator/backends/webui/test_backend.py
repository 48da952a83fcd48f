"""The sdapi back end behind the use case, over a real socket: what is sent, stored, refused, and stopped."""

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from PIL import Image as Picture
from safetensors.torch import save

from konomi.errors import (
    Cancelled,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    KonomiError,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from konomi.v1 import generator_pb2 as pb
from konomi.v1 import generator_pb2_grpc
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.model_settings import settings_of_names
from konomi_chassis.models.noise_schedule import NoiseSchedule
from konomi_generator.backends.webui.backend import SdapiBackend, SdapiModels
from konomi_generator.backends.webui.client import SdapiClient
from konomi_generator.generator import Generator
from konomi_generator.requests import Finished, Image, Likeness, Request
from konomi_generator.sampling import Annealing
from tests.generator.backends.diffusers.test_adapters import lora
from tests.generator.backends.webui.webui import SHA256, WebUI

pytestmark = pytest.mark.slow

SD15 = "v1-5-pruned-emaonly"


@pytest.fixture
def webui() -> Iterator[WebUI]:
    with WebUI().running() as running:
        yield running


@pytest.fixture
def over(webui: WebUI, store, tmp_path) -> Iterator[Generator]:
    """The use case over the program; its LoRA folder is a temporary one."""
    client, decoder = SdapiClient(webui.address, 30.0), Decoder()
    backend = SdapiBackend(client, decoder, tmp_path)
    generator = Generator(SdapiModels(client), store, backend, decoder, writers=2, max_side=2048)
    yield generator
    generator.close()
    decoder.close()


def make(generator: Generator, images: list[Image], stopped=lambda: False, **settings: object) -> list[Finished]:
    request = Request(images=images, **({"base_model": SD15, "width": 64, "height": 64, "steps": 4} | settings))
    return sorted(generator.generate(request, stopped), key=lambda finished: finished.index)


def refused(kind: type[KonomiError], generator: Generator, **settings: object) -> str:
    with pytest.raises(kind) as caught:
        make(generator, [Image("x", 1)], **settings)
    return caught.value.reason


def test_the_program_s_models_are_the_catalogue(over: Generator) -> None:
    found = {model.id: (model.format, model.layout, digest) for model, digest in over.models()}
    assert found == {SD15: ("sdapi", "unknown", SHA256), "anything-v3": ("sdapi", "unknown", "")}
    assert refused(NotFound, over, base_model="starter") == "MODEL_MISSING"


def test_an_image_is_asked_for_and_stored_with_konomi_s_record(over: Generator, webui: WebUI, store) -> None:
    images = [Image("a cat", 7), Image("a dog", 8)]
    found = make(over, images, negative_prompt="blur", scheduler="EulerAncestralDiscreteScheduler", guidance_scale=5.0)
    first, second = webui.sent("txt2img")
    assert (first["prompt"], first["negative_prompt"], first["seed"], first["steps"]) == ("a cat", "blur", 7, 4)
    assert (first["width"], first["height"], first["cfg_scale"]) == (64, 64, 5.0)
    assert (first["sampler_name"], first["batch_size"], first["n_iter"]) == ("Euler a", 1, 1)
    title = "v1-5-pruned-emaonly.safetensors [6ce0161689]"
    assert first["override_settings"] == {"sd_model_checkpoint": title, "CLIP_stop_at_last_layers": 1}
    assert first["scheduler"] == "Automatic"
    assert not first["save_images"] and second["seed"] == 8
    picture = Picture.open(io.BytesIO(store.get(found[0].artifact.digest)))
    expected = np.random.default_rng(7).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(np.asarray(picture), expected)
    record = json.loads(picture.text["konomi"])
    assert (record["backend"], record["base_digest"], record["seed"]) == ("sdapi", SHA256, 7)
    assert "Sampler: Euler a" in picture.text["parameters"] and "Model hash: 6ce0161689" in picture.text["parameters"]
    alone = make(
        over, images[1:], negative_prompt="blur", scheduler="EulerAncestralDiscreteScheduler", guidance_scale=5.0
    )
    assert alone[0].artifact.digest == found[1].artifact.digest


def test_image_to_image_sends_the_picture_in_the_wanted_size(over: Generator, webui: WebUI, store) -> None:
    buffer = io.BytesIO()
    Picture.fromarray(np.full((96, 128, 3), 60, np.uint8)).save(buffer, "PNG")
    parent, bad = store.put(buffer.getvalue(), "image/png").digest, store.put(b"\x89PNG\r\n\x1a\nx", "image/png").digest
    images = [Image("x", 3, parent, 0.3), Image("x", 3, bad), Image("x", 3)]
    found = make(over, images)
    assert found[1].error is not None and found[1].error.reason == "IMAGE_UNREADABLE"
    (body,) = webui.sent("img2img")
    assert body["denoising_strength"] == 0.3 and len(body["init_images"]) == 1 and len(webui.sent("txt2img")) == 1
    picture = Picture.open(io.BytesIO(store.get(found[0].artifact.digest)))
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(np.asarray(picture), (0.3 * noise + 0.7 * np.full((64, 64, 3), 60)).astype(np.uint8))
    assert found[0].parents == (parent,)


def test_an_adapter_is_put_where_the_program_finds_it(over: Generator, webui: WebUI, store, tmp_path) -> None:
    kohya = save({"lora_unet_x.lora_down.weight": torch.ones(2, 2), "lora_unet_x.lora_up.weight": torch.ones(2, 2)})
    digest = store.put(kohya, "a/b").digest
    (found,) = make(over, [Image("a cat", 1)], adapters=[(digest, 0.6)])
    name = f"konomi-{digest[:12]}"
    assert (tmp_path / f"{name}.safetensors").read_bytes() == kohya
    assert webui.sent("refresh-loras") and webui.sent("txt2img")[0]["prompt"] == f"a cat <lora:{name}:0.6>"
    text = Picture.open(io.BytesIO(store.get(found.artifact.digest))).text
    assert json.loads(text["konomi"])["prompt"] == "a cat" and found.parents == (digest,)
    other = store.put(lora(1), "a/b").digest
    assert refused(FailedPrecondition, over, adapters=[(other, 1.0)]) == "ADAPTER_KIND"
    pickled = store.put(b"\x80\x04K\x01.", "a/b").digest
    assert refused(FailedPrecondition, over, adapters=[(pickled, 1.0)]) == "UNSAFE_FORMAT"


def test_without_a_folder_for_them_adapters_are_refused(webui: WebUI, store) -> None:
    client, decoder = SdapiClient(webui.address, 30.0), Decoder()
    generator = Generator(
        SdapiModels(client), store, SdapiBackend(client, decoder, None), decoder, writers=1, max_side=512
    )
    digest = store.put(lora(1), "a/b").digest
    assert refused(FailedPrecondition, generator, adapters=[(digest, 1.0)]) == "SDAPI_LORA_FOLDER"
    generator.close()
    decoder.close()


def test_what_the_program_cannot_do_is_refused_not_left_out(over: Generator, webui: WebUI) -> None:
    assert refused(InvalidArgument, over, scheduler="LCMScheduler") == "SCHEDULER"
    assert refused(InvalidArgument, over, scheduler="Nothing") == "SCHEDULER"
    assert refused(Unimplemented, over, annealing=Annealing()) == "BACKEND_FEATURE"
    assert refused(Unimplemented, over, preview_every=2) == "BACKEND_FEATURE"
    assert refused(Unimplemented, over, draft=True) == "BACKEND_FEATURE"
    assert refused(Unimplemented, over, likeness=Likeness(["a" * 64])) == "BACKEND_FEATURE"
    with pytest.raises(InvalidArgument) as caught:
        make(over, [Image("x", -1)])
    assert caught.value.reason == "SEED" and not webui.sent("txt2img")


@pytest.mark.parametrize(
    ("asked", "schedule_type"),
    [
        ({"karras_sigmas": True}, "Karras"),
        ({"timestep_spacing": "trailing"}, "SGM Uniform"),
        ({"timestep_spacing": "ays"}, "Align Your Steps"),
        ({"timestep_spacing": "leading"}, "DDIM"),
        ({"karras_sigmas": False}, "Uniform"),
        ({}, "Automatic"),
    ],
)
def test_schedule_type_and_clip_skip_are_told_in_the_program_s_words(
    asked: dict, schedule_type: str, over: Generator, webui: WebUI, store
) -> None:
    (made,) = make(over, [Image("x", 1)], clip_skip=2, **asked)
    (body,) = webui.sent("txt2img")
    assert body["scheduler"] == schedule_type and body["override_settings"]["CLIP_stop_at_last_layers"] == 2
    text = Picture.open(io.BytesIO(store.get(made.artifact.digest))).text["parameters"]
    assert ("Schedule type" in text) == (schedule_type != "Automatic") and "Clip skip: 2" in text and "RNG" not in text
    assert schedule_type == "Automatic" or f"Schedule type: {schedule_type}, " in text


def test_an_older_program_refuses_what_it_has_no_word_for_and_leaves_out_what_nobody_asked(
    over: Generator, webui: WebUI, monkeypatch
) -> None:
    webui.schedulers = []
    for name, value in (("karras_sigmas", True), ("timestep_spacing", "ays")):
        with pytest.raises(Unimplemented, match="offers no schedule type") as caught:
            make(over, [Image("x", 1)], **{name: value})
        assert (caught.value.reason, caught.value.field) == ("BACKEND_FEATURE", name)
    distilled = settings_of_names(["x-lightning-4step"], NoiseSchedule())
    monkeypatch.setattr("konomi_generator.backends.webui.backend.settings_of_names", lambda *_names: distilled)
    make(over, [Image("x", 1)], steps=0)
    (body,) = webui.sent("txt2img")
    assert (body["scheduler"], body["sampler_name"], body["steps"], body["cfg_scale"]) == ("Automatic", "Euler", 4, 1.0)
    lcm = settings_of_names(["x-lcm"], NoiseSchedule())
    monkeypatch.setattr("konomi_generator.backends.webui.backend.settings_of_names", lambda *_names: lcm)
    make(over, [Image("x", 1)])
    assert webui.sent("txt2img")[1]["sampler_name"] == "Euler", "this program has no LCM"


def test_brackets_that_are_to_be_text_are_refused(over: Generator, webui: WebUI) -> None:
    make(over, [Image("a (cat:1.2)", 1), Image("a cat", 2)], negative_prompt="[blur]")
    make(over, [Image("a cat", 3)], prompt_syntax="plain")
    for prompt, negative, field in (("a (cat)", "", "images[0].prompt"), ("x", "a BREAK b", "negative_prompt")):
        with pytest.raises(Unimplemented, match="put a backslash before each bracket") as caught:
            make(over, [Image(prompt, 1)], prompt_syntax="plain", negative_prompt=negative)
        assert (caught.value.reason, caught.value.field) == ("BACKEND_FEATURE", field)
    assert len(webui.sent("txt2img")) == 3


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        ((500, {"error": "OutOfMemoryError", "errors": "CUDA out"}), ResourceExhausted, "DEVICE_MEMORY"),
        ((422, {"detail": [{"loc": ["body", "steps"], "msg": "wrong"}]}), FailedPrecondition, "SDAPI_REFUSED"),
        ((404, {"detail": "Not Found"}), FailedPrecondition, "SDAPI_REFUSED"),
        ((302, {}), FailedPrecondition, "SDAPI_REFUSED"),
        ((200, b"<html>"), Internal, "SDAPI_ANSWER"),
        ((200, {"images": [], "info": "{}"}), Internal, "SDAPI_ANSWER"),
        ((200, {"images": ["???"], "info": "{}"}), Internal, "SDAPI_ANSWER"),
        ((200, {"images": ["aGVsbG8="], "info": "nonsense"}), InvalidArgument, "IMAGE_TYPE"),
        ((200, [1]), Internal, "SDAPI_ANSWER"),
    ],
)
def test_whatever_the_program_answers_the_caller_gets_a_clear_error(
    answer: tuple, kind: type[KonomiError], reason: str, over: Generator, webui: WebUI
) -> None:
    webui.answer = answer
    assert refused(kind, over) == reason
    webui.answer = None
    assert make(over, [Image("x", 1)])[0].artifact is not None


def test_an_image_of_another_seed_or_size_is_not_taken(over: Generator, webui: WebUI) -> None:
    webui.shift = 1
    assert refused(Internal, over) == "SDAPI_ANSWER"
    webui.shift = 0
    webui.answer = (200, webui.images({**webui.sent("txt2img")[0], "width": 32}, from_picture=False))
    assert refused(Internal, over) == "SDAPI_ANSWER"


def test_a_program_that_is_not_there_is_unavailable(store) -> None:
    client, decoder = SdapiClient("http://127.0.0.1:9", 1.0), Decoder()
    generator = Generator(
        SdapiModels(client), store, SdapiBackend(client, decoder, None), decoder, writers=1, max_side=512
    )
    assert refused(Unavailable, generator) == "SDAPI_UNREACHABLE"
    generator.close()
    decoder.close()


def test_when_the_caller_leaves_the_program_is_told_to_stop(over: Generator, webui: WebUI) -> None:
    webui.seconds = 20.0
    gone = threading.Event()
    threading.Timer(0.5, gone.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        make(over, [Image("x", 1), Image("x", 2)], stopped=gone.is_set)
    assert time.monotonic() - began < 8 and webui.interrupted.is_set() and len(webui.sent("txt2img")) == 1


def asked_once(process: "subprocess.Popen[str]", home: Path) -> tuple[pb.GeneratedImage, list[pb.BaseModel]]:
    """Asks a role for an image and for its base models."""
    assert process.stdout is not None
    address = next(json.loads(line)["address"] for line in process.stdout if "address" in line)
    token = (home / "tokens" / "owner.token").read_text().strip()
    with grpc.insecure_channel(address) as channel:
        stub = generator_pb2_grpc.GeneratorServiceStub(channel)
        request = pb.GenerateImagesRequest(
            base_model=SD15, images=[pb.ImageRequest(prompt="x", seed=5)], width=64, height=64
        )
        options = {"metadata": (("authorization", f"Bearer {token}"),), "timeout": 60}
        (image,) = stub.GenerateImages(request, **options)
        return image, list(stub.ListBaseModels(pb.ListBaseModelsRequest(), **options).base_models)


def test_the_role_itself_serves_it_when_the_setting_says_so(webui: WebUI, tmp_path) -> None:
    (tmp_path / "konomi.toml").write_text(f'[generator]\nbackend = "sdapi"\nsdapi_url = "{webui.address}"\n')
    command = [sys.executable, "-m", "konomi_generator", "--home", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            image, listed = asked_once(process, tmp_path)
            process.terminate()
            assert process.wait(120) == 0
        finally:
            process.kill()
    assert len(image.artifact.digest) == 64 and webui.sent("txt2img")[0]["seed"] == 5
    assert [(model.id, model.format, model.layout) for model in listed][1] == (SD15, "sdapi", 0)
