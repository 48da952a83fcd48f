"""The queue of nights on the page: filled by the form, put in order, taken from, without a fault for anybody (axe)."""

import json

import pytest

from konomi.night.records.queue import NightQueue, QueueState
from tests.client.stand_in import wait_until
from tests.client.web import recorded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

NIGHTS = {
    "a": ("converge", "--taste", "default"),
    "b": ("golden", "--taste", "cats", "--base", "sdxl"),
    "c": ("longtail",),
}


FIRST = "document.querySelector('.queue [data-queue^=↓]')?.dataset.queue"
WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? "" :
  [...document.querySelectorAll("body *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth && !one.closest(".scroll, nav"))
  .map((one) => `${one.tagName} ${one.className} ${one.textContent.slice(0, 40)}`).join("; ") || "a text"
"""
"""What is wider than the screen; empty where nothing is."""


@pytest.fixture
def queue(site):
    """The site's own queue with three nights that wait and one that ended."""
    kept = NightQueue(site.home.root)
    kept.add(("converge",), site.home.root, "z")
    kept.note("z", QueueState.HALTED, 5)
    for id, words in NIGHTS.items():
        kept.add(words, site.home.root, id)
    yield kept
    for night in kept.nights():
        kept.remove(night.id)


def waiting(queue) -> list[str]:
    return [night.id for night in queue.waiting()]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_nights_that_wait_are_shown_moved_and_taken_out(visit, queue, language):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit("night", language, strict=False)
    page.wait_for_selector(".queue tr")
    rows = page.locator(".queue tr").all_inner_texts()
    assert len(rows) == 4 and "cats" in rows[2] and "sdxl" in rows[2]
    assert "golden --taste cats --base sdxl" in rows[2], "what tells it from another night of its system"
    assert "longtail" not in rows[3], "and nothing where its name says all"
    assert ("halted" if language == "en" else "中止") in rows[0]
    assert axe.run(page).response["violations"] == []
    page.locator("[data-queue='↓-a']").click()
    assert wait_until(lambda: waiting(queue) == ["b", "a", "c"])
    assert wait_until(lambda: page.evaluate(FIRST) == "↓-b"), "the page shows the new order"
    assert wait_until(lambda: page.evaluate("document.activeElement?.dataset?.queue") == "↓-a"), "and keeps the focus"
    page.keyboard.press("Enter")
    assert wait_until(lambda: waiting(queue) == ["b", "c", "a"])
    page.locator("[data-queue='↑-c']").click()
    assert wait_until(lambda: waiting(queue) == ["c", "b", "a"])
    page.wait_for_selector("[data-queue='↑-c'][disabled]")
    page.locator("[data-queue='✕-b']").click()
    assert wait_until(lambda: waiting(queue) == ["c", "a"])
    page.set_viewport_size({"width": 390, "height": 844})
    assert wait_until(lambda: page.evaluate(WIDE) == ""), page.evaluate(WIDE)


def test_what_a_night_would_refuse_is_said_as_it_is_added(visit, queue):
    """On this site only rater and page run."""
    page = visit("night", strict=False)
    page.locator("button", has_text="Add to the queue").click()
    page.wait_for_selector(".told .verdict")
    assert "not of a generator" in page.inner_text(".told") and len(waiting(queue)) == 3


def test_what_was_added_is_said_with_its_place(visit, queue):
    page = visit("night", strict=False)
    nights = [{"id": "q", "state": "waiting", "system": "converge", "taste": "default", "base": "", "said": "converge"}]
    answer = json.dumps({"nights": nights, "runs": False})
    page.route("**/konomi.page/NightQueueAdd", recorded.spoken(answer))
    page.locator("button", has_text="Add to the queue").click()
    page.wait_for_selector("[data-queue='✕-q']")
    assert "waits at place 1" in page.inner_text(".told")


def test_while_a_night_runs_another_can_only_wait(visit, queue, site):
    digests = site.fill(40, first=3000)
    page = visit("rate", service_workers="block")
    recorded.play(page, digests)
    page.route("**/konomi.page/NightStatus", recorded.spoken(json.dumps(recorded.under_way(digests, 12))))
    page.evaluate("location.hash = 'night'")
    page.locator("summary", has_text="Let another night wait its turn").click()
    assert page.locator("button", has_text="Add to the queue").is_visible()
    assert page.locator("button.primary", has_text="Start the night").count() == 0
