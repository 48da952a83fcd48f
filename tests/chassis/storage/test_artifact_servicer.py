"""ArtifactService on a socket: chunks in, chunks out, clear errors."""

import hashlib
import os

import pytest

from konomi.errors import DataLoss, InvalidArgument, KonomiError, NotFound
from konomi.v1 import artifact_pb2
from tests.chassis.conftest import Recorder

PUT, GET = "/konomi.v1.ArtifactService/PutArtifact", "/konomi.v1.ArtifactService/GetArtifact"
DATA = os.urandom(2_500_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


def header(**fields):
    return artifact_pb2.PutArtifactRequest(
        header=artifact_pb2.PutArtifactHeader(**({"media_type": "image/png"} | fields))
    )


def chunk(data):
    return artifact_pb2.PutArtifactRequest(chunk=data)


def chunks(data):
    return [chunk(data[start : start + 1_000_000]) for start in range(0, len(data), 1_000_000)]


@pytest.fixture
def caller(serve, owner):
    return owner(serve(Recorder()))


def get(caller, digest):
    answers = caller.call(GET, artifact_pb2.GetArtifactRequest(digest=digest))
    return [artifact_pb2.GetArtifactResponse.FromString(answer) for answer in answers]


def test_upload_and_download(caller):
    stored = artifact_pb2.Artifact.FromString(caller.call(PUT, header(digest=DIGEST), *chunks(DATA))[0])
    assert (stored.digest, stored.media_type, stored.size_bytes) == (DIGEST, "image/png", len(DATA))
    answers = get(caller, DIGEST)
    assert answers[0].artifact == stored
    assert all(not answer.HasField("artifact") and len(answer.chunk) <= 1 << 20 for answer in answers[1:])
    assert b"".join(answer.chunk for answer in answers) == DATA


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "header"),
        ([chunk(b"x")], "header"),
        ([header(), header()], "chunk"),
        ([header(), chunk(b"x" * (1 << 20) + b"x")], "chunk"),
        ([header(media_type="")], "header.media_type"),
        ([header(digest="nonsense")], "header.digest"),
        ([header(digest="0" * 64), chunk(b"x")], "header.digest"),
        ([header(request_id="7")], "header.request_id"),
    ],
)
def test_malformed_uploads_name_the_field(caller, store, messages, field):
    with pytest.raises(InvalidArgument) as caught:
        caller.call(PUT, *messages)
    assert caught.value.field == field
    assert list(store.digests()) == []


def test_unknown_and_malformed_digests(caller):
    with pytest.raises(NotFound):
        get(caller, "0" * 64)
    with pytest.raises(InvalidArgument):
        get(caller, "../../tokens/owner.token")


def test_damaged_bytes_end_the_stream_with_data_loss(caller, store, home):
    store.put(DATA, "image/png")
    path = home / "artifacts" / DIGEST[:2] / DIGEST
    path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(DataLoss, match=DIGEST):
        get(caller, DIGEST)


def test_an_upload_that_breaks_off_leaves_nothing(caller, store, home):
    def broken():
        yield header().SerializeToString()
        yield chunk(b"x" * 100).SerializeToString()
        raise RuntimeError("the client fell over")

    method = caller.channel.stream_unary(PUT)
    with pytest.raises(Exception, match=r".*"):
        method(broken(), metadata=caller.metadata, timeout=10)
    assert list(store.digests()) == []


def test_a_full_disk_reaches_the_caller_and_the_server_lives(caller, monkeypatch):
    monkeypatch.setenv("KONOMI_FAILPOINT", "artifact.write=enospc")
    with pytest.raises(KonomiError) as caught:
        caller.call(PUT, header(), chunk(b"x"))
    assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "DISK_FULL")
    monkeypatch.delenv("KONOMI_FAILPOINT")
    assert caller.call(PUT, header(), chunk(b"x"))
