"""What the page costs a hand: key to next image, grades a minute, a library of 100,000 (id U1, then U2 to U11).

Question: does the page keep up with a person on this machine? Method: a real rater and the page in one process tree, a
real headless Chromium without GPU. The libraries are written straight into the stopped rater's store and database:
every picture has its own digest, and a random unit vector in place of an embedding, which costs the page nothing.
The first library holds 512-pixel JPEGs, the large one 96-pixel ones. U10 and U11 pass images with no rest, by the usual
keys and swept: what the page allows, no person. U7 to U9 say where the time of U3 to U6 goes: to
the rater's listing, to the thumbnails made while scrolling, or to the browser's own painting. U12 and U13 are what an
eye sees of it: how long a place is without its picture.

Run time: about 6 minutes on two quiet cores (most of it writing 110,000 files); peak memory about 2.5 GB.
`--small` is a smoke test of half a minute that writes no result.
"""

import argparse
import io
import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from konomi.client import connect_home
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import open_database
from konomi_rater.storage import image_records
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.schema import MIGRATIONS
from tests.benchmarks.results import Figure, report
from tests.client.web.site import CHROMIUM, TASTE, Site

WATCH = """
window.times = [];
addEventListener('keydown', (event) => { window.pressed = event.timeStamp; }, true);
addEventListener('DOMContentLoaded', () => {
  new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => {
    if (window.pressed) { window.times.push(performance.now() - window.pressed); window.pressed = 0; }
  }))).observe(document.getElementById('main'), { attributes: true, attributeFilter: ['data-digest'] });
});
"""
FIRST_PAINT = """() => new Promise((done) => {
  const look = () => (document.querySelector("[role=option] img:not([hidden])") ? done(performance.now())
    : requestAnimationFrame(look));
  look();
})"""
SCROLL = """([pixels, seconds]) => new Promise((done) => {
  const field = document.querySelector(".scroller");
  const began = performance.now();
  let frames = 0;
  const step = () => {
    field.scrollTop += pixels;
    frames += 1;
    const spent = performance.now() - began;
    if (spent < 1000 * seconds) requestAnimationFrame(step); else done(1000 * frames / spent);
  };
  requestAnimationFrame(step);
})"""
SPENT = """(pattern) => performance.getEntriesByType("resource").filter((one) => new RegExp(pattern).test(one.name)
  && one.responseEnd > 0).map((one) => one.responseEnd - (one.requestStart || one.startTime))"""
JUMP = """(index) => new Promise((done) => {
  const began = performance.now();
  const input = document.getElementById("jump-to");
  input.value = String(index);
  input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
  const look = () => {
    const cell = document.querySelector(`[aria-posinset="${index}"]:not([hidden]) img:not([hidden])`);
    if (cell) done(performance.now() - began); else requestAnimationFrame(look);
  };
  look();
})"""


LOOKED = """([pixels, seconds]) => new Promise((done) => {
  const field = document.querySelector(".scroller");
  const began = performance.now();
  const met = new Map();
  let rested = 0;
  const step = () => {
    const now = performance.now();
    const box = field.getBoundingClientRect();
    let bare = 0;
    for (const cell of field.querySelectorAll("[role=option]:not([hidden])")) {
      const at = cell.getBoundingClientRect();
      if (at.bottom <= box.top || at.top >= box.bottom) continue;
      const index = cell.getAttribute("aria-posinset");
      if (!met.has(index)) met.set(index, { since: now, last: now, painted: null });
      const one = met.get(index);
      one.last = now;
      if (cell.querySelector("img:not([hidden])")) one.painted ??= now; else bare += 1;
    }
    if (now - began < 1000 * seconds) {
      field.scrollTop += pixels;
    } else {
      rested ||= now;
      if (!bare || now - rested > 20000) {
        const waits = [...met.values()].map((one) => (one.painted ?? one.last) - one.since);
        return done({ waits, rested: now - rested });
      }
    }
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})"""
"""Scrolls and returns how long each picture that came into sight was bare there, and how long until all were painted
once it rested; one that left before it was painted was bare for as long as it was in sight."""


def pictures(count: int, side: int, seed: int) -> Iterator[bytes]:
    """Yields different JPEGs: sixteen drawings, each file with its own number behind the image's end."""
    draw = random.Random(seed)
    made = []
    for _ in range(16):
        image = Image.effect_noise((side, side), 40).convert("RGB")
        pen = ImageDraw.Draw(image)
        for _ in range(12):
            x, y, r = draw.randrange(side), draw.randrange(side), draw.randrange(side // 8, side // 3)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=tuple(draw.randrange(256) for _ in range(3)))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=88)
        made.append(out.getvalue())
    for number, data in zip(range(count), itertools.cycle(made)):
        yield data + f"{seed}/{number}".encode()


def write_library(site: Site, count: int, side: int, seed: int) -> None:
    """Writes a library into a stopped home, without waiting for the disk at every file."""
    synced, os.fsync = os.fsync, lambda descriptor: None
    try:
        store = ArtifactStore(StoreSettings(home=site.home.root))
        digests = [store.put(data, "image/jpeg").digest for data in pictures(count, side, seed)]
        vectors = np.random.default_rng(seed).standard_normal((count, dimension(site)), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        engine = open_database(site.home.root / "databases" / "rater.sqlite", MIGRATIONS)
        with engine.begin() as connection:
            for place, digest in enumerate(digests):
                facts = ImageFacts(digest=digest, source=1, prompt=f"number {place}", seed=place, unit="base")
                image_records.add(connection, "default", facts, (side, side), time.time())
            image_records.remember_embeddings(connection, "starter", dict(zip(digests, vectors, strict=True)))
        engine.dispose()
    finally:
        os.fsync = synced


def dimension(site: Site) -> int:
    """Returns the length of the starter's embeddings, of which the home holds a few."""
    engine = open_database(site.home.root / "databases" / "rater.sqlite", MIGRATIONS)
    with engine.connect() as connection:
        vector = connection.exec_driver_sql("SELECT vector FROM embeddings LIMIT 1").scalar_one()
    engine.dispose()
    return len(vector) // 4


def prepared(folder: Path, count: int, side: int, seed: int) -> Site:
    """Returns a running site over a library."""
    site = Site(folder)
    site.start()
    site.fill(4)
    site.stop()
    write_library(site, count, side, seed)
    site.start()
    with connect_home(site.home.root) as client:  # the first look after a start reads everything once
        assert client.rater.list_images(taste=TASTE, page_size=1).total_size == count + 4
        client.rater.suggest_images(taste=TASTE, count=8)
    return site


def grade(browser: Any, site: Site, grades: int, pause: float) -> tuple[list[float], float]:
    """Grades by single keys and returns milliseconds from each key to its next image, and grades a minute.

    Args:
        browser: a browser.
        site: the site.
        grades: keys to press.
        pause: seconds the hand rests after an image has appeared.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(site.link("rate"))
    page.wait_for_selector(".frame img")
    page.wait_for_timeout(2000)
    draw, before = random.Random(1), len(site.labels())
    began = time.monotonic()
    for number in range(grades):
        page.keyboard.press(str(draw.randint(1, 5)))
        while page.evaluate("window.times.length") <= number:
            page.wait_for_timeout(4)
        page.wait_for_timeout(1000 * pause)
    minutes = (time.monotonic() - began) / 60
    times = page.evaluate("window.times")
    context.close()
    assert len(site.labels()) == min(before + grades, 1000), "every key is on record"
    return times, grades / minutes


def hurry(browser: Any, site: Site, keys: int, view: str) -> tuple[float, int]:
    """Presses a key as soon as an image is on the screen, and returns images a minute and the labels that stand.

    No hand and no eye takes part: it is what the page, its server and the disk allow, not what a person does.

    Args:
        browser: a browser.
        site: the site.
        keys: images to pass.
        view: "rate", where every key grades; "rate/sweep", where four of five say N and the fifth leaves it.
    """
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    before = len(site.labels())
    page.goto(site.link(view))
    page.wait_for_selector(".sweep .frame img" if "/" in view else ".frame img")
    page.wait_for_timeout(2000)
    at = "document.getElementById('main').dataset.digest"
    seen = "!document.querySelector('.frame').hasAttribute('aria-busy')"  # a key before that is about nothing
    said, began = 0, time.monotonic()
    for number in range(keys):
        key = " " if "/" in view and number % 5 == 4 else "1"
        while not page.evaluate(seen):
            page.wait_for_timeout(1)
        shown = page.evaluate(at)
        page.keyboard.press(key)
        while page.evaluate(at) == shown:
            page.wait_for_timeout(1)
        said += key == "1"
    minutes = (time.monotonic() - began) / 60
    for _ in range(500):
        if len(site.labels()) - before == said:
            break
        page.wait_for_timeout(20)
    page.context.close()
    assert len(site.labels()) - before == said, "every label that was said is on record, and no other"
    return keys / minutes, said


def look(browser: Any, site: Site, count: int) -> dict[str, float]:
    """Opens a large library and returns seconds to the first picture, frames a second, memory, and a jump's time."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(site.link("rate"))
    page.wait_for_selector(".frame img")
    page.goto("about:blank")
    page.add_init_script("performance.setResourceTimingBufferSize(20000)")
    page.goto(f"{site.address}/#library")
    first = page.evaluate(FIRST_PAINT) / 1000
    slow, fast = page.evaluate(SCROLL, [24, 5]), page.evaluate(SCROLL, [900, 5])
    page.evaluate(JUMP, count // 4)
    waits, flung = sorted(page.evaluate(LOOKED, [24, 5])["waits"]), page.evaluate(LOOKED, [900, 1])["rested"]
    jumps = [page.evaluate(JUMP, place) for place in (count // 2, count - 3, 7, count // 3)]
    memory = renderer_megabytes()
    listing, thumbs = page.evaluate(SPENT, "ListImages$"), page.evaluate(SPENT, "/(small|thumb)/")
    context.close()
    found = {"first": first, "slow": slow, "fast": fast, "jump": statistics.median(jumps), "memory": memory}
    found |= {"listing": statistics.median(listing), "listings": len(listing)}
    found |= {"bare": waits[int(0.95 * len(waits))], "met": len(waits), "flung": flung}
    return found | {"thumb": statistics.median(thumbs), "thumbs": len(thumbs)}


def renderer_megabytes() -> float:
    """Returns the memory of the largest of Chromium's page processes, shared pages in proportion."""
    found = [0.0]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"--type=renderer" not in command or b"chrom" not in command:
                continue
            lines = (process / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        found += [int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")]
    return max(found)


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grades", type=int, default=500)
    parser.add_argument("--library", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--sweep", type=int, default=250, help="images passed without a rest, in each of two ways")
    parser.add_argument("--only-sweep", action="store_true", help="nothing but these two")
    parser.add_argument("--small", action="store_true", help="a smoke test; writes no result")
    options = parser.parse_args()
    if options.small:
        options.grades, options.library, options.large, options.sweep = 30, 200, 5000, 30
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="bench-page-") as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        site = prepared(Path(folder) / "grading", options.library, 512, 1)
        usual, _ = hurry(browser, site, options.sweep, "rate")
        swept, said = hurry(browser, site, options.sweep, "rate/sweep")
        hurried = [
            Figure("U10", "images a minute graded by a key with no rest", usual, 40, "1/min", options.sweep),
            Figure("U11", f"the same swept, N or not; {said} said N", swept, usual, "1/min", options.sweep),
        ]
        if options.only_sweep:
            site.stop()
            browser.close()
            report("page", hurried)
            return
        times, rate = grade(browser, site, options.grades, 0.1)
        site.stop()
        site = prepared(Path(folder) / "library", options.large, 96, 2)
        seen = look(browser, site, options.large)
        site.stop()
        browser.close()
    times.sort()
    p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
    print(f"key to next image: p50 {statistics.median(times):.0f}, p95 {p95:.0f}, worst {times[-1]:.0f} ms")
    print(f"scroll: {seen['slow']:.0f} frames a second at 24 pixels each, {seen['fast']:.0f} at 900 pixels each")
    figures = [
        Figure("U1", f"key to next image painted, p95, {options.library} images", p95, 100, "ms", len(times)),
        Figure("U2", "grades a minute by a scripted hand, 0.1 s of rest each", rate, 40, "1/min", len(times)),
        Figure("U3", f"library of {options.large}: first picture painted", seen["first"], 1, "s", 1),
        Figure("U4", f"library of {options.large}: scrolling", seen["slow"], 50, "fps", 1),
        Figure("U5", f"library of {options.large}: memory of the page", seen["memory"], 400, "MB", 1),
        Figure("U6", f"library of {options.large}: jump to an index, picture painted", seen["jump"], 1000, "ms", 4),
        Figure("U7", f"library of {options.large}: scrolling 900 pixels a frame", seen["fast"], 50, "fps", 1),
        Figure("U8", "of these: 120 images listed by the rater", seen["listing"], 100, "ms", int(seen["listings"])),
        Figure("U9", "of these: a thumbnail made and sent", seen["thumb"], 50, "ms", int(seen["thumbs"])),
    ]
    figures += [
        Figure(
            "U12", "scrolling 24 pixels a frame: a picture in sight is bare, p95", seen["bare"], 50, "ms", seen["met"]
        ),
        Figure("U13", "900 pixels a frame, then at rest: all painted", seen["flung"], 1000, "ms", 1),
    ]
    figures += hurried
    if options.small:
        for figure in figures:
            print(figure)
    else:
        report("page", figures)


if __name__ == "__main__":
    main()
