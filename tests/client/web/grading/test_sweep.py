"""The sweep of the view Grade: N or not, without a pause; what counts as saved is on record, silence grades nothing."""

import json

import pytest

from konomi.client import connect_home
from konomi.v1 import rater_pb2 as rater
from tests.client.web.site import TASTE, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

AT = "document.getElementById('main').dataset.digest"
RECORD = "**/konomi.v1.RaterService/RecordLabels"
COUNT = "document.querySelector('.sweep .count').textContent"


@pytest.fixture(scope="module")
def unseen(site) -> list[str]:
    """Pictures nobody graded."""
    return site.fill(60, prompts=[f"swept {n}" for n in range(60)], first=9000)


def press(page, key: str) -> str:
    """Presses a key once the image is on the screen, and returns the digest it was about."""
    until(page, "!document.querySelector('.frame').hasAttribute('aria-busy')")
    before = page.evaluate(AT)
    page.keyboard.press(key)
    until(page, f"{AT} !== {json.dumps(before)}")
    return before


def graded(site) -> dict[str, int]:
    return {label.image_digest: label.grade for label in site.labels(in_force=True)}


def test_two_keys_sweep_and_only_what_was_said_is_graded(site, visit, unseen):
    before = graded(site)
    page = visit("rate")
    page.wait_for_selector(".frame img")
    page.keyboard.press("s")
    page.wait_for_selector(".sweep .frame img")
    assert "nothing is graded by silence" in page.inner_text(".sweep")
    page.wait_for_timeout(800)
    assert graded(site) == before, "looking grades nothing"
    said = {press(page, key): key for key in ["1", "1", " ", "1", "4", " ", "1"]}
    until(page, f"{COUNT} === '5 graded and saved · 2 left for later'")
    after = {digest: grade for digest, grade in graded(site).items() if digest not in before}
    assert after == {digest: int(key) for digest, key in said.items() if key != " "}
    page.keyboard.press("z")
    last = list(said)[-1]
    until(page, f"{AT} === {json.dumps(last)}")
    until(page, f"{COUNT} === '4 graded and saved · 2 left for later'")
    assert last not in graded(site)
    kept = [digest for digest, key in said.items() if key == " "]
    page.keyboard.press("z"), page.wait_for_timeout(300)
    assert page.evaluate(AT) == kept[-1], "what was left comes back too, without a label"
    page.keyboard.press("Escape")
    page.wait_for_selector(".rate:not(.sweep) .frame img")
    with connect_home(site.home.root) as client:
        assert not any(client.rater.get_image(taste=TASTE, digest=digest).grade for digest in kept)


def test_what_is_refused_comes_back_and_is_not_counted(site, visit, unseen):
    page = visit("rate/sweep", strict=False, service_workers="block")
    page.wait_for_selector(".sweep .frame img")
    before = graded(site)
    refusal = json.dumps({"code": "failed_precondition", "message": "not now"})
    page.route(
        RECORD,
        lambda route: route.fulfill(status=400, body=refusal, content_type="application/json"),
    )
    page.wait_for_timeout(300)
    digest = page.evaluate(AT)
    page.keyboard.press("1")
    until(page, "document.getElementById('toast').className.includes('bad')")
    assert "1 images came back" in page.evaluate("document.getElementById('toast').textContent")
    until(page, f"{AT} === {json.dumps(digest)}")
    assert page.evaluate(COUNT).startswith("0 graded and saved")
    assert graded(site) == before


def test_a_slow_disk_holds_up_no_key_and_nothing_counts_before_it_answers(site, visit, unseen):
    page = visit("rate/sweep", strict=False, service_workers="block")
    page.wait_for_selector(".sweep .frame img")
    before, held = graded(site), []
    page.route(RECORD, lambda route: held.append(route))
    digests = [press(page, "1") for _ in range(5)]
    assert len(set(digests)) == 5
    assert page.evaluate(COUNT) == "0 graded and saved · 5 on the way · 0 left for later"
    assert graded(site) == before
    page.keyboard.press("z")
    until(page, f"{COUNT} === '0 graded and saved · 4 on the way · 0 left for later'")
    held[0].continue_()
    until(page, f"{COUNT} === '1 graded and saved · 3 on the way · 0 left for later'")
    assert graded(site).keys() - before.keys() == {digests[0]}
    assert len(held) == 2, "what came meanwhile goes together"
    held[1].continue_()
    until(page, f"{COUNT} === '4 graded and saved · 0 left for later'")
    new = {digest: grade for digest, grade in graded(site).items() if digest not in before}
    assert new == dict.fromkeys(digests[:4], rater.GRADE_N), "the one taken back before it was sent was never graded"


@pytest.mark.parametrize(("language", "width"), [("en", 1280), ("ja", 390)])
def test_it_is_usable_by_everyone_and_fits_a_phone(visit, unseen, language, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit("rate/sweep", language, "dark", viewport={"width": width, "height": 844}, reduced_motion="reduce")
    page.wait_for_selector(".sweep .frame img")
    found = axe.run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"][:160]) for one in found]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    before = page.evaluate(AT)
    page.wait_for_timeout(100)
    page.locator("[data-act=sweep_keep]").click()
    until(page, f"{AT} !== {json.dumps(before)}")


@pytest.mark.parametrize(("width", "height"), [(960, 600), (1280, 720), (1440, 900)])
def test_the_way_back_is_in_sight_without_scrolling(visit, unseen, width, height):
    page = visit("rate/sweep", viewport={"width": width, "height": height})
    page.wait_for_selector(".sweep .frame img")
    until(page, "!document.querySelector('.frame').hasAttribute('aria-busy')")
    tools, picture = (page.locator(one).bounding_box() for one in (".sweep [data-tool=undo]", ".sweep .frame img"))
    assert tools["y"] + tools["height"] <= height, "undo is under the picture, not under the window"
    assert picture["height"] >= 144
