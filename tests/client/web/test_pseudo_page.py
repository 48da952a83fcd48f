"""Every view in a made-up language, in a real browser: what is still English was never translated."""

import re
from collections.abc import Iterator

import pytest

from hatch_build import PAGE
from konomi.home import Home
from konomi.i18n import catalogue
from konomi.web.nights import NightEndpoints
from tests.client.i18n.pseudo import CLOSE, CODE, add_language
from tests.client.web import recorded
from tests.client.web.site import Site
from tests.client.web.test_views import READY, VIEWS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

SHOWN = """() => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walk.nextNode()) {
    const names = "#choose-language, #choose-taste, #map-unit";
    const skipped = walk.currentNode.parentElement.closest(`noscript, code, kbd, ${names}`);
    if (!skipped) texts.push(walk.currentNode.data);
  }
  for (const element of document.body.querySelectorAll("[aria-label], [title], [placeholder], img[alt]")) {
    for (const name of ["aria-label", "title", "placeholder", "alt"]) texts.push(element.getAttribute(name) ?? "");
  }
  return texts;
}"""
TRANSLATED = re.compile(r"⟦[^⟦⟧]*⟧")
WORD = re.compile(r"[A-Za-z]{2,}")
UNFILLED = re.compile(r"\{\w+\}")
NAMES = re.compile(
    r"unit-3 was promoted\."  # what the server's recorded answer says
    r"|\bkonomi\b|unit-\d+|\b(?:UR|SSR|SR)\b|\b(?:MB|kWh|LoRA)\b|longtail:2\+golden:1"  # names, units
    r"|\w{3} \d+, \d{4}, [\d:]+\s[AP]M"  # dates, which the browser writes
    r"|illustrated portraits only|\bsdxl\b"  # what the server says of a base
    r"|set \d+/IMG_\d+\.jpg|a picture|\bstarter\b|\bowner\b|[0-9a-f]{8,}"  # what an image says of itself
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    """A site of its own: in the worker's other tests leave prompts in English."""
    live = Site(tmp_path_factory.mktemp("pseudo"))
    live.start()
    try:
        live.fill(200)
        yield live
    finally:
        live.stop()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package with the made-up language, built as every other."""
    package = tmp_path_factory.mktemp("package")
    add_language(package)
    return package


@pytest.fixture
def systems(package, tmp_path, monkeypatch):
    """What the server says of the systems in the made-up language."""
    monkeypatch.setattr(catalogue, "FOLDER", package / "locale")
    return NightEndpoints(Home(tmp_path)).systems({"language": CODE})


def leftovers(page) -> set[str]:
    """Returns the texts of a page that hold a word of English, or a name that was not filled in."""
    found = set()
    for text in page.evaluate(SHOWN):
        rest = text.strip()
        while TRANSLATED.search(rest):  # a word may be filled into a sentence
            rest = TRANSLATED.sub("", rest)
        if WORD.search(NAMES.sub("", rest)) or UNFILLED.search(text):
            found.add(text.strip())
    return found


def offer(page, package, systems) -> None:
    """Lets a page find the made-up language where the real ones lie, and hear it from the server."""

    def answer(route):
        route.fulfill(path=package / PAGE / route.request.url.rpartition("/")[2])

    page.route("**/static/i18n/*.json", answer)
    page.route("**/konomi.page/NightSystems", lambda route: route.fulfill(json=systems))


def test_every_view_is_translated_and_filled(site, visit, package, systems):
    page = visit("rate", CODE, service_workers="block")
    offer(page, package, systems)
    recorded.play(page, site.fill(40, first=3000))
    page.reload()
    page.wait_for_selector(READY["rate"])
    found = {}
    for view in VIEWS:
        page.evaluate(f"location.hash = '{view}'")
        page.wait_for_selector(READY[view])
        page.wait_for_timeout(150)
        assert CLOSE in page.inner_text("main"), view
        found[view] = leftovers(page)
    page.evaluate("location.hash = 'rate'")
    page.wait_for_selector(READY["rate"])
    page.keyboard.press("4")
    page.wait_for_selector("#toast:not(:empty)")
    found["toast"] = leftovers(page)
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog .strip, dialog .small")
    found["detail"] = leftovers(page)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.wait_for_selector("dialog.keys")
    found["keys"] = leftovers(page)
    assert {view: texts for view, texts in found.items() if texts} == {}
