"""The whole way without a shell: an empty home, forty pictures, thirty grades, a night, its report and blind verdict.

Everything is real: `konomi up` with its services, the bundled starter, a browser. The night is the smallest that comes
to its morning, so the guards that weigh what a unit is worth are left out: of sixteen images nobody could say it.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from konomi.client import Client, connect_home
from konomi.home import Home
from konomi.night.guards import NAMES
from konomi.taste import prompts as written
from konomi.v1 import generator_pb2 as generator
from konomi.web.auth import link
from tests.client.web.grading.test_grading import press, shown
from tests.client.web.site import until
from tests.client.web.way_in import screenshots
from tests.client.web.way_in.screenshots import FOLDER, PHONE, shoot
from tests.client.web.way_in.test_first_steps import NOW, SUM, drop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(560)]

SMALL = {
    "KONOMI_NIGHT_EVALUATION_IMAGES": "16",
    "KONOMI_NIGHT_CHUNK": "16",
    "KONOMI_NIGHT_STEPS": "20",
    "KONOMI_NIGHT_SELECT_MINIMUM": "6",
    "KONOMI_NIGHT_RESERVE_GIB": "0",
    "KONOMI_NIGHT_PROMOTE_WIN_RATE": "0",
    "KONOMI_GUARD_OFF": json.dumps(NAMES),
}
BACKGROUNDS = ("blue", "pink", "green", "white", "orange")
HAIR = ("black", "blonde", "red", "silver")
PORTRAITS = [
    f"{style} portrait, {length} {hair} hair, {background} background"
    for style in ("comic", "flat")
    for length, hair in zip(("long", "short") * 2, HAIR, strict=True)
    for background in BACKGROUNDS
]
"""Forty prompts of the starter's world; who grades likes blue."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """An empty home on which `konomi up` runs."""
    place = Home(tmp_path_factory.mktemp("whole") / "home")
    ports = [word for role in ("rater", "generator", "trainer", "page") for word in (f"--port-{role}", "0")]
    command = [sys.executable, "-m", "konomi", "--home", str(place.root), "up", "--json", *ports]
    up = subprocess.Popen(command, env=os.environ | SMALL, stdout=subprocess.PIPE, text=True)
    try:
        assert up.stdout is not None and json.loads(up.stdout.readline())["page"]
        yield place
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(timeout=120) == 0


@pytest.fixture
def page(home, chromium):
    """A fresh browser that has entered the page; what it complains of fails the test."""
    complaints: list[str] = []
    context = chromium.new_context()
    context.add_init_script("localStorage.setItem('konomi.language', 'en')")
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(link(home, "rate"))
    page.wait_for_selector("main :not(.quiet)")
    yield page
    context.close()
    assert not complaints


def portraits(client: Client) -> dict[str, bytes]:
    """Draws one portrait a prompt with the starter; returns PNGs by their digest."""
    asked = [generator.ImageRequest(prompt=prompt, seed=seed) for seed, prompt in enumerate(PORTRAITS)]
    made = client.generator.generate_images(images=asked, base_model="starter", steps=12)
    digests = {image.index: image.artifact.digest for image in made}
    return {digests[place]: client.artifacts.get(digests[place]) for place in range(len(PORTRAITS))}


def photograph(seed: int) -> bytes:
    """Returns a PNG of noise over a plain gradient: nothing the starter could draw."""
    rng = np.random.default_rng(seed)
    side, angle = 96, rng.uniform(0, 2 * np.pi)
    across, down = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    slope = (np.cos(angle) * across + np.sin(angle) * down)[..., None] * rng.uniform(20, 60, 3)
    pixels = np.clip(rng.uniform(60, 190, 3) + slope + rng.normal(0, 30, (side, side, 3)), 0, 255)
    return png(Image.fromarray(pixels.astype(np.uint8)))


def png(image: Image.Image) -> bytes:
    import io

    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def bring(page, files: dict[str, bytes]) -> None:
    """Drops pictures on the first steps and goes on to grading."""
    until(page, f"{NOW}?.includes('bring your pictures')")
    drop(page, files)
    until(page, f"{SUM}?.includes('{len(files)} pictures added')", 120)
    until(page, f"{NOW}.includes('an eye') || {NOW}.includes('grade about')")
    if page.locator("[data-eye=keep]").count():
        page.click("[data-eye=keep]")
    until(page, f"{NOW}.includes('grade about 30')")
    page.click("[data-step=grade] a")


def grade(page, key_of) -> None:
    """Grades thirty pictures by keys, some of them again where the rater checks on itself, and lets the rater learn."""
    for _ in range(40):
        press(page, key_of(shown(page)))
        if page.inner_text("a.count") == "First steps: 30 of 30 grades":
            break
    page.click("a.count")
    until(page, f"{NOW}?.includes('let the rater learn')")
    page.locator("[data-step=grade] button.primary").click()
    until(page, f"{NOW}.includes('start a night')", 120)
    page.click("[data-step=night] a")


def write_prompts(page, lines: list[str]) -> None:
    page.fill("#prompts", "\n".join(lines))
    page.locator("button.plain", has_text="Keep").first.click()
    until(page, "document.getElementById('toast')?.textContent === 'Kept'")


def test_from_an_empty_home_to_a_blind_verdict_in_the_morning(home, page, chromium):
    with connect_home(home.root) as client:
        files = portraits(client)
    prompts = dict(zip(files, PORTRAITS, strict=True))
    bring(page, {f"{place}.png": data for place, data in enumerate(files.values())})
    shoot(chromium, home, "first-steps", "guide", "[data-step=eye] p", 1500)
    shoot(chromium, home, "rate", "rate", ".frame img")
    grade(page, lambda digest: str(5 - BACKGROUNDS.index(prompts[digest].split(", ")[-1].split()[0])))

    page.wait_for_selector("#base")
    page.select_option("#base", "starter")
    assert "portraits" in page.inner_text("#base >> xpath=ancestor::div[2]"), "what it can draw is said beside it"
    until(page, "document.getElementById('prompts').value.includes('portrait')", 30)
    wanted = ["comic portrait, blue background", "flat portrait, long black hair"]
    write_prompts(page, wanted)
    assert written.kept(home.root, "default") == wanted
    shoot(chromium, home, "night-form", "night", "#base", 1250)
    page.fill("#units", "1")
    page.fill("#images", "16")
    page.locator("button.primary", has_text="Start the night").click()
    if FOLDER:
        page.wait_for_selector(".live .big, .blind", timeout=300_000)
    shoot(chromium, home, "night-live", "night", ".strip li:nth-child(8) img, .blind", 900)
    until(
        page,
        "!!document.querySelector('.blind') || document.querySelector('.told')?.textContent.includes('cannot')",
        300,
    )
    assert page.locator(".told .verdict").count() == 0, "the starter draws its own portraits"
    shoot(chromium, home, "night", "night", ".blind .side img", 1100)
    with page.context.expect_page() as opened:
        page.locator("button", has_text="Report").first.click()
    report = opened.value
    report.wait_for_load_state()
    assert "The trial before the night" in report.content() and "Your verdict" in report.content()
    report.close()

    assert "is what you use" not in page.inner_text(".decide")
    pairs = int(page.inner_text(".blind .count").split()[-1])
    for place in range(pairs):
        until(page, f"document.querySelector('.blind .count')?.textContent.startsWith('Pair {place + 1} of')")
        page.keyboard.press("ArrowLeft")
    until(page, "!document.querySelector('.blind')")
    page.locator(".decide button", has_text="Keep").first.click()
    until(page, "document.querySelector('.decide [role=status]')?.textContent.startsWith('Kept: unit-1')")
    with connect_home(home.root) as client:
        (night,) = (path.parent.name for path in home.root.glob("nights/*/night.json"))
        (model,) = client.trainer.list_models(taste="tastes/default").models
    assert (home.root / "report" / f"{night}.html").exists() and model.current
    shoot_views(chromium, home, night)


def shoot_views(browser, home: Home, night: str) -> None:
    """Saves the views that a home has something to show in after its first night, where screenshots are asked for."""
    english = {"languages": screenshots.ENGLISH}
    shoot(browser, home, "pair", "pair", ".side img", **english)
    shoot(browser, home, "pick", "pick", ".nine img", 640)
    shoot(browser, home, "sweep", "rate/sweep", ".sweep .frame img", 720)
    shoot(browser, home, "long-tail", "tail", ".tile img", 700, **english)
    cell = "[role=option] img:not([hidden])"
    shoot(browser, home, "library", "library", cell)
    shoot(browser, home, "detail", "library", cell, 900, act=screenshots.press("Enter", "dialog .strip img"), **english)
    shoot(browser, home, "chosen", "library", cell, act=screenshots.choose(3))
    if FOLDER:
        screenshots.keep_some(home)
    shoot(browser, home, "favourites", "library", cell, 760, act=screenshots.filtered)
    shoot(browser, home, "map", "map", "svg.map circle", 920, act=screenshots.press("ArrowRight", ".at-hand img"))
    shoot(browser, home, "night-queue", "night", ".queue tr", act=screenshots.scroll_to(".queue"))
    shoot(browser, home, "taste", "taste", ".card", 700, **english)
    shoot(browser, home, "lineage", "lineage", ".node.now", 700, **english)
    shoot(browser, home, "phone", "rate", ".frame img", 780, width=PHONE, **english)
    shoot(browser, home, "report", "night", ".decide", 900, act=screenshots.open_report(night))


def test_photographs_are_told_what_the_base_cannot_draw_before_a_night(home, page):
    with connect_home(home.root) as client:
        client.rater.ensure_taste("photos")
    page.goto(link(home, "rate&taste=photos"))
    bring(page, {f"IMG_{seed}.png": photograph(seed) for seed in range(32)})
    keys = itertools.count()
    grade(page, lambda digest: str(1 + next(keys) % 5))
    page.wait_for_selector("#prompts")
    write_prompts(page, ["a street at night", "a wood in the fog"])
    page.fill("#units", "1")
    page.fill("#images", "16")
    page.locator("button.primary", has_text="Start the night").click()
    page.wait_for_selector(".told .verdict", timeout=120_000)
    assert page.inner_text(".told .verdict").startswith("The base model starter cannot draw this taste")
    assert page.locator(".told .samples img").count() == 16
    assert page.locator(".told button").count() == 1, "to start all the same is one's own choice"
    taste = [json.loads(path.read_text())["taste"] for path in home.root.glob("nights/*/request.json")]
    assert "tastes/photos" not in taste, "no night was begun"
