"""Several images of the library: chosen, graded and undone together, by keys, mouse and thumb; filters in the URL."""

import json
import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from konomi.client import connect_home
from tests.client.web.site import ROOT, TASTE, until

FIRST = "[role=option] img:not([hidden])"
CELLS = (
    "[...document.querySelectorAll('[role=option]:not([hidden])')].sort((a, b) => a.index - b.index)"
    ".map((cell) => cell.digest)"
)
CHOSEN = "document.querySelectorAll('[role=option][aria-checked=true]:not([hidden])').length"


@pytest.fixture(scope="module")
def own(site) -> list[str]:
    """Pictures of their own, so that what is graded here is nobody else's."""
    return site.fill(12, prompts=[f"choosing {n}" for n in range(12)], unit="chosen-unit", first=7000)


def opened(visit, address: str = "library/by/prompt=choosing", count: int = 12, **options):
    page = visit("library", **options)
    page.wait_for_selector(FIRST)
    page.evaluate(f"location.hash = '{address}'")
    until(page, f"document.querySelector('[role=option]:not([hidden])')?.getAttribute('aria-setsize') === '{count}'")
    page.wait_for_selector(FIRST)
    page.locator(".scroller").focus()
    return page


def grades(site, digests: list[str]) -> list[int]:
    with connect_home(site.home.root) as client:
        return [client.rater.get_image(taste=TASTE, digest=digest).grade for digest in digests]


def in_order(page) -> list[str]:
    return list(page.evaluate(CELLS))


def test_keys_choose_several_grade_them_together_and_undo_all_of_it(site, visit, own):
    page = opened(visit)
    shown = in_order(page)
    page.keyboard.press("m")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    until(page, f"{CHOSEN} === 4")
    assert page.locator(".chosen.filters [role=status]").inner_text() == "4 images chosen"
    page.keyboard.press("4")
    until(page, "document.getElementById('toast').textContent === 'SSR · 4 images; z undoes all of it'")
    assert grades(site, shown[:5]) == [4, 4, 4, 4, 0]
    until(page, f"{CHOSEN} === 0 && document.querySelector('.chosen.filters').hidden")
    page.keyboard.press("z")
    until(page, "document.getElementById('toast').textContent === 'Undone'")
    assert grades(site, shown[:5]) == [0] * 5
    page.keyboard.press("2")
    until(page, "document.getElementById('toast').textContent === 'R'")
    assert sum(grade == 2 for grade in grades(site, shown)) == 1, "with none chosen a key grades the one it is at"
    page.keyboard.press("z")
    until(page, "document.getElementById('toast').textContent === 'Undone'")
    page.keyboard.press("m")
    page.keyboard.press("Escape")
    until(page, f"{CHOSEN} === 0")


def test_the_mouse_chooses_a_stretch_and_single_ones(site, visit, own):
    page = opened(visit)
    cells = page.locator("[role=option]:not([hidden])")
    by_place = {int(cells.nth(n).get_attribute("aria-posinset")): n for n in range(cells.count())}
    cells.nth(by_place[2]).click()
    cells.nth(by_place[5]).click(modifiers=["Shift"])
    until(page, f"{CHOSEN} === 4")
    cells.nth(by_place[3]).click(modifiers=["Control"])
    cells.nth(by_place[8]).click(modifiers=["Control"])
    until(page, f"{CHOSEN} === 4")
    page.get_by_role("button", name="Grade all UR").click()
    until(page, "document.getElementById('toast').textContent.startsWith('UR · 4 images')")
    shown = in_order(page)
    assert [n + 1 for n, grade in enumerate(grades(site, shown)) if grade == 5] == [2, 4, 5, 8]
    page.locator(".scroller").focus()
    page.keyboard.press("z")
    until(page, "document.getElementById('toast').textContent === 'Undone'")
    assert grades(site, shown) == [0] * 12


def test_on_a_phone_a_tap_chooses_and_nothing_is_wider_than_the_screen(site, visit, own):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(visit, viewport={"width": 390, "height": 780}, has_touch=True)
    page.get_by_role("button", name="Choose several").tap()
    for place in (0, 1, 2):
        page.locator("[role=option]:not([hidden])").nth(place).tap()
    until(page, f"{CHOSEN} === 3")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    boxes = page.locator(".chosen.filters button").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().height)"
    )
    assert min(boxes) >= 44, boxes
    assert not [(one["id"], one["nodes"][0]["html"]) for one in axe.run(page).response["violations"]]
    page.get_by_role("button", name="Choose none").tap()
    until(page, f"{CHOSEN} === 0")


def test_filters_stand_in_the_address_and_come_back_from_it(site, visit, own):
    page = opened(visit)
    page.select_option("#by-order", "create_time")
    page.get_by_role("button", name="Not graded", exact=True).click()
    until(page, "location.hash.includes('grades=0') && location.hash.includes('order=create_time')")
    words = urlsplit(page.url).fragment
    oldest_first = json.dumps(own)
    until(page, f"JSON.stringify({CELLS}) === JSON.stringify({oldest_first})")  # no longer those of the order before
    shown = in_order(page)
    page.reload()
    page.wait_for_selector(FIRST)
    until(page, "document.querySelector('[role=option]:not([hidden])').getAttribute('aria-setsize') === '12'")
    assert urlsplit(page.url).fragment == words and in_order(page) == shown
    assert page.input_value("#by-prompt") == "choosing" and page.input_value("#by-order") == "create_time"
    page.evaluate("location.hash = 'taste'")
    page.wait_for_selector(".card, .sheet p")
    page.go_back()
    page.wait_for_selector(FIRST)
    assert urlsplit(page.url).fragment == words, "the way back leads to the same images"
    page.evaluate("location.hash = 'library/by/grades=9,x&order=evil&score=%3Cb%3E&constructor=1'")
    page.wait_for_selector(FIRST)
    assert page.input_value("#by-order") == "create_time desc", "what this page never wrote is passed over"


def test_favourites_are_kept_and_prompt_digest_and_file_are_copied_and_downloaded(site, visit, own):
    page = opened(visit, permissions=["clipboard-read", "clipboard-write"])
    digest = in_order(page)[0]
    page.keyboard.press("f")
    until(page, "document.getElementById('toast').textContent.startsWith('Added to the favourites')")
    page.locator("#by-favourite").click()
    until(page, "document.querySelector('[role=option]:not([hidden])').getAttribute('aria-setsize') === '1'")
    page.reload()
    page.wait_for_selector(FIRST)
    assert in_order(page) == [digest] and "favourites=1" in page.url
    page.locator(".scroller").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Copy the digest").click()
    until(page, "document.getElementById('toast').textContent.startsWith('Copied: ')")
    assert page.evaluate("navigator.clipboard.readText()") == digest
    page.get_by_role("button", name="Copy the prompt").click()
    until(page, "document.getElementById('toast').textContent.startsWith('Copied: choosing')")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    with connect_home(site.home.root) as client:
        assert download.value.path().read_bytes() == client.artifacts.get(digest)
        kept = client.rater.list_favourites(taste=TASTE).favourites
    assert [one.image_digest for one in kept] == [digest], "with the taste, not in the browser"
    page.get_by_role("button", name="★ Favourite").click()
    page.wait_for_selector("dialog button[aria-pressed='false']:has-text('★')")
    page.locator("dialog .closing button").click()
    page.locator("#by-favourite").click()
    page.locator("#by-favourite").click()
    until(page, "document.querySelector('.found [role=status]').textContent.startsWith('No image fits')")


def test_what_a_browser_kept_before_is_brought_over_once_and_seen_by_every_other(site, visit, own):
    kept = own[:3]
    page = visit("rate")
    stored = json.dumps([*kept, "0" * 64, "no digest"])
    page.evaluate("(text) => localStorage.setItem('konomi.favourites.tastes/default', text)", stored)
    page.evaluate("location.hash = 'library/by/favourites=1&prompt=choosing'")
    until(page, "document.querySelector('[role=option]:not([hidden])')?.getAttribute('aria-setsize') === '3'")
    assert page.evaluate("localStorage.getItem('konomi.favourites.tastes/default')") is None
    assert set(in_order(page)) == set(kept)
    other = opened(visit, "library/by/favourites=1", 3)
    assert set(in_order(other)) == set(kept), "another browser has them too"
    other.keyboard.press("f")
    until(other, "document.getElementById('toast').textContent.startsWith('Taken off')")
    page.reload()
    until(page, "document.querySelector('[role=option]:not([hidden])')?.getAttribute('aria-setsize') === '2'")
    environment = os.environ | {"KONOMI_HOME": str(site.home.root)}
    command = [sys.executable, "-m", "konomi", "explore", "--favourites", "--json"]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    reply = json.loads(told.stdout.splitlines()[-1])
    assert reply["total"] == 2 and {image["digest"] for image in reply["images"]} < set(kept)
    wrong = subprocess.run(
        [*command, "--skip", "3"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2 and "--favourites goes with --count and --save alone" in wrong.stderr
