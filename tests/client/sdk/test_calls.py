"""Every kind of rpc against a live server: types, deadlines, request ids, errors of unary calls and of streams."""

import json
import threading
import typing

import grpc
import pytest

from konomi.client import calls, channel, connect, services
from konomi.errors import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from konomi.v1 import artifact_pb2
from konomi.v1 import rater_pb2 as rater

CLIENTS = [services.ArtifactClient, services.RaterClient, services.GeneratorClient, services.TrainerClient]


@pytest.mark.parametrize("client_class", CLIENTS)
def test_declared_types_are_those_of_the_contract(client_class):
    hints = {name: hint for name, hint in typing.get_type_hints(client_class).items() if typing.get_origin(hint)}
    hints = {name: hint for name, hint in hints.items() if typing.get_origin(hint) is not typing.ClassVar}
    methods = {calls.snake(method.name): method for method in client_class.descriptor.methods}
    assert hints.keys() == methods.keys()
    for name, method in methods.items():
        request, reply = typing.get_args(hints[name])
        assert typing.get_origin(hints[name]) is calls.kind_of(method)
        assert request.DESCRIPTOR is method.input_type
        assert reply.DESCRIPTOR is method.output_type


def test_every_deadline_names_an_rpc():
    names = {method.name for service in channel.services() for method in service.methods}
    assert calls.DEADLINES.keys() <= names


def test_keywords_and_messages_are_the_same(client):
    created = client.rater.create_taste(taste_id="mine")
    assert created == client.rater.get_taste(rater.GetTasteRequest(name="tastes/mine"))


def test_unknown_keyword_is_an_invalid_argument(client):
    with pytest.raises(InvalidArgument, match="takes the fields name"):
        client.rater.get_taste(nom="tastes/mine")
    with pytest.raises(InvalidArgument, match="takes the fields"):
        client.rater.suggest_images(count="many")
    with pytest.raises(InvalidArgument, match="not both"):
        client.rater.get_taste(rater.GetTasteRequest(), name="tastes/mine")


def test_unary_errors_carry_reason_and_field(client):
    with pytest.raises(NotFound) as caught:
        client.rater.get_taste(name="tastes/nobody")
    assert (caught.value.reason, caught.value.message) == ("NO_TASTE", "no taste tastes/nobody")
    put = artifact_pb2.PutArtifactRequest(header=artifact_pb2.PutArtifactHeader(media_type="x/y", digest="0" * 64))
    with pytest.raises(InvalidArgument) as refused:
        client.artifacts.put_artifact([put])
    assert refused.value.field == "header.digest"


def test_server_stream_raises_while_it_is_read(client):
    stream = client.rater.fit_rater(taste="tastes/default")
    with pytest.raises(FailedPrecondition) as caught:
        list(stream)
    assert caught.value.reason == "TOO_FEW_LABELS"


def test_bidi_stream_yields_then_raises(client):
    stream = client.rater.score_image_stream(rater.ScoreImageStreamRequest(key=key) for key in ("a", "b"))
    assert next(stream).key == "a"
    assert next(stream).key == "b"
    with pytest.raises(InvalidArgument) as caught:
        next(stream)
    assert (caught.value.reason, caught.value.field) == ("BAD_END", "image")


def test_exception_of_the_requests_comes_back(client):
    def requests():
        yield rater.ScoreImageStreamRequest(key="a")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(client.rater.score_image_stream(requests()))
    with pytest.raises(OSError, match="the disk is gone"):
        client.artifacts.put_artifact(item for item in requests())


def test_request_id_is_filled_in_once(client, stand_in, png):
    client.rater.ensure_taste()
    digest = client.artifacts.put(png(1), "image/png").digest
    list(client.rater.add_images([rater.AddImagesRequest(image=rater.Image(digest=digest))]))
    request = rater.RecordLabelsRequest(taste="tastes/default", labels=[rater.Label(image_digest=digest, grade=5)])
    client.rater.record_labels(request)
    client.rater.record_labels(request)
    assert request.request_id == ""  # the caller's message is not touched
    assert len(stand_in.rater.requests) == 2
    client.rater.record_labels(taste="tastes/default", request_id="same", labels=request.labels)
    with pytest.raises(AlreadyExists):
        client.rater.record_labels(taste="tastes/default", request_id="same")


def test_not_served_is_unimplemented(client):
    with pytest.raises(Unimplemented):
        client.trainer.merge_models(names=["models/a", "models/b"])


def test_unavailable_is_retried_on_idempotent_methods(client, stand_in):
    client.rater.ensure_taste()
    stand_in.rater.calls.clear()
    stand_in.rater.failures = 3
    assert client.rater.get_taste(name="tastes/default").name == "tastes/default"
    assert len(stand_in.rater.calls) == 4


@pytest.mark.slow
def test_retries_end(client, stand_in):
    stand_in.rater.failures = 100
    with pytest.raises(Unavailable):
        client.rater.get_taste(name="tastes/default")
    assert 1 < len(stand_in.rater.calls) <= 5


def test_only_idempotent_methods_are_retried():
    methods = {method.name: method for service in channel.services() for method in service.methods}
    retried = {name for name, method in methods.items() if channel.is_idempotent(method)}
    assert {"GetTaste", "ScoreImages", "RecordLabels", "PutArtifact", "CreateTrainingRun"} <= retried
    for name in retried - {"PutArtifact", "AddImages"}:
        reads = name.startswith(channel.READS)
        assert reads or "request_id" in methods[name].input_type.fields_by_name


def test_grpc_itself_retries_no_stream_of_requests():
    """It would replay them; where the server dies at the wrong moment one is lost, or the stream never ends."""
    (policy,) = json.loads(channel.service_config())["methodConfig"]
    methods = {method.name: method for service in channel.services() for method in service.methods}
    retried = {name["method"] for name in policy["name"]}
    assert "GetTaste" in retried and "RecordLabels" in retried
    assert not [name for name in retried if methods[name].client_streaming]


def additions(client, png, count: int) -> list[rater.AddImagesRequest]:
    digests = [client.artifacts.put(png(number), "image/png").digest for number in range(count)]
    return [rater.AddImagesRequest(image=rater.Image(digest=digest)) for digest in digests]


@pytest.mark.slow
def test_a_sequence_of_requests_is_sent_again_whole(client, stand_in, png):
    requests = additions(client, png, 4)
    stand_in.rater.failures = 3
    replies = client.rater.add_images.exchange(requests)
    assert [reply.digest for reply in replies] == [request.image.digest for request in requests]
    assert stand_in.rater.failures == 0
    stand_in.artifacts.failures = 3
    assert client.artifacts.put(b"bytes", "text/plain").digest


@pytest.mark.slow
def test_a_stream_that_stays_away_is_unavailable(client, stand_in, png):
    requests = additions(client, png, 1)
    stand_in.rater.failures = 100
    with pytest.raises(Unavailable):
        client.rater.add_images.exchange(requests)
    assert stand_in.rater.failures == 100 - channel.ATTEMPTS


@pytest.mark.slow
def test_a_stream_that_ends_short_is_no_answer(client, stand_in, png):
    requests = additions(client, png, 3)
    stand_in.rater.short = 2
    assert len(client.rater.add_images.exchange(requests)) == 3
    stand_in.rater.short = 100
    with pytest.raises(Unavailable, match="AddImages answered 2 of 3 requests; try again") as caught:
        client.rater.add_images.exchange(requests)
    assert caught.value.reason == "CUT_SHORT"


def test_a_deadline_is_always_sent(client, stand_in):
    client.rater.ensure_taste()
    client.rater.get_taste(name="tastes/default")
    client.rater.get_taste(name="tastes/default", timeout=5.0)
    default, own = stand_in.rater.deadlines[-2:]
    assert 10 < default < calls.DEFAULT_SECONDS + 1
    assert 0 < own < 6


def test_deadline_exceeded(client, stand_in):
    stand_in.rater.delay = 1.0
    with pytest.raises(DeadlineExceeded):
        client.rater.get_taste(name="tastes/none", timeout=0.2)


def test_leaving_a_stream_cancels_it(client):
    with client.generator.generate_images(images=[]) as stream:
        assert next(stream).index == 0
    with pytest.raises(Cancelled):
        for _ in stream:
            continue


@pytest.mark.slow
def test_nothing_listening_says_what_to_do():
    with connect("127.0.0.1:1") as client, pytest.raises(Unavailable) as caught:
        client.rater.list_tastes(timeout=5.0)
    assert caught.value.reason == "UNREACHABLE"
    assert "konomi up" in caught.value.message
    assert "127.0.0.1:1" in caught.value.message


def test_threads_may_share_a_client(client):
    client.rater.ensure_taste()
    failures = []

    def work():
        try:
            for _ in range(20):
                client.rater.get_taste(name="tastes/default")
        except grpc.RpcError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
