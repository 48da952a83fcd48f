"""The slate of the long tail on the page: half likely, a third doubtful, the rest far; graded by the usual keys."""

import json
import uuid

import pytest

from konomi.client import connect_home
from konomi.v1 import rater_pb2 as rater
from tests.client.web.site import TASTE, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PARTS = {"SUGGESTION_REASON_EXPLOIT": 10, "SUGGESTION_REASON_UNCERTAIN": 7, "SUGGESTION_REASON_NOVEL": 3}
DRAWN = (
    "[...document.querySelectorAll('.slate .tile')]"
    ".map((e) => [e.dataset.reason, e.querySelector('img').src.slice(-64)])"
)
TOAST = "document.getElementById('toast').textContent"


def drawn(page) -> list[tuple[str, str]]:
    until(page, "document.querySelectorAll('.slate .tile').length === 20")
    return [(reason, digest) for reason, digest in page.evaluate(DRAWN)]


def grade(page, site, key: str) -> rater.Label:
    """Presses a key on the tile in focus and returns the label on record."""
    count = len(site.labels())
    page.keyboard.press(key)
    until(page, f"{TOAST} === {json.dumps({'5': 'UR', '2': 'R'}[key])}")
    record = site.labels()
    assert len(record) == count + 1
    return record[-1]


@pytest.fixture(scope="module")
def taught(site):
    """A taste with some grades of both kinds, so that there is something to expect."""
    with connect_home(site.home.root) as client:
        known = client.rater.list_images(taste=TASTE, page_size=8).images
        labels = [
            rater.Label(image_digest=image.digest, grade=rater.Grade.ValueType(1 + 4 * (place % 2)))
            for place, image in enumerate(known)
        ]
        client.rater.record_labels(taste=TASTE, labels=labels, request_id=str(uuid.uuid4()))


def test_a_slate_is_graded_by_the_usual_keys_and_its_bets_are_noted_before(site, visit, taught):
    page = visit("tail")
    slate = drawn(page)
    assert {reason: sum(one == reason for one, _ in slate) for reason in PARTS} == PARTS
    assert len({digest for _, digest in slate}) == 20
    with connect_home(site.home.root) as client:
        noted = client.rater.explore_novelty(taste=TASTE, count=1).discovery
    assert noted.registered > 0, "what is expected of the regions stands before a key is pressed"
    assert "expected" not in page.inner_text(".slate"), "and is not shown, so that it persuades nobody"

    page.keyboard.press("ArrowRight")
    first = grade(page, site, "5")
    assert (first.image_digest, first.reason) == (slate[1][1], rater.SUGGESTION_REASON_EXPLOIT)
    until(page, f"document.activeElement.querySelector('img').src.endsWith('{slate[2][1]}')")
    page.locator(".slate section").nth(2).locator(".tile").first.focus()
    far = grade(page, site, "2")
    assert (far.image_digest, far.reason) == (slate[17][1], rater.SUGGESTION_REASON_NOVEL)
    page.keyboard.press("z")
    until(page, f"{TOAST} === 'Undone'")
    assert site.labels()[-1].undoes == far.name
    page.keyboard.press("ArrowUp")
    until(page, "document.activeElement.dataset.reason === 'SUGGESTION_REASON_UNCERTAIN'")

    page.evaluate("location.hash = 'library'")
    page.wait_for_selector("[role=option]")
    page.evaluate("location.hash = 'tail'")
    assert drawn(page) == slate, "a slate stays until another is asked for"
    assert page.locator(".slate .chip").count() == 1
    page.get_by_role("button", name="Draw again").click()
    until(page, f"({DRAWN}).join() !== {json.dumps(','.join(f'{reason},{digest}' for reason, digest in slate))}")
    assert slate[1][1] not in [digest for _, digest in drawn(page)], "what is graded is not shown again"


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_slate_is_usable_by_everyone(visit, taught, language):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit("tail", language, "dark" if language == "en" else "light")
    drawn(page)
    assert {"en": "Probably yours", "ja": "おそらく好きなもの"}[language] in page.inner_text(".slate")
    found = axe.run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"][:160]) for one in found]
