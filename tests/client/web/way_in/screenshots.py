"""Screenshots of the documentation, made by the test of the whole way where it is told to.

`KONOMI_SCREENSHOTS=docs/screenshots .venv/bin/python -m pytest tests/client/web/way_in/test_whole_way.py` makes all of
them anew of what a real night looks like on the page, in both languages where the docs show them in both; without it
the test makes none.
"""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from konomi.client import connect_home
from konomi.home import Home
from konomi.night.records.queue import NightQueue
from konomi.v1 import rater_pb2 as rater
from konomi.web.auth import link
from tests.client.web.site import until

FOLDER = os.environ.get("KONOMI_SCREENSHOTS", "")
LANGUAGES = {"en": "", "ja": "-ja"}
"""Language to the ending of a file's name."""
ENGLISH = ("en",)
"""Of the views no page of the docs shows."""
WIDTH, PHONE = 960, 390
LOADED = "image.complete || image.loading === 'lazy'"
SETTLED = 400
"""Milliseconds after the last picture has come, in which it is painted."""


def shoot(
    browser: Any,
    home: Home,
    name: str,
    view: str,
    ready: str,
    height: int = 600,
    *,
    width: int = WIDTH,
    act: Callable[[Any], None] | None = None,
    languages: Sequence[str] = tuple(LANGUAGES),
) -> None:
    """Opens a view in a fresh browser in some languages and saves what is seen of it, where screenshots are asked for.

    Args:
        browser: a browser of playwright.
        home: the home whose page it is.
        name: of the file, without language and ending.
        view: the view, as it stands in the address.
        ready: selector of what has to be there first.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        act: what a person does there before the picture is taken.
        languages: of the page.
    """
    if not FOLDER:
        return
    for language in languages:
        context = browser.new_context(viewport={"width": width, "height": height}, service_workers="block")
        context.add_init_script(f"localStorage.setItem('konomi.language', '{language}')")
        page = context.new_page()
        page.goto(link(home, view))
        page.wait_for_selector(ready)
        page.wait_for_load_state("networkidle")
        if act is not None:
            act(page)
            page.wait_for_load_state("networkidle")
        until(page, f"[...document.images].every((image) => {LOADED})")
        page.wait_for_timeout(SETTLED)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        picture.save(Path(FOLDER) / f"{name}{LANGUAGES[language]}.png", optimize=True)
        context.close()


def open_report(night: str) -> Callable[[Any], None]:
    """Returns what opens the report of a night in the language of the page."""

    def act(page: Any) -> None:
        language = page.evaluate("document.documentElement.lang")
        page.goto(f"{page.url.partition('#')[0]}report/{night}")
        page.locator(f"label[for=speak-{language}]").click()

    return act


def press(key: str, ready: str) -> Callable[[Any], None]:
    """Returns what presses a key and waits for what it opens."""

    def act(page: Any) -> None:
        page.keyboard.press(key)
        page.wait_for_selector(ready)

    return act


def choose(count: int) -> Callable[[Any], None]:
    """Returns what chooses the first images of the library by keys."""

    def act(page: Any) -> None:
        page.keyboard.press("m")
        for _ in range(count - 1):
            page.keyboard.press("Shift+ArrowRight")
        page.wait_for_selector(".chosen:not([hidden])")

    return act


def filtered(page: Any) -> None:
    """Shows the favourites that are graded SSR or UR, with all filters open."""
    for name in ("SSR", "UR"):
        page.locator(f".filters .toggle[aria-label={name}]").first.click()
    page.click("#by-favourite")
    if not page.locator("details.more[open]").count():
        page.click("details.more summary")
    page.wait_for_selector(".star:not([hidden])")


def scroll_to(selector: str) -> Callable[[Any], None]:
    """Returns what brings a part of a view to the top of the window."""

    def act(page: Any) -> None:
        page.evaluate("selector => document.querySelector(selector).scrollIntoView()", selector)

    return act


def keep_some(home: Home) -> None:
    """Makes what is graded SSR or UR favourites, and lets three nights wait their turn."""
    liked = rater.ImageFilter(grades=[rater.GRADE_SSR, rater.GRADE_UR])
    with connect_home(home.root) as client:
        found = client.rater.list_images(taste="tastes/default", filter=liked, page_size=20).images
        digests = [image.digest for image in found]
        client.rater.set_favourites(taste="tastes/default", digests=digests, favourite=True)
    for words in (("converge", "--units", "2"), ("golden",), ("longtail", "--images", "64")):
        NightQueue(home.root).add(words, home.root)
