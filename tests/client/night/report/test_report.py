"""The report: a word for everything a night may record, every section once, readable in a browser without a network."""

import hashlib
import io
import json
import random
from pathlib import Path

import pytest
from PIL import Image

from konomi.i18n import catalogue
from konomi.night.records.request import NightRequest
from konomi.night.records.store import Nights
from konomi.night.report.facts import lineage_of, yesterday
from konomi.night.report.page import Page
from konomi.night.report.render import write_night_report
from konomi.night.report.words import MORE, WORDS
from konomi.night.verdict import BlindEvaluation
from konomi.v1 import rater_pb2

CHROMIUM = Path("/usr/bin/chromium")
SECTIONS = ("verdict", "yesterday", "changed", "curves", "sheets", "units", "measures", "alarms", "strangest", "chosen")
SECTIONS += ("where_time", "cost", "lineage_graph", "honest", "again")


def figure(value: float, spread: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread, "n": 96}


class Store:
    """Pictures by digest; the same number, the same picture."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, number: int) -> str:
        draw = random.Random(number)
        out = io.BytesIO()
        Image.new("RGB", (64, 64), tuple(draw.randrange(256) for _ in range(3))).save(out, "PNG")
        digest = hashlib.sha256(f"{number}".encode()).hexdigest()
        self.files[digest] = out.getvalue()
        return digest


def scores(unit: int) -> dict:
    kid = figure(0.4 * unit + 0.1, 0.1)
    shares = {"precision": 0.9, "recall": 0.8, "density": 1.0, "coverage": 0.9, "likes_covered": 0.75, "near_copies": 0}
    measures = {"n": 96, "reference_n": 96, "enough": False, "kid": kid, "cmmd": 0.2 * unit, **shares}
    measures |= {"largest_cell_share": 0.1, "cell_entropy": 0.8, "liked_cells": 8}
    common = {"doubt": 0.4, "typical_share": 0.96, "vendi_quarter": 8.0, "unknown": 0.0, "n": 96}
    return common | {
        "p_ssr": figure(0.2 + 0.1 * unit),
        "p_ur": figure(0.05 + 0.05 * unit, 0.02),
        "vendi": figure(12.0 - unit, 0.5),
        "utility": figure(2.5 + 0.2 * unit),
        "spread": 0.8,
        "novelty": figure(0.2 + 0.01 * unit, 0.01),
        "measures": measures,
    }


def selection(store: Store) -> dict:
    fates = ("selected", "untypical", "unknown", "base", "passed_over", "quota")
    strange = [{"digest": store.put(900 + i), "novelty": 0.5 - i / 50, "fate": fate} for i, fate in enumerate(fates)]
    rejected = {"quota": {"count": 9, "examples": [store.put(800)]}, "near_copy": {"count": 1, "examples": []}}
    alarm = "Over-optimisation: 6.4 nats of selection since a person last audited, more than 6.0; audit a set."
    return {"base_share": 0.25, "considered": 40, "n": 12, "selected": [store.put(700)], "rejected": rejected} | {
        "nats": 1.4,
        "strangest": strange,
        "rater": {"alarms": [alarm], "nats": 1.4},
        "islands": 2,
        "unseen_likes": 0.06,
    }


def recorded(nights: Nights, store: Store, night: str, first: int, system: str = "converge") -> None:
    """Records a night of two units over the base model, the second of which is served."""
    request = NightRequest(night, night, "tastes/default", system, first, ["a portrait"], ["a portrait"], {}, {})
    nights.begin(request.asked, lambda: request)
    units = [
        {"unit": 0, "model": "base", "adapter": "", "decision": "start", "promoted": True, "numbers": {"gap": 0.0}}
    ]
    for unit in (first, first + 1):
        reason = {"name": "better", "numbers": {"unit": unit, "win_rate": 0.7, "parent": units[-1]["unit"]}}
        made = {"unit": unit, "model": f"m{unit}", "parent": units[-1]["unit"], "decision": "promote", "reason": reason}
        units.append(made | {"wins": figure(0.7), "wins_base": figure(0.8), "selection": selection(store)})
        units[-1]["numbers"] = {"gap": 0.1 * unit}
    for place, unit in enumerate(units):
        unit |= {"scores": scores(place), "seconds": 30.0, "images": 96}
        unit["evaluation"] = [store.put(1000 * unit["unit"] + i) for i in range(96)]
    state = {"night": night, "state": "finished", "system": system, "taste": "tastes/default", "units": units}
    steps = [{"name": "unit-1/train", "seconds": 40.0, "images": 0}]
    nights.write(
        night,
        state
        | {"steps": steps, "seconds": 100.0, "gpu_seconds": 80.0, "disk_bytes": 5 * 2**20, "images": 400, "nats": 2.8}
        | {"served": {"unit": first + 1, "model": f"m{first + 1}"}, "rater_version": "tastes/default/raterVersions/3"}
        | {"reason": {"name": "units", "numbers": {"units": 2}}},
    )
    nights.deliver(night)


@pytest.fixture
def two_nights(tmp_path):
    nights, store = Nights(tmp_path), Store()
    recorded(nights, store, "n1", 1)
    BlindEvaluation(nights, "n1").note_decision("roll_back", "base", 5.0)
    recorded(nights, store, "n2", 3, "longtail")
    return nights, store


@pytest.mark.parametrize("language", sorted(WORDS))
def test_every_reason_of_rejection_has_words(language):
    reasons = [name.removeprefix("REJECTION_REASON_").lower() for name in rater_pb2.RejectionReason.keys()[1:]]
    assert "unknown" in reasons
    page = Page(language, None, "person")
    rejected = {reason: {"count": 1, "examples": []} for reason in reasons}
    page.selection("unit-1", {"base_share": 0.25, "considered": 9, "n": 1, "selected": [], "rejected": rejected})
    assert page.parts[-1].count("<h4>") == 1 + len(reasons)


def test_both_languages_say_the_same_things():
    for words in (WORDS, MORE):
        assert words["en"].keys() == words["ja"].keys()
    assert not WORDS["en"].keys() & MORE["en"].keys()


def test_yesterday_and_lineage_are_told_from_the_nights_alone(two_nights):
    nights, _ = two_nights
    assert yesterday(nights, "n1") is None
    found = yesterday(nights, "n2")
    assert (found["night"], found["before"]["served"], found["now"]["served"]) == ("n1", 2, 4)
    assert (found["before"]["decision"], found["now"]["decision"]) == ("roll_back", "open")
    told = {one["unit"]: one for one in lineage_of(nights, "n2")}
    assert sorted(told) == [0, 1, 2, 3, 4]
    assert told[3]["parent"] == 0 and [unit for unit, one in told.items() if one["served"]] == [4]
    assert [one["unit"] for one in lineage_of(nights, "n1") if one["served"]] == [0], "n1 was rolled back"


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_browser_reads_the_report_without_a_network_and_without_a_complaint(two_nights):
    if not CHROMIUM.exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}")
    sync_api = pytest.importorskip("playwright.sync_api")
    nights, store = two_nights
    complaints: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        for language in ("en", "ja"):
            catalogue.use(language)
            path = write_night_report(nights, "n2", store.files.__getitem__, language)
            catalogue.use("en")
            page.goto(path.as_uri())
            words = WORDS[language] | MORE[language]
            headings = [heading.inner_text() for heading in page.query_selector_all("h2")]
            assert headings == [words[section] for section in SECTIONS]
            for picture in page.query_selector_all("img"):
                picture.evaluate("(image) => { image.loading = 'eager'; }")
            page.locator("details summary").first.click()
            page.wait_for_timeout(300)
            broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
            assert page.evaluate("document.images.length") > 250 and page.evaluate(broken) == 0
            assert page.locator(".duel").count() == 20 and page.locator(".strange figure").count() == 6
            assert page.locator(".tree .node.served text").first.text_content() == "unit-4"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
        browser.close()
    assert complaints == []
    facts = json.loads((nights.home / "report" / "n2.json").read_text())
    assert facts["yesterday"]["before"]["served"] == 2 and facts["cost"]["gpu_hours"] == pytest.approx(80 / 3600)


def test_an_old_log_without_measures_makes_a_report_without_them(two_nights):
    nights, store = two_nights
    state = nights.read("n1")
    for unit in state["units"]:
        for new in ("measures", "novelty"):
            unit["scores"].pop(new)
        unit.get("selection", {}).pop("strangest", None)
    for new in ("gpu_seconds", "disk_bytes"):
        state.pop(new)
    nights.write("n1", state)
    text = write_night_report(nights, "n1", store.files.__getitem__, "en").read_text()
    for section in ("measures", "strangest", "yesterday"):
        assert f"<h2>{MORE['en'][section]}</h2>" not in text
    assert "Rolled back: base model is in use." in text
