"""What stands for an image whose pixels are gone: a plain tile on the page and in a report, never an error."""

import asyncio
import base64
import os
import uuid
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from konomi.client import connect_home
from konomi.errors import NotFound
from konomi.night.report.thumbnails import Thumbnails
from konomi.web.images import ImageEndpoints
from tests.client.web.site import TASTE, Site, until

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
def test_the_page_shows_a_plain_tile_it_does_not_keep(tmp_path, size, reason):
    client = SimpleNamespace(artifacts=SimpleNamespace(get=gone(reason)))
    endpoints = ImageEndpoints(lambda: client, tmp_path)
    try:
        answer = asked(getattr(endpoints, size))
    finally:
        endpoints.close()
    assert (answer.status_code, answer.media_type) == (404, "image/svg+xml")
    assert answer.body.startswith(b"<svg")
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
    url = Thumbnails(gone("ARTIFACT_COLLECTED")).picture(DIGEST).url
    kind, _, data = url.partition(",")
    assert kind == "data:image/svg+xml;base64" and base64.b64decode(data).startswith(b"<svg")


@pytest.fixture(scope="module")
def emptied(tmp_path_factory):
    """A page over ten images with pixels, and six of a night whose pixels the rater collected."""
    live = Site(tmp_path_factory.mktemp("emptied"))
    live.start()
    try:
        live.fill(10)
        with connect_home(live.home.root) as client:
            digests = live.fill(6, unit="unit-1", first=500, night="night-1")
            for digest in digests:
                os.utime(live.home.root / "artifacts" / digest[:2] / digest, (0, 0))
            done = client.rater.collect_images(taste=TASTE, rejected_seconds=0.001, request_id=str(uuid.uuid4()))
            assert done.count == len(digests)
        yield SimpleNamespace(site=live, digests=digests)
    finally:
        live.stop()


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize(("language", "words"), [("en", "no longer stored"), ("ja", "保存なし")])
def test_the_library_shows_a_tile_for_each_and_its_detail_says_why(emptied, chromium, language, words):
    complaints: list[str] = []
    context = chromium.new_context()
    context.add_init_script(f"localStorage.setItem('konomi.language', '{language}')")
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(emptied.site.link("library"))
    until(page, "document.querySelectorAll('[role=option] img:not([hidden])').length === 16")
    cells = page.locator(f"[role=option][aria-label*='{words}']")
    assert cells.count() == 6
    for _ in range(2):  # from the server, and again from whatever the browser kept
        assert all(cells.nth(place).locator("img").evaluate("img => img.naturalWidth") > 0 for place in range(6))
        page.reload()
        until(page, "document.querySelectorAll('[role=option] img:not([hidden])').length === 16")
    cells.first.dblclick()
    note = page.locator("dialog .look + p + p")
    note.wait_for()
    assert (
        note.text_content()
        == {
            "en": "This image is no longer stored: the storage policy let it go. What is known of it stays.",
            "ja": "この画像は保管の方針により、もう保存されていません。画像についての記録は残っています。",
        }[language]
    )
    until(page, "document.querySelector('dialog .main-picture').naturalWidth > 0")
    context.close()
    assert not complaints


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("view", ["rate", "pair", "pick"])
def test_no_view_asks_for_a_grade_of_one(emptied, chromium, view):
    context = chromium.new_context()
    page = context.new_page()
    asked_for: list[str] = []
    page.on("request", lambda request: asked_for.append(request.url))
    page.goto(emptied.site.link(view))
    page.wait_for_selector({"rate": ".frame img", "pair": ".side img", "pick": ".nine img"}[view])
    page.wait_for_timeout(1000)
    context.close()
    pictures = [url for url in asked_for if "/image/" in url or "/thumb/" in url]
    assert pictures and not any(digest in url for url in pictures for digest in emptied.digests)
