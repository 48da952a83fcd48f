"""What a reader meets: nothing in the way of closing, nothing squeezed, and refusals in their own language."""

import re

import pytest

from konomi.client import connect_home
from konomi.v1 import rater_pb2 as rater
from tests.client.web.grading.test_grading import shown
from tests.client.web.site import until
from tests.client.web.way_in.test_first_steps import taste

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

IN_SIGHT = """(words) => {
  const box = [...document.querySelectorAll(words)].at(-1).getBoundingClientRect();
  return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth;
}"""
SIZES = [(1440, 900), (720, 450), (390, 844)]
JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_dialog_is_closed_by_a_button_that_is_in_sight(visit, width, height):
    page = visit("rate", viewport={"width": width, "height": height})
    shown(page)
    for opener, dialog in (("Enter", "dialog.detail"), ("?", "dialog.keys")):
        page.keyboard.press(opener)
        page.wait_for_selector(f"{dialog} button.primary")
        if opener == "Enter":
            page.wait_for_selector(f"{dialog} .facts code")
        assert page.evaluate(IN_SIGHT, f"{dialog} .closing button.primary")
        page.locator(f"{dialog} .closing button.primary").click()
        until(page, f"!document.querySelector('{dialog}')")


def test_an_empty_view_says_its_next_step_once_and_in_the_middle(site, visit):
    page = visit(taste(site, "bare").replace("rate", "pick"))
    page.wait_for_selector(".nine .next a")
    row, empty = (page.locator(one).bounding_box() for one in (".nine", ".nine > .empty"))
    assert empty["width"] > 0.9 * row["width"], "it is not squeezed into one of three columns"
    page.evaluate("location.hash = 'rate'")
    page.wait_for_selector(".rate .next a")
    assert "konomi import" not in page.inner_text(".rate"), "on the page pictures are added on the page"


def test_the_view_in_use_is_in_sight_among_the_views_of_a_phone(visit):
    page = visit("lineage", viewport={"width": 390, "height": 844})
    assert page.evaluate(IN_SIGHT, "nav [aria-current]")


def test_a_refusal_of_the_rater_is_told_in_the_language_of_the_page(site, visit):
    view = taste(site, "hasty").replace("rate", "taste")
    with connect_home(site.home.root) as client:
        known = list(client.rater.list_images(taste="tastes/default", page_size=1).images)
        image = rater.Image(digest=known[0].digest, source=rater.SOURCE_SELF, unit="base")
        list(client.rater.add_images([rater.AddImagesRequest(taste="tastes/hasty", image=image)]))
        label = rater.Label(image_digest=image.digest, grade=rater.GRADE_UR)
        client.rater.record_labels(taste="tastes/hasty", labels=[label])
    page = visit(view, "ja", strict=False)
    page.locator("button.primary").first.click()
    until(page, "document.querySelector('p[role=status]')?.textContent.includes('うまくいきませんでした')")
    told = page.inner_text("p[role=status]")
    assert "10 組以上" in told and "RecordLabels" not in told and "expected" not in told


def test_no_space_stands_between_a_sentence_and_a_japanese_name(visit):
    page = visit("rate", "ja")
    words = page.evaluate(
        """async () => {
          const { t } = await import("/static/i18n/i18n.js");
          const said = (against) => t("blind_lead", { against, unit: "unit-3" });
          return [said("元のモデル"), said("unit-1")];
        }"""
    )
    assert words[0].startswith("元のモデルか unit-3 か") and words[1].startswith("unit-1 か unit-3 か")
    assert all(JAPANESE.search(one) for one in words)
