"""The report: a word for everything a night may record, every section once, readable in a browser without a network."""

import hashlib
import io
import json
import random
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from PIL import Image

from konomi.i18n import catalogue
from konomi.night.records.request import NightRequest
from konomi.night.records.store import NightStore
from konomi.night.report import sections
from konomi.night.report.facts import RejectedImages, UnitSelection, last_night, lineage_of
from konomi.night.report.page import ContactSheet, Page, duration, render
from konomi.night.report.render import write_demo_report, write_night_report
from konomi.night.report.truth import DemoFacts, TrueUnit
from konomi.night.verdict import BlindEvaluation
from konomi.v1 import rater_pb2

CHROMIUM = Path("/usr/bin/chromium")
SECTIONS = (
    ("Your verdict", "あなたの判定"),
    ("Since the last night", "前の夜からの変化"),
    ("What changed", "何が変わったか"),
    ("The curves", "推移"),
    ("Contact sheets", "一覧"),
    ("The units", "各世代"),
    ("How far each unit moved", "各世代がどれだけ動いたか"),
    ("What the rater warns of", "評価モデルの警告"),
    ("The strangest", "いちばん変わったもの"),
    ("What was selected, and what was rejected and why", "選ばれたもの、外されたものとその理由"),
    ("Where the time went", "時間の内訳"),
    ("What it cost", "かかったもの"),
    ("Where every unit came from", "各世代の由来"),
    ("What these figures are, and are not", "この数字が示すもの、示さないもの"),
    ("Do it again", "もう一度"),
)


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


def recorded(
    nights: NightStore, store: Store, night: str, first: int, system: str = "converge", prompt: str = "a portrait"
) -> None:
    """Records a night of two units over the base model, the second of which is served."""
    request = NightRequest(night, night, "tastes/default", system, first, [prompt], [prompt], {}, {})
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
    nights, store = NightStore(tmp_path), Store()
    recorded(nights, store, "n1", 1)
    BlindEvaluation(nights, "n1").note_decision("roll_back", "base", 5.0)
    recorded(nights, store, "n2", 3, "longtail")
    return nights, store


def demo(store: Store, name: str, prompt: str) -> DemoFacts:
    """Returns what a demo knows beside its night, of a person and a prompt."""
    count = 16
    units = [
        TrueUnit(
            number=unit,
            digests=[store.put(5000 * unit + i) for i in range(count)],
            grades=[1 + i % 5 for i in range(count)],
            utility=figure(2 + 0.3 * unit),
            ssr=figure(0.2 + 0.1 * unit),
            ur=figure(0.05),
            vendi=figure(12 - unit),
            whole=0.94,
        )
        for unit in (0, 1, 2)
    ]
    return DemoFacts(
        person=name,
        labels=60,
        seconds=90.0,
        night_seconds=40.0,
        rank=figure(0.72),
        ssr_auc=figure(0.9),
        ur_precision=figure(0.6),
        ur_share=0.06,
        units=units,
        spread=0.8,
        prompts=[prompt] * count,
        command=f"konomi demo --person '{name}'",
        phases=[("the night", 40.0)],
    )


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_reason_of_rejection_has_words(language):
    reasons = [name.removeprefix("REJECTION_REASON_").lower() for name in rater_pb2.RejectionReason.keys()[1:]]
    assert "unknown" in reasons and set(reasons) <= set(sections.FATES)
    rejections = [RejectedImages(reason, 1, []) for reason in reasons]
    chosen = UnitSelection(9, 1, 0.25, [], rejections, 0.0, [], None, None, None, "")
    with catalogue.speaking(language):
        strips = sections.selected("unit-1", chosen, None)[-1].strips
    assert len({strip.reason for strip in strips}) == 1 + len(reasons)


def test_last_night_and_lineage_are_told_from_the_nights_alone(two_nights):
    nights, _ = two_nights
    assert last_night(nights, "n1") is None
    comparison = last_night(nights, "n2")
    assert (comparison.night, comparison.before.served, comparison.now.served) == ("n1", 2, 4)
    assert (comparison.before.decision, comparison.now.decision) == ("roll_back", "open")
    ancestors = {ancestor.unit: ancestor for ancestor in lineage_of(nights, "n2")}
    assert sorted(ancestors) == [0, 1, 2, 3, 4]
    assert ancestors[3].parent == 0 and [unit for unit, each in ancestors.items() if each.served] == [4]
    assert [each.unit for each in lineage_of(nights, "n1") if each.served] == [0], "n1 was rolled back"


HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>&amp;{{ 7*7 }}$\\frac{"""


class Elements(HTMLParser):
    """Counts the elements of a page, and keeps the handlers of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.handlers: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.handlers += [name for name, _ in attributes if name.startswith("on")]
        self.texts += [value or "" for _, value in attributes]

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.slow
def test_hostile_words_are_text_wherever_they_stand(tmp_path):
    nights, store = NightStore(tmp_path), Store()
    recorded(nights, store, "n1", 1, prompt=HOSTILE)
    state = nights.read("n1")
    state["units"][1]["model"] = state["units"][1]["adapter"] = HOSTILE
    state["units"][1]["reason"] = {"name": "training_failed", "numbers": {"unit": 1, "why": HOSTILE}}
    state["units"][2]["selection"]["rater"]["alarms"] = [HOSTILE]
    state["units"][2]["selection"]["manifest"] = HOSTILE
    nights.write("n1", state)
    bare = [sections.Picture("data:,", HOSTILE)]
    pages = [
        write_night_report(nights, "n1", store.files.__getitem__, "en").read_text(),
        write_demo_report(nights, "n1", demo(store, HOSTILE, HOSTILE), store.files.__getitem__, "ja").read_text(),
        Page(HOSTILE, sections.before_after([ContactSheet(HOSTILE, bare, HOSTILE)], [HOSTILE])).html(),
    ]
    for page, least in zip(pages, (6, 8, 3), strict=True):
        elements = Elements(page)
        assert elements.tags["script"] == 0 and elements.handlers == []
        assert "onerror=alert(2)>" not in page and "<script" not in page
        assert sum(HOSTILE in words for words in elements.texts) >= least


def test_a_value_the_template_is_not_given_is_an_error():
    with pytest.raises(UndefinedError):
        render("page.html", page=Page("title"))


def test_lengths_of_time_are_said_in_both_languages():
    assert (duration(12.34), duration(754.2)) == ("12.3 s", "12 min 34 s")
    with catalogue.speaking("ja"):
        assert (duration(12.34), duration(61)) == ("12.3 秒", "1 分 01 秒")


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
        for place, language in enumerate(("en", "ja")):
            path = write_night_report(nights, "n2", store.files.__getitem__, language)
            page.goto(path.as_uri())
            headings = [heading.inner_text() for heading in page.query_selector_all("h2")]
            assert headings == [section[place] for section in SECTIONS]
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
    for heading in ("How far each unit moved", "The strangest", "Since the last night"):
        assert heading in dict(SECTIONS) and f"<h2>{heading}</h2>" not in text
    assert "Rolled back: the base model is in use." in text
