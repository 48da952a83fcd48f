"""Whatever a service says of images, models, nights and people is text in the page and in the report, never markup.

Every free text in every answer is turned into an attack, in a real browser: no dialog, no broken policy, no request to
anywhere else, no script that ran.
"""

import itertools
import json

import pytest

from konomi.night.records.store import NightStore
from konomi.night.report.render import write_night_report
from tests.client.night.report.test_report import Store
from tests.client.night.report.test_report import recorded as record_night
from tests.client.web import recorded
from tests.client.web.test_views import PAYLOADS, READY, VIEWS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

FREE = frozenset(
    [
        "alarms",
        "baseModel",
        "caption",
        "consent",
        "displayName",
        "display_name",
        "giver",
        "labeller",
        "licence",
        "message",
        "method_words",
        "name_shown",
        "night",
        "prompt",
        "reason_words",
        "sentences",
        "text",
        "unit",
        "why",
    ]
)
"""Keys whose text people, files or models wrote; all others are names, numbers and words of the contract."""


class Attacks:
    """Turns the free texts of answers into attacks, one after the other, and remembers how many."""

    def __init__(self) -> None:
        self._next = itertools.cycle(PAYLOADS)
        self.made = 0

    def twist(self, value, key=""):
        """Returns an answer with every free text an attack."""
        if isinstance(value, dict):
            return {name: self.twist(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.twist(inner, key) for inner in value]
        if isinstance(value, str) and key in FREE and not (key == "night" and value == recorded.NIGHT):
            self.made += 1
            return next(self._next)
        return value


def watch(page, address):
    """Notes dialogs, broken policies, requests elsewhere and what a page complains of."""
    heard: list[str] = []
    page.on("dialog", lambda dialog: (heard.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else heard.append(r.url))
    page.on("console", lambda m: heard.append(m.text) if "Content Security Policy" in m.text else None)
    page.add_init_script(
        "window.broken = []; addEventListener('securitypolicyviolation', (e) => broken.push(e.violatedDirective))"
    )
    return heard


def relay(attacks):
    """Lets real answers through with their free texts turned."""

    def handle(route):
        answer = route.fetch()
        try:
            body = json.dumps(attacks.twist(answer.json()))
        except ValueError:
            route.fulfill(response=answer)
            return
        route.fulfill(response=answer, body=body)

    return handle


def play(page, digests, attacks):
    """Answers of the rater with attacks in them, and recorded ones of a night and a trainer."""
    page.route("**/konomi.v1.RaterService/*", relay(attacks))
    for address, body in recorded.answers(digests).items():
        page.route(address, recorded.spoken(json.dumps(attacks.twist(body))))


@pytest.fixture(scope="module")
def pictures(site) -> list[str]:
    """Pictures, some of them graded by somebody."""
    return site.fill(48, first=2000)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_no_view_takes_text_for_markup(site, visit, pictures, language):
    page = visit("rate", language, strict=False, service_workers="block")
    heard, attacks = watch(page, site.address), Attacks()
    play(page, pictures, attacks)
    page.goto(f"{site.address}/#rate")
    page.reload()
    for view in VIEWS:
        page.evaluate(f"location.hash = '{view}'")
        page.wait_for_selector(READY[view])
        page.wait_for_timeout(200)
        if view == "library":
            page.keyboard.press("Enter")
            page.wait_for_selector("dialog .facts")
            page.wait_for_timeout(300)
            page.keyboard.press("Escape")
        if view == "night":
            page.locator(".blind .side").first.click()
            page.wait_for_timeout(200)
        found = page.evaluate("[window.hit ?? null, window.broken.length]")
        assert found == [None, 0], (view, page.evaluate("window.broken"))
        strange = "main script, main iframe, main object, main style, main base, main meta, main form[action]"
        assert page.evaluate(f"document.querySelectorAll('{strange}').length") == 0, view
    assert not heard
    assert attacks.made > 100
    assert page.evaluate("location.origin") == site.address


def test_a_served_report_runs_nothing(site, chromium, tmp_path):
    """Its night, prompts, captions, models, alarms and reasons are attacks; its own policy would stop what got out.

    Four attacks a text, one behind the other: what swallows the rest stands last, what has to begin a text first.
    """
    nights, store = NightStore(site.home.root), Store()
    payloads = [" ".join(PAYLOADS[first::5]) for first in range(5)]
    for number, payload in enumerate(payloads):
        night = f"hostile-{number}"
        record_night(nights, store, night, 1, prompt=payload)
        state = nights.read(night)
        for unit in state["units"]:  # whose pictures say nothing: a sheet of them takes a second to draw
            unit["evaluation"] = unit["evaluation"][:12]
        state["units"][1]["model"] = state["units"][1]["adapter"] = payload
        state["units"][1]["reason"] = {"name": "training_failed", "numbers": {"unit": 1, "why": payload}}
        state["units"][2]["selection"]["rater"]["alarms"] = [payload]
        state["units"][2]["selection"]["manifest"] = payload
        nights.write(night, state)
        write_night_report(nights, night, store.files.__getitem__, ("en", "ja")[number % 2])
    context = chromium.new_context()
    page = context.new_page()
    page.goto(site.link("night"))
    page.wait_for_selector("main :not(.quiet)")
    heard = watch(page, site.address)
    for number in range(len(payloads)):
        answer = page.goto(f"{site.address}/report/hostile-{number}")
        assert answer.status == 200 and "sandbox" in answer.headers["content-security-policy"]
        page.wait_for_timeout(100)
        assert page.query_selector("h2"), "it is the report"
        assert page.query_selector("script, iframe, object, base, form, meta[http-equiv=refresh]") is None
    assert not heard
    context.close()
