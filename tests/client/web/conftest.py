"""Fixtures of the page's tests: one live site a worker, one Chromium a module, pages that know how to enter."""

from collections.abc import Iterator

import pytest

from tests.client.web.site import CHROMIUM, Site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running page over two hundred pictures, one a worker, because a rater takes seconds to start."""
    live = Site(tmp_path_factory.mktemp("page"))
    live.start()
    try:
        live.fill(200)
        yield live
    finally:
        live.stop()


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium; its driver occupies the thread's event loop, so it ends with the module."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(site, chromium):
    """Returns what opens a view in a fresh browser; every error it shows fails the test."""
    contexts, complaints = [], []

    def note(words: str) -> None:
        if not any(
            one in words for one in ("Failed to load", "TrainerService", "konomi.page/Explain")
        ):  # no trainer runs
            complaints.append(words)

    def go(view: str = "rate", language: str = "en", theme: str = "light", *, strict: bool = True, **options):
        context = chromium.new_context(**options)
        context.add_init_script(
            f"localStorage.setItem('konomi.language', '{language}'); localStorage.setItem('konomi.theme', '{theme}')"
        )
        contexts.append(context)
        page = context.new_page()
        if strict:
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda m: note(m.text) if m.type == "error" else None)
            page.on("response", lambda r: note(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.goto(site.link(view))
        page.wait_for_selector("main :not(.quiet)")
        return page

    yield go
    for context in contexts:
        context.close()
    assert not complaints
