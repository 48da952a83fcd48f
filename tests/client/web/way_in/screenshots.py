"""Screenshots of the documentation, made by the test of the whole way where it is told to.

`KONOMI_SCREENSHOTS=docs/screenshots .venv/bin/python -m pytest tests/client/web/way_in/test_whole_way.py` makes all of
them anew, in both languages, of what a real night looks like on the page; without it the test makes none.
"""

import os
from pathlib import Path
from typing import Any

from konomi.home import Home
from konomi.web.auth import link

FOLDER = os.environ.get("KONOMI_SCREENSHOTS", "")
LANGUAGES = {"en": "", "ja": "-ja"}
WIDTH = 960


def shoot(browser: Any, home: Home, name: str, view: str, ready: str, height: int = 600) -> None:
    """Opens a view in a fresh browser in each language and saves what is seen of it, where screenshots are asked for.

    Args:
        browser: a browser of playwright.
        home: the home whose page it is.
        name: of the file, without language and ending.
        view: the view, as it stands in the address.
        ready: selector of what has to be there first.
        height: of the picture, in pixels.
    """
    if not FOLDER:
        return
    for language, ending in LANGUAGES.items():
        context = browser.new_context(viewport={"width": WIDTH, "height": height}, service_workers="block")
        context.add_init_script(f"localStorage.setItem('konomi.language', '{language}')")
        page = context.new_page()
        page.goto(link(home, view))
        page.wait_for_selector(ready)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=str(Path(FOLDER) / f"{name}{ending}.png"))
        context.close()
