"""The generator on a real socket: images stream, carry their record, stop when cancelled, fail in words."""

import io
import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from PIL import Image

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError, NotFound, ResourceExhausted, from_rpc_error
from konomi.v1 import generator_pb2 as pb
from konomi.v1.generator_pb2_grpc import GeneratorServiceStub, add_GeneratorServiceServicer_to_server
from konomi_chassis.server import ServedService, start
from konomi_chassis.settings import ServerSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.generator import Generator
from konomi_generator.rules import RULES
from konomi_generator.servicer import GeneratorServicer
from tests.generator import tiny_models
from tests.generator.backends.diffusers.test_adapters import lora

LONG = 120.0


class Calls:
    """The service's stub with the owner's token and konomi's errors."""

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self.stub = GeneratorServiceStub(channel)
        self.options = {"metadata": (("authorization", f"Bearer {token}"),), "timeout": LONG}

    def generate(self, prompts: list[tuple[str, int]], **fields: object) -> list[pb.GeneratedImage]:
        images = [pb.ImageRequest(prompt=prompt, seed=seed) for prompt, seed in prompts]
        return self.send(pb.GenerateImagesRequest(images=images, **fields))

    def send(self, request: pb.GenerateImagesRequest) -> list[pb.GeneratedImage]:
        try:
            return sorted(self.stub.GenerateImages(request, **self.options), key=lambda image: image.index)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def refused(self, request: pb.GenerateImagesRequest, kind: type[KonomiError], reason: str) -> KonomiError:
        with pytest.raises(kind) as caught:
            self.send(request)
        assert caught.value.reason == reason
        return caught.value


@pytest.fixture(scope="module")
def calls(home: Path, store: ArtifactStore, generator: Generator) -> Iterator[Calls]:
    """A server over the tiny home, and calls to it."""
    service = ServedService(
        "konomi.v1.GeneratorService", add_GeneratorServiceServicer_to_server, GeneratorServicer(generator), RULES
    )
    server = start("generator", [service], ServerSettings(home=home), store)
    with grpc.insecure_channel(server.address) as channel:
        yield Calls(channel, (home / "tokens" / "owner.token").read_text().strip())
    assert server.stop(5.0)


def one(**fields: object) -> pb.GenerateImagesRequest:
    """A request for one image of the starter in two steps."""
    return pb.GenerateImagesRequest(**({"images": [pb.ImageRequest(prompt="x", seed=1)], "steps": 2} | fields))


def test_images_come_stored_with_their_record(calls: Calls, store: ArtifactStore) -> None:
    found = calls.generate(
        [("a {hair} cat", 1), ("a dog", 2), ("a dog", 3)],
        steps=2,
        negative_prompt="blur",
        unit="base",
        night="n1",
        wildcards={"hair": pb.Words(words=["red"])},
    )
    assert [(i.index, i.prompt, i.seed) for i in found] == [(0, "a red cat", 1), (1, "a dog", 2), (2, "a dog", 3)]
    assert len({i.artifact.digest for i in found}) == 3 and all(i.seconds > 0 for i in found)
    picture = Image.open(io.BytesIO(store.get(found[0].artifact.digest)))
    assert picture.size == (64, 64) and found[0].artifact.media_type == "image/png"
    record = json.loads(picture.text["konomi"])
    assert (record["prompt"], record["seed"], record["steps"], record["guidance_scale"]) == ("a red cat", 1, 2, 4.0)
    assert (record["unit"], record["night"], record["base_model"]) == ("base", "n1", "starter")
    assert record["scheduler"] == "DPMSolverMultistepScheduler" and len(record["base_digest"]) == 64
    assert picture.text["parameters"].startswith("a red cat\nNegative prompt: blur\nSteps: 2, Sampler: DPM++ 2M")
    again = calls.generate([("a dog", 3)], steps=2, negative_prompt="blur", unit="base", night="n1")
    assert again[0].artifact.digest == found[2].artifact.digest


def test_base_models_are_listed_and_inspected(calls: Calls) -> None:
    answer = calls.stub.ListBaseModels(pb.ListBaseModelsRequest(), **calls.options)
    listed = answer.base_models
    assert answer.places == 1, "it draws itself"
    assert [m.id for m in listed] == ["sd1", "sd1-file", "sd2", "sd2-file", "sdxl", "sdxl-file", "starter"]
    model = calls.stub.InspectModel(pb.InspectModelRequest(id="sdxl"), **calls.options)
    assert (model.layout, model.format, model.resolution) == (pb.MODEL_LAYOUT_SDXL, "diffusers", 64)
    assert model.parameters["text_encoder_2"] > 0 and len(model.digest) == 64
    memory = model.memory
    assert (memory.device, memory.fit) == ("cpu", pb.NIGHT_FIT_WHOLE), "a tiny model fits everywhere"
    assert [need.service for need in memory.needs] == ["generator", "trainer", "rater"]
    assert memory.device_bytes > memory.peak_bytes >= memory.least_bytes > 0
    assert not listed[0].HasField("memory")


def test_image_to_image_names_its_parent_and_keeps_what_strength_leaves(calls: Calls, store: ArtifactStore) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(buffer, "PNG")
    parent = store.put(buffer.getvalue(), "image/png").digest
    images = [pb.ImageRequest(prompt="x", seed=4, init_digest=parent, strength=s) for s in (0.0, 0.5, 1.0)]
    images.append(pb.ImageRequest(prompt="x", seed=4))
    found = calls.send(pb.GenerateImagesRequest(images=images, steps=4))
    assert [list(i.parents) for i in found] == [[parent]] * 3 + [[]]
    assert len({i.artifact.digest for i in found}) == 4
    alone = calls.send(pb.GenerateImagesRequest(images=images[1:2], steps=4))
    assert alone[0].artifact.digest == found[1].artifact.digest
    text = Image.open(io.BytesIO(store.get(found[1].artifact.digest))).text
    assert json.loads(text["konomi"])["parents"] == [parent] and "Denoising strength: 0.5" in text["parameters"]


def test_one_unreadable_picture_fails_alone(calls: Calls, store: ArtifactStore) -> None:
    bad = store.put(b"\x89PNG\r\n\x1a\nnothing", "image/png").digest
    images = [pb.ImageRequest(prompt="x", seed=1, init_digest=digest) for digest in (bad, "0" * 64)]
    images.append(pb.ImageRequest(prompt="x", seed=1))
    found = calls.send(pb.GenerateImagesRequest(images=images, steps=2))
    assert [i.error.reason for i in found] == ["IMAGE_UNREADABLE", "ARTIFACT_NOT_FOUND", ""]
    assert [i.error.code for i in found] == [3, 5, 0] and found[2].artifact.digest


def test_adapters_change_images_and_leave_no_trace(calls: Calls, store: ArtifactStore) -> None:
    adapter = store.put(lora(9), "application/vnd.konomi.adapter+safetensors").digest
    plain = calls.send(one())[0]
    used = calls.send(one(adapters=[pb.Adapter(digest=adapter)]))[0]
    half = calls.send(one(adapters=[pb.Adapter(digest=adapter, scale=0.5)]))[0]
    assert len({plain.artifact.digest, used.artifact.digest, half.artifact.digest}) == 3
    assert list(used.parents) == [adapter]
    record = json.loads(Image.open(io.BytesIO(store.get(half.artifact.digest))).text["konomi"])
    assert record["adapters"] == [{"digest": adapter, "scale": 0.5}]
    assert calls.send(one())[0].artifact.digest == plain.artifact.digest
    assert calls.send(one(adapters=[pb.Adapter(digest=adapter)]))[0].artifact.digest == used.artifact.digest


def test_refusals_have_the_right_status_and_the_server_stays_up(calls: Calls, store: ArtifactStore) -> None:
    good = calls.send(one())[0].artifact.digest
    calls.refused(one(base_model="nowhere"), NotFound, "MODEL_MISSING")
    calls.refused(one(base_model="../x"), InvalidArgument, "FIELD_INVALID")
    calls.refused(one(scheduler="EvilScheduler"), InvalidArgument, "SCHEDULER")
    calls.refused(one(width=100), InvalidArgument, "FIELD_INVALID")
    calls.refused(one(width=8), InvalidArgument, "SIZE")
    calls.refused(one(images=[]), InvalidArgument, "FIELD_INVALID")
    calls.refused(one(adapters=[pb.Adapter(digest="0" * 64)]), NotFound, "ADAPTER_NOT_FOUND")
    superseded = store.put(lora(5), "application/vnd.konomi.adapter+safetensors").digest
    store.discard([superseded], None)
    calls.refused(one(adapters=[pb.Adapter(digest=superseded)]), NotFound, "ARTIFACT_COLLECTED")
    calls.refused(one(wildcards={"a": pb.Words()}), InvalidArgument, "WILDCARD")
    pickled = store.put(b"\x80\x04K\x01.", "application/octet-stream").digest
    calls.refused(one(adapters=[pb.Adapter(digest=pickled)]), FailedPrecondition, "UNSAFE_FORMAT")
    missing = calls.refused(one(draft=True), FailedPrecondition, "DRAFT_ADAPTER_MISSING")
    assert "models/few_step" in missing.message
    prompt = pb.ImagePrompt(digests=[good])
    calls.refused(one(image_prompt=prompt), FailedPrecondition, "IMAGE_PROMPT_ADAPTER_MISSING")
    calls.refused(one(draft=True, guide_from_base=True), InvalidArgument, "DRAFT")
    other = store.put(lora(1, unet=tiny_models.sd1().unet), "a/b").digest
    calls.refused(one(adapters=[pb.Adapter(digest=other)]), FailedPrecondition, "ADAPTER_MISMATCH")
    assert calls.send(one())[0].artifact.digest == good


def test_images_stream_before_the_last_is_made(calls: Calls, generator: Generator, monkeypatch) -> None:
    """The last of three batches is not begun before the caller has an image of the first."""
    first = pb.GenerateImagesRequest(images=[pb.ImageRequest(prompt="x", seed=0)], steps=1)
    assert len(list(calls.stub.GenerateImages(first, **calls.options))) == 1  # the model is loaded by now
    denoiser, came, waits = generator._backend._denoiser, threading.Event(), []
    plain, steps = denoiser.pipe.unet.forward, itertools.count(1)

    def gated(*args: object, **kwargs: object) -> object:
        if next(steps) > 16:
            waits.append(came.wait(30))
        return plain(*args, **kwargs)

    monkeypatch.setattr(denoiser.pipe.unet, "forward", gated)
    images = [pb.ImageRequest(prompt="x", seed=seed) for seed in range(12)]
    stream = calls.stub.GenerateImages(pb.GenerateImagesRequest(images=images, steps=8, batch_size=4), **calls.options)
    seconds = []
    for image in stream:
        came.set()
        seconds.append(image.seconds)
    assert waits and all(waits)
    assert len(seconds) == 12 and min(seconds) < max(seconds)


def test_cancel_stops_within_a_denoising_step(calls: Calls, generator: Generator, monkeypatch) -> None:
    steps: list[float] = []
    denoiser = generator._backend._denoiser
    plain = denoiser.pipe.unet.forward

    def counted(*args: object, **kwargs: object) -> object:
        steps.append(time.monotonic())
        time.sleep(0.05)
        return plain(*args, **kwargs)

    monkeypatch.setattr(denoiser.pipe.unet, "forward", counted)
    images = [pb.ImageRequest(prompt="x", seed=seed) for seed in range(64)]
    stream = calls.stub.GenerateImages(pb.GenerateImagesRequest(images=images, steps=200), **calls.options)
    while len(steps) < 3:
        time.sleep(0.01)
    stream.cancel()
    cancelled = time.monotonic()
    time.sleep(0.5)
    assert sum(moment > cancelled for moment in steps) <= 2
    while not generator._turn.acquire(timeout=1):
        continue
    generator._turn.release()
    monkeypatch.undo()
    assert calls.send(one())[0].artifact.digest


def test_two_requests_at_once_take_turns_and_stay_right(calls: Calls) -> None:
    alone = [calls.generate([("x", 1), ("y", 2)], steps=2), calls.generate([("x", 1)], steps=3)]
    requests = [
        pb.GenerateImagesRequest(images=[pb.ImageRequest(prompt=p, seed=s) for p, s in images], steps=steps)
        for images, steps in (([("x", 1), ("y", 2)], 2), ([("x", 1)], 3))
    ]
    streams = [calls.stub.GenerateImages(request, **calls.options) for request in requests]
    for stream, expected in zip(streams, alone, strict=True):
        found = {image.index: image.artifact.digest for image in stream}
        assert found == {image.index: image.artifact.digest for image in expected}


def test_a_request_draws_while_the_last_images_of_another_are_written(
    calls: Calls, generator: Generator, store: ArtifactStore, monkeypatch
) -> None:
    first, free, plain = threading.Event(), threading.Event(), store.put

    def slow_once(*arguments: object, **more: object) -> object:
        if not first.is_set():
            first.set()
            assert free.wait(60)
        return plain(*arguments, **more)

    monkeypatch.setattr(generator._store, "put", slow_once)
    try:
        slow = calls.stub.GenerateImages(one(), **calls.options)
        assert first.wait(60), "its image is drawn, and a slow store takes its time"
        assert calls.send(one())[0].artifact.digest, "the device was free meanwhile"
    finally:
        free.set()
    assert [image.artifact.digest for image in slow] == [calls.send(one())[0].artifact.digest]


def test_weighted_words_base_share_and_annealing_come_over_the_wire(calls: Calls, store: ArtifactStore) -> None:
    words = {"hair": pb.Words(words=["red", "blue"], weights=[0, 1])}
    (image,) = calls.generate([("a {hair} cat", 1)], steps=2, wildcards=words)
    assert image.prompt == "a blue cat"
    adapter = store.put(lora(9), "application/vnd.konomi.adapter+safetensors").digest
    plain = calls.send(one())[0].artifact.digest
    given = {"adapters": [pb.Adapter(digest=adapter)]}
    assert calls.send(one(base_share=1.0, **given))[0].artifact.digest != plain  # the record names the adapter
    texts = {}
    for name, fields in {
        "adapted": given,
        "mixed": given | {"base_share": 0.5},
        "annealed": {"condition_annealing": pb.ConditionAnnealing(noise_scale=1.5, clean_below=0.0)},
    }.items():
        data = store.get(calls.send(one(**fields))[0].artifact.digest)
        picture = Image.open(io.BytesIO(data))
        texts[name] = json.loads(picture.text["konomi"]) | {"pixels": picture.tobytes()}
    assert len({text["pixels"] for text in texts.values()}) == 3
    assert texts["mixed"]["base_share"] == 0.5 and "base_share" not in texts["adapted"]
    assert texts["annealed"]["condition_annealing"]["noise_scale"] == 1.5
    wrong = pb.ConditionAnnealing(clean_below=0.9, noise_above=0.5)
    calls.refused(one(condition_annealing=wrong), InvalidArgument, "ANNEALING")
    calls.refused(one(base_share=1.5), InvalidArgument, "FIELD_INVALID")
    bad = {"a": pb.Words(words=["x", "y"], weights=[1])}
    calls.refused(one(wildcards=bad), InvalidArgument, "WILDCARD")


def test_previews_stream_before_their_image(calls: Calls) -> None:
    request = pb.GenerateImagesRequest(images=[pb.ImageRequest(prompt="x", seed=1)], steps=6, preview_every=2)
    found = list(calls.stub.GenerateImages(request, **calls.options))
    assert [image.preview.step for image in found] == [2, 4, 0]
    assert Image.open(io.BytesIO(found[0].preview.png)).size == (64, 64) and not found[0].HasField("artifact")
    assert found[2].artifact.digest == calls.send(one(steps=6))[0].artifact.digest and not found[2].concessions
    calls.refused(
        one(base_model="sd1", width=64, height=64, preview_every=1), FailedPrecondition, "PREVIEW_DECODER_MISSING"
    )


def test_memory_is_released_over_the_wire_and_the_next_request_has_the_same_bits(calls: Calls) -> None:
    digest = calls.send(one())[0].artifact.digest
    first = calls.stub.ReleaseMemory(pb.ReleaseMemoryRequest(), **calls.options)
    again = calls.stub.ReleaseMemory(pb.ReleaseMemoryRequest(), **calls.options)
    assert first.released_bytes > 100_000 and not first.busy and (again.released_bytes, again.busy) == (0, False)
    assert calls.send(one())[0].artifact.digest == digest


def test_a_shortage_is_resource_exhausted_over_the_wire(calls: Calls, generator: Generator, monkeypatch) -> None:
    calls.send(one())

    def short(*_args: object, **_kwargs: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(generator._backend._denoiser.pipe.unet, "forward", short)
    calls.refused(one(), ResourceExhausted, "DEVICE_MEMORY")
    monkeypatch.undo()
    assert calls.send(one())[0].artifact.digest
