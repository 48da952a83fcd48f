"""The map on a live rater: points lead to grading, by mouse and keys; regions for who sees no picture; the file."""

import json
import os
import subprocess
import sys
import uuid

import pytest

from konomi.client import connect_home
from konomi.v1 import rater_pb2 as rater
from tests.client.web.site import ROOT, TASTE, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

DOTS = "document.querySelectorAll('svg.map circle.g1, svg.map circle.g2, svg.map circle.g3, svg.map circle.g4, "
DOTS += "svg.map circle.g5, svg.map circle.g0').length"
CHOSEN = "document.querySelector('.at-hand').dataset.digest"
PLACE = """(digest) => { const dot = [...document.querySelectorAll('svg.map g:nth-of-type(3) circle')][digest];
  const box = dot.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }"""


@pytest.fixture(scope="module")
def known(site) -> rater.ImageMap:
    """Grades and a rater, so that there is something to see."""
    with connect_home(site.home.root) as client:
        images = client.rater.list_images(taste=TASTE, page_size=40).images
        labels = [
            rater.Label(image_digest=image.digest, grade=rater.Grade.ValueType(1 + place % 5))
            for place, image in enumerate(images)
        ]
        client.rater.record_labels(taste=TASTE, labels=labels, request_id=str(uuid.uuid4()))
        list(client.rater.fit_rater(taste=TASTE, request_id=str(uuid.uuid4())))
        return client.rater.map_images(taste=TASTE)


def test_a_click_shows_the_picture_and_a_key_grades_it_and_goes_on_to_the_nearest(site, visit, known):
    page = visit("map", viewport={"width": 1280, "height": 900})
    until(page, f"{DOTS} === {len(known.points)}")
    place = next(at for at, point in enumerate(known.points) if not point.grade)
    page.locator("svg.map").scroll_into_view_if_needed()
    page.mouse.click(*page.evaluate(PLACE, place))
    until(page, f"Boolean({CHOSEN})")
    digest = page.evaluate(CHOSEN)
    assert page.get_attribute(".at-hand img", "src") == f"/thumb/{digest}"
    was = next(point for point in known.points if point.digest == digest)
    page.keyboard.press("5")
    until(page, "document.getElementById('toast').textContent.startsWith('UR')")
    last = site.labels()[-1]
    assert (last.image_digest, last.grade) == (digest, rater.GRADE_UR)
    following = page.evaluate(CHOSEN)
    assert following != digest
    graded = {point.digest for point in known.points if point.grade} | {digest}
    assert following not in graded
    page.keyboard.press("z")
    until(page, f"{CHOSEN} === {json.dumps(digest)}")
    assert site.labels()[-1].undoes == last.name
    pressed = page.locator(".at-hand .g[aria-pressed='true']").count()
    assert pressed == (1 if was.grade else 0), "it has the grade it had before"
    assert not page.evaluate("document.getElementById('toast').className.includes('bad')")


def test_the_arrow_keys_go_from_image_to_image_without_a_mouse(site, visit, known):
    page = visit("map")
    until(page, f"{DOTS} === {len(known.points)}")
    page.keyboard.press("ArrowRight")
    until(page, f"Boolean({CHOSEN})")
    x = {point.digest: point.x for point in known.points}
    before = page.evaluate(CHOSEN)
    middle = sorted(x.values())[len(x) // 2]
    step = "ArrowRight" if x[before] < middle else "ArrowLeft"
    page.keyboard.press(step)
    until(page, f"{CHOSEN} !== {json.dumps(before)}")
    after = page.evaluate(CHOSEN)
    assert (x[after] > x[before]) == (step == "ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog.detail .main-picture")
    assert page.get_attribute("dialog.detail .main-picture", "src") == f"/image/{after}"


def test_a_region_of_the_table_shows_its_pictures_which_lead_to_the_same(site, visit, known):
    page = visit("map")
    button = page.locator("[data-region]").first
    region = int(button.get_attribute("data-region"))
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    inside = {point.digest for point in known.points if point.region == region}
    strip = page.locator("[data-digest]:not(.at-hand)")
    shown = {strip.nth(place).get_attribute("data-digest") for place in range(strip.count())} - {None}
    assert shown <= inside and len(shown) == min(12, len(inside))
    faded = page.evaluate("document.querySelectorAll('svg.map .aside').length")
    assert faded == len(known.points) - len(inside)
    strip.first.click()
    until(page, f"{json.dumps(sorted(inside))}.includes({CHOSEN})")
    assert "region" in page.inner_text(".at-hand [role=status]")


@pytest.mark.parametrize(("language", "theme", "width"), [("en", "dark", 1280), ("ja", "light", 390)])
def test_it_is_usable_by_everyone_and_fits_a_phone(visit, known, language, theme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit("map", language, theme, viewport={"width": width, "height": 844})
    until(page, f"{DOTS} === {len(known.points)}")
    page.keyboard.press("ArrowRight")
    page.locator("[data-region]").first.click()
    page.wait_for_selector(".strip img")
    across = known.explained_variance[0]
    shown = {"en": f"shows {across:.0%} (across)", "ja": f"違いの {across:.0%}(横)"}[language].replace("%", " %")
    assert shown in page.inner_text(".sheet")
    found = axe.run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"][:160]) for one in found]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_empty_taste_and_one_without_grades_say_what_is_next(site, visit):
    with connect_home(site.home.root) as client:
        client.rater.ensure_taste("void")
    page = visit("map&taste=void")
    page.wait_for_selector("text=There is nothing to lay out yet.")
    assert page.locator("a[href='#add'].button:not(.plain)").count() == 1
    with connect_home(site.home.root) as client:
        image = client.rater.list_images(taste=TASTE, page_size=1).images[0]
        one = rater.Image(digest=image.digest, source=rater.SOURCE_IMPORTED)
        list(client.rater.add_images(iter([rater.AddImagesRequest(taste="tastes/void", image=one)])))
    page.reload()
    until(page, f"{DOTS} === 1")
    assert page.locator("svg.map circle.open").count() == 1
    page.keyboard.press("ArrowRight")
    until(page, f"{CHOSEN} === {json.dumps(image.digest)}")
    assert "not graded" in page.inner_text(".at-hand [role=status]")


def konomi(site, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"KONOMI_HOME": str(site.home.root), "LANG": "C.UTF-8"}
    command = [sys.executable, "-m", "konomi", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_says_it_writes_it_and_refuses_other_files(site, known, tmp_path):
    told = konomi(site, "map", "--count", "50", "--out", str(tmp_path / "map.svg"), "--json")
    assert told.returncode == 0, told.stderr
    reply = json.loads(told.stdout.splitlines()[-1])
    assert len(reply["points"]) == 50 and reply["left_out"] == reply["total_size"] - 50
    assert reply["points"][0].keys() >= {"digest", "x", "y", "grade", "utility", "std", "region"}
    drawn = (tmp_path / "map.svg").read_text()
    assert drawn.startswith("<svg") and drawn.count("<circle") > 50
    assert reply["points"][0]["digest"][:12] in drawn
    page = konomi(site, "--lang", "ja", "map", "--out", str(tmp_path / "map.html"))
    assert page.returncode == 0, page.stderr
    html = (tmp_path / "map.html").read_text()
    assert "data:image/webp" in html and "領域" in html and "http:" not in html.replace("http://www.w3.org", "")
    assert "違い" in page.stdout
    for words in (["map", "--out", "map.png"], ["map", "--count", "5001"]):
        wrong = konomi(site, *words)
        assert wrong.returncode == 2
    assert "expected a file that ends in .svg or .html, got map.png" in konomi(site, "map", "--out", "map.png").stderr
    none = konomi(site, "map", "--taste", "nobody")
    assert none.returncode == 1 and "there is no taste nobody here" in none.stderr
