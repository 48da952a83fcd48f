"""Calls that take a stream of messages, over Connect-JSON: read whole, bounded, then relayed."""

import base64
import hashlib
import json
import struct
import urllib.error
import urllib.request

import pytest

from konomi.web.connect import MAX_REQUESTS
from tests.client.web.site import TASTE, picture

ADD, PUT = "RaterService/AddImages", "ArtifactService/PutArtifact"


def ask(site, method, *messages):
    """Sends messages and returns the answers, the last of them what ended the stream."""
    data = b"".join(b"\0" + struct.pack(">I", len(raw)) + raw for raw in (json.dumps(one).encode() for one in messages))
    headers = {
        "Content-Type": "application/connect+json",
        "Authorization": f"Bearer {site.home.token_file.read_text().strip()}",
    }
    request = urllib.request.Request(f"{site.address}/konomi.v1.{method}", data, headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        body = reply.read()
    answers = []
    while body:
        size = struct.unpack_from(">BI", body)[1]
        answers.append(json.loads(body[5 : 5 + size] or b"{}"))
        body = body[5 + size :]
    return answers


@pytest.mark.slow
def test_a_picture_is_put_and_added_by_plain_http(site):
    data = picture(4711)
    digest = hashlib.sha256(data).hexdigest()
    chunk = {"chunk": base64.b64encode(data).decode()}
    artifact, end = ask(site, PUT, {"header": {"mediaType": "image/png", "digest": digest}}, chunk)
    assert (artifact["digest"], end) == (digest, {})
    image = {"taste": TASTE, "image": {"digest": digest, "source": "SOURCE_IMPORTED"}}
    nowhere = {"image": {"digest": "0" * 64, "source": "SOURCE_IMPORTED"}}
    first, second, end = ask(site, ADD, image, nowhere)
    assert (first, end) == ({"digest": digest}, {})
    assert second["digest"] == "0" * 64 and second["error"]["code"]


@pytest.mark.slow
def test_messages_are_bounded_and_refused_whole(site):
    (end,) = ask(site, ADD, *([{"taste": TASTE}] * (MAX_REQUESTS + 1)))
    assert end["error"]["code"] == "invalid_argument"
    assert end["error"]["message"] == "expected at most 1000 requests of 24 MiB together in a call, got more"
    (end,) = ask(site, PUT, {"header": {"mediaType": "image/png"}}, {"chunk": 5})
    assert end["error"]["code"] == "invalid_argument"
    assert "expected the JSON of PutArtifactRequest" in end["error"]["message"]


@pytest.mark.slow
def test_without_a_token_no_stream_is_read(site):
    request = urllib.request.Request(
        f"{site.address}/konomi.v1.{ADD}", b"\0\0\0\0\2{}", {"Content-Type": "application/connect+json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 403
