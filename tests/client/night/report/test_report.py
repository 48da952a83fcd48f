"""The report: a word for everything a night may record, every section once, readable in a browser without a network."""

import hashlib
import io
import json
import random
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from PIL import Image

from konomi.i18n import catalogue
from konomi.night import alarms
from konomi.night.engine.preparation import new_request
from konomi.night.guards import GuardSettings
from konomi.night.records.request import NightRequest
from konomi.night.records.store import NightStore
from konomi.night.records.trial import Trial
from konomi.night.report import sections, summary
from konomi.night.report.again import again
from konomi.night.report.facts import RejectedImages, UnitSelection, cost_of, last_night, lineage_of, read_night
from konomi.night.report.languages import joined
from konomi.night.report.page import ContactSheet, Page, Picture, duration, render
from konomi.night.report.render import write_demo_report, write_night_report
from konomi.night.report.status import summary_of
from konomi.night.report.thumbnails import Thumbnails
from konomi.night.report.truth import DemoFacts, TrueUnit
from konomi.night.systems.registry import night_settings
from konomi.night.verdict import BlindEvaluation
from konomi.taste.likes import Likes, Word
from konomi.v1 import rater_pb2

CHROMIUM = Path("/usr/bin/chromium")
SECTIONS = (
    ("What you like", "あなたの好み"),
    ("Your verdict", "あなたの判定"),
    ("What the rater warns of", "評価モデルの警告"),
    ("What changed", "何が変わったか"),
    ("Contact sheets", "一覧"),
    ("What was selected, and what was rejected and why", "選ばれたもの、外されたものとその理由"),
    ("The strangest", "いちばん変わったもの"),
    ("Since the last night", "前の夜からの変化"),
    ("What it cost", "かかったもの"),
    ("Where every unit came from", "各世代の由来"),
    ("The curves", "推移"),
    ("The units", "各世代"),
    ("How far each unit moved", "各世代がどれだけ動いたか"),
    ("Where the time went", "時間の内訳"),
    ("What these figures are, and are not", "この数字が示すもの、示さないもの"),
    ("Do it again", "もう一度"),
    ("Identifiers: every number that names something", "すべての識別子"),
)
FOLDED = ("The curves", "The units", "How far each unit moved", "Where the time went", SECTIONS[-1][0])


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
        phases=[("night", 40.0)],
    )


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_reason_of_rejection_has_words(language):
    reasons = [name.removeprefix("REJECTION_REASON_").lower() for name in rater_pb2.RejectionReason.keys()[1:]]
    away = [name.removeprefix("AVOIDANCE_REASON_").lower() for name in rater_pb2.AvoidanceReason.keys()[1:]]
    assert "unknown" in reasons and {*reasons, *away} <= set(alarms.FATES)
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
    assert (comparison.before.in_use, comparison.now.in_use) == (0, 4), "n1 was rolled back"
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


def tried(store: Store, far: bool = False, graded: int = 40, prompt: str = "a portrait") -> Trial:
    """Returns what a base model drew before a night."""
    share = figure(0.06 if far else 0.94)
    digests = tuple(store.put(600 + i) for i in range(16))
    fields = {"typical": share, "near_liked": share, "liked_distance": 0.4, "usual_distance": 0.2} if graded else {}
    return Trial(
        base="sdxl", digests=digests, prompts=(prompt,) * 16, graded_n=graded, liked_n=graded // 4, far=far, **fields
    )


TRIALS = (
    (True, 40, "The base model sdxl cannot draw this taste: of 16 trial images"),
    (False, 40, "The base model sdxl draws what you grade."),
    (False, 0, "too little is graded to say whether sdxl can draw this taste"),
)
"""Far from the taste or not, graded images, and what a report says of it."""


@pytest.mark.slow
def test_a_trial_before_the_night_is_shown_with_its_sentence_and_folded_figures(two_nights):
    nights, store = two_nights
    without = write_night_report(nights, "n2", store.files.__getitem__, "en").read_text()
    assert "The trial before the night" not in without
    for far, graded, said in TRIALS:
        nights.keep_trial("n2", tried(store, far, graded))
        html = write_night_report(nights, "n2", store.files.__getitem__, "en").read_text()
        assert "The trial before the night" in html and "夜の前の試し描き" in html and said in html
        assert html.count('alt="a portrait"') - without.count('alt="a portrait"') == 16, "each once, for every language"
        folds = html.split("<details")[1:]
        figures = [fold for fold in folds if "The trial in figures" in fold]
        assert len(figures) == bool(graded)
        if graded:
            assert "held against 40 graded ones" in figures[0] and "like what you graded: " in figures[0]


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
    nights.keep_trial("n1", tried(store, prompt=HOSTILE).changed(base=HOSTILE))
    bare = [Picture("data:,", HOSTILE)]
    liked = Likes(9, 20, (Word(HOSTILE, 1.0, 0.2, 5.0, 2.1, ()),), (), ())
    fetch, facts = store.files.__getitem__, demo(store, HOSTILE, HOSTILE)
    pages = [
        write_night_report(nights, "n1", fetch, "en", liked).read_text(),
        write_demo_report(nights, "n1", facts, fetch, "ja", liked).read_text(),
        Page(HOSTILE, sections.before_after([ContactSheet(HOSTILE, bare, HOSTILE)], [HOSTILE])).html(),
    ]
    for page, least in zip(pages, (8, 10, 3), strict=True):
        elements = Elements(page)
        assert elements.tags["script"] == 0 and elements.handlers == []
        assert "onerror=alert(2)>" not in page and "<script" not in page
        assert sum(HOSTILE in words for words in elements.texts) >= least


def test_a_value_the_template_is_not_given_is_an_error():
    with pytest.raises(UndefinedError):
        render("page.html", page=Page("title"))


def test_where_the_time_went_is_said_in_the_reports_language():
    said = []
    for language in ("en", "ja"):
        with catalogue.speaking(language):
            (fold,) = sections.times([("services", 3.0), ("night", 9.0)])
        said.append([row[0].value for row in fold.blocks[0].rows])
    assert said == [["starting the services", "the night"], ["サービスを起動中", "夜"]]


def test_lengths_of_time_are_said_in_both_languages():
    assert (duration(12.34), duration(754.2)) == ("12.3 s", "12 min 34 s")
    with catalogue.speaking("ja"):
        assert (duration(12.34), duration(61)) == ("12.3 秒", "1 分 01 秒")


@pytest.fixture
def browser():
    if not CHROMIUM.exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_browser_reads_the_report_in_each_language_without_a_network_and_without_a_complaint(two_nights, browser):
    nights, store = two_nights
    complaints: list[str] = []
    page = browser.new_context(offline=True).new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    path = write_night_report(nights, "n2", store.files.__getitem__, "ja", LIKED)
    page.goto(path.as_uri())
    for place, language in ((1, ""), (0, "en"), (1, "ja")):
        if language:
            page.locator(f"label[for=speak-{language}]").click()
        headings = [heading.inner_text() for heading in page.query_selector_all("h2")]
        assert headings == [section[place] for section in SECTIONS]
    page.locator("label[for=speak-en]").click()
    assert [fold.inner_text() for fold in page.query_selector_all("details.fold:not([open]) summary")] == list(FOLDED)
    for fold in page.query_selector_all("summary"):
        fold.click()
    jumps = "[...document.images].filter((image) => !image.getAttribute('height')).length"
    assert page.evaluate(jumps) == 0, "every picture has its size before it has loaded"
    for picture in page.query_selector_all("img"):
        picture.evaluate("(image) => { image.loading = 'eager'; }")
    page.wait_for_timeout(300)
    broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    assert page.evaluate("document.images.length") > 250 and page.evaluate(broken) == 0
    assert page.locator(".duel").count() == 20 and page.locator(".strange figure").count() == 6
    assert page.locator(".tree:visible .node.served text").first.text_content() == "unit-4"
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
        cut = "(tables) => tables.filter((table) => !table.closest('[role=region][tabindex][aria-label]')).length"
        assert page.eval_on_selector_all("table", cut) == 0, "a wide table can be scrolled, by keys too"
    assert complaints == []
    facts = json.loads((nights.home / "report" / "n2.json").read_text())
    assert facts["yesterday"]["before"]["served"] == 2 and facts["cost"]["gpu_hours"] == pytest.approx(80 / 3600)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_report(two_nights, browser, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    nights, store = two_nights
    path = write_night_report(nights, "n2", store.files.__getitem__, "en", LIKED)
    page = browser.new_context(bypass_csp=True, color_scheme=scheme).new_page()  # a report refuses scripts, axe is one
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    found = axe.run(page).response["violations"]
    assert not [(breach["id"], breach["nodes"][0]["html"][:160]) for breach in found]


LIKED = Likes(20, 120, (Word("pink hair", 1.0, 0.2, 5.0, 2.1, ()),), (Word("beard", 0.0, 0.8, 0.1, 0.4, ()),), ())


def first_screen(nights: NightStore, store: Store, night: str, language: str) -> str:
    """Returns the words of a report before its first section, in one language."""
    write_night_report(nights, night, store.files.__getitem__, language, LIKED)
    with catalogue.speaking(language):
        facts, cost = read_night(nights, night), cost_of(nights, night)
        figures = [f"{tile.name}: {tile.value} {tile.remark}" for tile in summary.tiles(facts, cost).tiles]
        liked = [block.words for block in summary.likes(LIKED, Thumbnails(store.files.__getitem__))]
        return "\n".join([summary.kicker(facts), *figures, *liked, *summary.outcome(facts).sentences])


@pytest.mark.slow
def test_the_first_screen_says_what_is_liked_what_changed_and_what_it_cost(two_nights):
    nights, store = two_nights
    state = nights.read("n2")
    state["units"][2]["scores"]["measures"] |= {"near_copies": 0.32, "near_copies_reference": 0.03}
    state["units"][2]["warnings"] = [{"name": "near_copies", "numbers": {"unit": 4, "share": 0.32, "chance": 0.03}}]
    nights.write("n2", state)
    began = read_night(nights, "n2").began.isoformat()
    assert first_screen(nights, store, "n2", "en").splitlines() == [
        f"default · Long tail · {began}",
        "In use after this night: unit-4 ",
        "pairs won against the base model, in the rater's eyes: 80 % ",
        "SSR or better, as the rater expects: 40 % was 20 %",
        "diversity kept: 83 % as if 10 different images, were 12 (Vendi score)",
        "nearly repeat an image it learnt from: 32 % 3 % of the base model's do so by chance",
        "time in all: 1 min 40 s 400 images · 5 MB",
        "What you like",
        "20 of 120 graded images are SSR or better. "
        "More often with pink hair (100 % of the liked, 20 % of the others). "
        "Less often with beard (0 % of the liked, 80 % of the others).",
        "unit-3 was promoted: in the rater's eyes it won 70 % of the pairs against the base model.",
        "unit-4 was promoted: in the rater's eyes it won 70 % of the pairs against unit-3.",
        "The night made all 2 units it was asked for.",
        "32 % of unit-4's images almost repeat an image it was trained on; 3 % of the base model's do by chance.",
    ]
    words = first_screen(nights, store, "n2", "ja")
    for said in (
        "この夜のあとに使うモデル: unit-4",
        "評価モデルから見て",
        "学んだ画像とほぼ同じ: 32 %",
        "多いのは pink hair",
    ):
        assert said in words
    assert "preferred" not in words and "選ばれ" not in words, "nobody judged it"


@pytest.mark.slow
def test_a_night_that_was_rolled_back_is_nowhere_said_to_serve_its_unit(two_nights):
    nights, store = two_nights
    lines = first_screen(nights, store, "n1", "en").splitlines()
    assert lines[1] == "In use after this night: the base model you rolled unit-2 back"
    assert not any(line.startswith("SSR or better") for line in lines), "these are not the figures of what is in use"
    assert "この夜のあとに使うモデル: 元のモデル unit-2 から戻しました" in first_screen(nights, store, "n1", "ja")
    told = summary_of(nights, "n1")
    assert (told.served.unit, told.in_use.unit, told.in_use.model) == (2, 0, "base")
    assert json.loads((nights.home / "report" / "n1.json").read_text())["in_use"] == {"unit": 0, "model": "base"}


def test_a_taste_nobody_named_is_no_heading(two_nights):
    facts = read_night(two_nights[0], "n2")
    unnamed = replace(facts, taste="0f4c1d2e-1111-4abc-8def-0123456789ab", system="longtail:2+golden:1")
    assert summary.kicker(unnamed) == f"Long tail → Golden · {facts.began.isoformat()}"


def test_the_command_that_does_it_again_has_every_option(tmp_path):
    settings = night_settings()(units=2, images=96, steps=100, budget_disk_gib=1.5)
    asked = new_request("converge", "tastes/blue", 7, settings, GuardSettings(units_per_night=4), ["a hat", "two hats"])
    command = again(replace(asked, id="n7"))
    assert command.line == (
        "KONOMI_NIGHT_STEPS=100 KONOMI_GUARD_UNITS_PER_NIGHT=4 konomi night start converge --taste blue --units 2 "
        "--images 96 --hours 12 --budget-images 50000 --disk 1.5 --seed 7 --prompts n7.prompts.txt"
    )
    command.write(tmp_path)
    assert (tmp_path / "n7.prompts.txt").read_text() == "a hat\ntwo hats\n"
    chain = again(new_request("longtail:2+golden:1", "tastes/t", 0, settings, GuardSettings(), ["a\nb"]))
    assert chain.line.startswith("KONOMI_NIGHT_STEPS=100 konomi night start longtail:2+golden:1 --taste t --images 96")
    assert "--units" not in chain.line and "--prompts" not in chain.line and "konomi night" not in chain.told()[1]


def test_parts_of_another_shape_in_another_language_are_an_error():
    assert str(joined({"en": "a <b>", "ja": "c"})) == "a <b> / c"
    assert joined({"en": "a <b>", "ja": "c"}).__html__() == (
        '<span class="w" lang="en">a &lt;b&gt;</span><span class="w" lang="ja">c</span>'
    )
    with pytest.raises(ValueError, match="the same parts in every language"):
        joined({"en": [1, 2], "ja": [1]})


@pytest.mark.slow
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
        assert heading in dict(SECTIONS) and f'lang="en">{heading}</span>' not in text
    assert "Rolled back: the base model is in use." in text and 'lang="en">What changed</span>' in text


def test_a_thumbnail_is_made_in_a_child_upright_of_every_kind_and_what_cannot_be_read_is_a_plain_picture():
    def encoded(kind: str, **fields) -> bytes:
        out = io.BytesIO()
        image = Image.new("RGB", (40, 20), (200, 30, 30))
        image.getexif()[0x0112] = 6  # lies on its side
        image.save(out, kind, exif=image.getexif(), **fields)
        return out.getvalue()

    files = {"jpeg": encoded("JPEG"), "avif": encoded("AVIF"), "tiff": encoded("TIFF"), "none": b"GIF89a no picture"}
    thumbnails = Thumbnails(files.__getitem__)
    for kind in ("jpeg", "avif", "tiff"):
        picture = thumbnails.picture(kind)
        assert picture.url.startswith("data:image/webp;base64,") and (picture.width, picture.height) == (20, 40), kind
    assert thumbnails.picture("none").url.startswith("data:image/svg+xml")
