"""What stands for an image whose pixels are gone: a plain picture on the page and in a report, never an error."""

import asyncio
import base64
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from konomi.errors import NotFound
from konomi.night.report.thumbnails import Thumbnails
from konomi.web.images import ImageEndpoints

DIGEST = "ab" * 32


def gone(reason):
    def get(digest):
        raise NotFound(f"The pixels of {digest} are gone.", reason=reason)

    return get


def asked(endpoint):
    scope = {"type": "http", "path_params": {"digest": DIGEST}, "headers": [], "query_string": b"", "path": "/"}
    return asyncio.run(endpoint(Request(scope)))


@pytest.mark.parametrize("size", ["image", "thumb", "small"])
@pytest.mark.parametrize("reason", ["ARTIFACT_COLLECTED", "ARTIFACT_REVOKED"])
def test_the_page_shows_a_plain_picture_it_does_not_keep(tmp_path, size, reason):
    client = SimpleNamespace(artifacts=SimpleNamespace(get=gone(reason)))
    endpoints = ImageEndpoints(lambda: client, tmp_path)
    try:
        answer = asked(getattr(endpoints, size))
    finally:
        endpoints.close()
    assert (answer.status_code, answer.media_type) == (404, "image/svg+xml")
    assert b"<svg" in answer.body and b"collected" in answer.body
    assert answer.headers["cache-control"] == "no-store" and "sandbox" in answer.headers["content-security-policy"]
    assert not list(tmp_path.rglob("*.webp"))


def test_an_artifact_nobody_ever_had_is_still_an_error(tmp_path):
    client = SimpleNamespace(artifacts=SimpleNamespace(get=gone("ARTIFACT_NOT_FOUND")))
    endpoints = ImageEndpoints(lambda: client, tmp_path)
    try:
        answer = asked(endpoints.image)
    finally:
        endpoints.close()
    assert answer.status_code == 404 and answer.media_type != "image/svg+xml"


def test_a_report_is_drawn_without_them():
    url = Thumbnails(gone("ARTIFACT_COLLECTED")).url(DIGEST)
    kind, _, data = url.partition(",")
    assert kind == "data:image/svg+xml;base64" and base64.b64decode(data).startswith(b"<svg")
