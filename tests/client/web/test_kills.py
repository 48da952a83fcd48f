"""Client or rater killed in mid-sitting: no acknowledged grade is lost, and the sitting goes on where it was."""

import random
from pathlib import Path

import pytest

from tests.client.web.grading.test_grading import SHOWN, shown
from tests.client.web.site import Site, until

pytestmark = [pytest.mark.timeout(3000)]


def grade(page, draw: random.Random, acknowledged: list[tuple[str, int]], meanwhile=lambda: None) -> None:
    """Presses one key and notes the grade once the next image is painted, which is its acknowledgement."""
    digest, number = shown(page), draw.randint(1, 5)
    page.keyboard.press(str(number))
    meanwhile()
    until(page, f"{SHOWN} !== '{digest}'", 300)  # a busy machine may take its time: this is no stop-watch
    acknowledged.append((digest, number))


def after(page, milliseconds: int, kill):
    """Returns what kills a moment after a key."""

    def strike() -> None:
        page.wait_for_timeout(milliseconds)
        kill()

    return strike


def sittings(site: Site, chromium, kills: int, seed: int) -> None:
    """Grades, kills without warning, restarts, and goes on: now in the same browser, now in another one."""
    draw = random.Random(seed)
    acknowledged: list[tuple[str, int]] = []
    context = chromium.new_context()
    page = context.new_page()
    page.goto(site.link("rate"))
    for turn in range(kills):
        for _ in range(draw.randint(2, 6)):
            grade(page, draw, acknowledged)
        kill, pause = (site.kill if turn % 2 else site.kill_rater), draw.choice((0, 3, 10, 25, draw.randint(26, 400)))
        grade(page, draw, acknowledged, after(page, pause, kill))
        while_away = draw.randint(0, 2)
        for _ in range(while_away):
            grade(page, draw, acknowledged)  # kept on the device
        site.start()
        until(page, "!document.getElementById('state').textContent", 300)
        known = {(label.image_digest, label.grade) for label in site.labels()}
        assert set(acknowledged) <= known, "an acknowledged grade is lost"
        print(f"kill {turn + 1}: {len(acknowledged)} acknowledged grades are on record", flush=True)
        page.reload()
        here = shown(page)
        other = chromium.new_context()
        elsewhere = other.new_page()
        elsewhere.goto(site.link("rate"))
        assert shown(elsewhere) == here, "another browser resumes at the same image"
        if draw.random() < 0.5:
            context.close()
            context, page = other, elsewhere
        else:
            other.close()
    assert len({label.sequence for label in site.labels()}) == len(site.labels())
    print(f"{kills} kills, {len(acknowledged)} acknowledged grades, 0 lost")


@pytest.mark.slow
def test_a_killed_rater_and_a_killed_client_lose_nothing(site, chromium):
    sittings(site, chromium, kills=2, seed=7)


@pytest.mark.chaos
def test_fifty_kills_lose_nothing(tmp_path: Path, chromium):
    site = Site(tmp_path / "home")
    site.start()
    try:
        site.fill(600)
        sittings(site, chromium, kills=50, seed=11)
    finally:
        site.stop()
