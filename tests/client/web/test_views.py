"""Every view in a real browser: usable by everyone (axe), safe against what images say of themselves."""

import json
import uuid

import pytest

from konomi.client import connect_home
from konomi.night.systems.registry import SYSTEMS
from konomi.v1 import rater_pb2
from tests.client.web import recorded
from tests.client.web.site import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

VIEWS = ("rate", "pair", "pick", "library", "tail", "map", "taste", "night", "lineage", "add", "guide")
READY = {
    "rate": ".frame img",
    "pair": ".side img",
    "pick": ".nine img",
    "library": "[role=option] img:not([hidden])",
    "tail": ".tile img",
    "map": "svg.map circle",
    "taste": ".card, .sheet p",
    "night": ".blind img",
    "lineage": ".node.now",
    "add": ".drop",
    "guide": ".steps [data-graded]",
}
PAYLOADS = (
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    '"><svg onload=window.hit=1>',
    "'-window.hit=1-'",
    "javascript:window.hit=1",
    "</textarea><script>window.hit=1</script>",
    "{{constructor.constructor('window.hit=1')()}}",
    "${window.hit=1}",
    "<iframe srcdoc='<script>parent.hit=1</script>'>",
    "<a href=javascript:window.hit=1>x</a>",
    "<style>@import '//evil.example/x.css'</style>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "&lt;script&gt;window.hit=1&lt;/script&gt;",
    "\u202e<b>rtl</b>\u2028",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.hit=1>",
    "<object data=//evil.example></object>",
    "<form action=//evil.example><button>",
    "[[x]](//evil.example)",
    "%3Cscript%3Ewindow.hit=1%3C/script%3E",
)


@pytest.fixture(scope="module")
def hostile(site) -> list[str]:
    """Pictures whose prompts are attacks, and grades on some of them."""
    return site.fill(40, prompts=list(PAYLOADS), unit="<img src=x onerror=window.hit=1>", first=1000)


def opened(visit, view: str, digests: list[str], language: str, theme: str = "light"):
    page = visit("rate", language, theme, service_workers="block")  # else it hides requests from `play`
    recorded.play(page, digests)
    page.goto(page.url.partition("#")[0] + f"#{view}")
    page.evaluate(f"location.hash = '{view}'")
    page.wait_for_selector(READY[view])
    return page


@pytest.mark.parametrize("language", ["en", "ja"])
def test_axe_finds_nothing_in_any_view(site, visit, hostile, language):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(visit, "rate", hostile, language, "dark" if language == "ja" else "light")
    found = {}
    for view in VIEWS:
        page.evaluate(f"location.hash = '{view}'")
        page.wait_for_selector(READY[view])
        page.wait_for_timeout(150)
        found[view] = axe.run(page).response["violations"]
    page.evaluate("location.hash = 'library'")
    page.wait_for_selector(READY["library"])
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog .strip, dialog .small")
    found["detail"] = axe.run(page).response["violations"]
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.wait_for_selector("dialog.keys")
    found["keys"] = axe.run(page).response["violations"]
    told = {view: [(v["id"], v["nodes"][0]["html"][:120]) for v in all_of] for view, all_of in found.items() if all_of}
    assert not told, json.dumps(told, indent=1)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_night_is_planned_judged_and_rolled_back(site, visit, hostile, language):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(visit, "night", hostile, language)
    tiles = page.locator(".systems label")
    assert tiles.count() == len(SYSTEMS)
    assert {"en": "Long tail", "ja": "ロングテール"}[language] in tiles.nth(2).inner_text()
    page.locator("details summary").click()
    page.fill("#gpu_hours", "1")
    estimate = page.locator(".sheet button", has_text={"en": "Estimate", "ja": "見積もる"}[language])
    until(page, "document.getElementById('images').value === '96'")  # as the home's settings have it
    with page.expect_request("**/NightPlan") as asked:
        estimate.click()
    assert json.loads(asked.value.post_data) == {"system": "converge", "gpu_hours": 1}, (
        "what nobody changed is not sent"
    )
    page.fill("#units", "3")
    page.fill("#images", "320")
    page.wait_for_selector(".cards .card")
    assert {"en": "Accelerator hours", "ja": "アクセラレーター時間"}[language] in page.inner_text(".cards ~ .verdict")
    page.fill("#chain", "longtail:2 + golden:1")
    page.check("#contrast")
    with page.expect_request("**/NightPlan") as asked:
        estimate.click()
    said = {"system": "longtail:2+golden:1", "images": 320, "gpu_hours": 1, "contrast": 0.5}
    assert json.loads(asked.value.post_data) == said
    page.locator(".blind .side").first.click()
    page.wait_for_selector(".decide .primary")
    assert {"en": "surely loses", "ja": "負けています"}[language] in page.inner_text(".sheet")
    found = axe.run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"][:160]) for one in found]
    page.locator(".decide .primary").click()
    page.wait_for_selector(".decide:not(:has(button))")
    assert {"en": "Rolled back to", "ja": "に戻しました"}[language] in page.inner_text(".decide")


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_night_shows_what_it_makes_while_it_runs_and_can_be_paused(site, visit, hostile, language):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(visit, "rate", hostile, language)
    answers = {"NightStatus": recorded.under_way(hostile, 0), "NightLog": {"lines": ["first", "<b>last</b>"]}}
    for name in answers:
        address = f"**/konomi.page/{name}"
        page.route(address, lambda route: route.fulfill(json=answers[route.request.url.rpartition("/")[2]]))
    page.evaluate("location.hash = 'night'")
    page.wait_for_selector(".live progress")
    shown = page.inner_text(".sheet")
    for words in {
        "en": ("about 13 min left", "A pause loses nothing", "Not chosen for unit-1", "7 · unlike anything known"),
        "ja": ("残りおよそ 13 分", "一時停止で失うものはありません", "unit-1 の学習に選ばれなかった画像"),
    }[language]:
        assert words in shown
    assert page.locator("h2 + .strip img").count() >= 12, "the images made last"
    first = page.locator("h2 + .strip img").first.get_attribute("src")
    log = page.locator(".live button[aria-expanded]")
    log.click()
    until(page, "document.querySelector('pre.log').textContent === 'first\\n<b>last</b>'")
    log.focus()
    answers["NightStatus"] = recorded.under_way(hostile, 6)
    until(page, f"document.querySelector('h2 + .strip img').getAttribute('src') !== {json.dumps(first)}")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true", "the focus stays"
    found = axe.run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"][:160]) for one in found]
    answers["NightStatus"]["night"]["stopping"] = True
    page.route("**/konomi.page/NightStop", lambda route: route.fulfill(json={"night": recorded.NIGHT}))
    page.locator(".live button").first.click()
    page.wait_for_selector({"en": "text=Pausing after the step", "ja": "text=一時停止します"}[language])
    paused = recorded.status(hostile)
    paused["night"] |= {"state": "stopped"}
    answers["NightStatus"] = paused
    page.locator("button.primary", has_text={"en": "Resume", "ja": "再開"}[language]).wait_for()
    assert {"en": "Paused: nothing is lost", "ja": "失ったものはありません"}[language] in page.inner_text(".live")


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_night_that_was_rolled_back_is_not_said_to_be_in_use(site, visit, hostile, language):
    page = opened(visit, "rate", hostile, language)
    told = recorded.status(hostile)
    told["night"] |= {"in_use": {"unit": 0, "model": "base"}}
    page.route("**/konomi.page/NightStatus", lambda route: route.fulfill(json=told))
    page.evaluate("location.hash = 'night'")
    page.wait_for_selector(".live .big")
    big = page.inner_text(".live .big")
    assert "unit-3" not in big and {"en": "Base model", "ja": "元のモデル"}[language] in big
    assert {"en": "You rolled unit-3 back.", "ja": "unit-3 から戻しました。"}[language] in page.inner_text(".live")
    now = {"en": "In use now: unit-3", "ja": "いま使用中: unit-3"}[language]
    page.wait_for_selector(f"text={now}")  # it was chosen under Lineage since


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_checkpoint_of_its_fit_a_unit_was_kept_at_is_said_with_the_night_and_in_the_lineage(
    site, visit, hostile, language
):
    page = opened(visit, "rate", hostile, language)
    told, models = recorded.status(hostile), recorded.models()
    told["night"]["figures"][3] |= {"checkpoints": recorded.checkpoints()}
    models["models"][0] |= {"night": recorded.NIGHT}
    page.route("**/konomi.page/NightStatus", lambda route: route.fulfill(json=told))
    page.route("**/konomi.v1.TrainerService/ListModels", lambda route: route.fulfill(json=models))
    kept = {"en": "step 80 of 160", "ja": "80 / 160 ステップ"}[language]
    page.evaluate("location.hash = 'night'")
    page.wait_for_selector("th small")
    assert page.locator("th small").all_inner_texts() == [kept], "of one unit alone"
    page.evaluate("location.hash = 'lineage'")
    page.wait_for_selector(f"dd:text('{kept}')")
    assert {"en": "Training kept", "ja": "残した学習"}[language] in page.inner_text(".facts")


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_night_is_asked_for_by_base_prompts_and_pictures_and_shows_what_its_base_draws(
    site, visit, hostile, language
):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(visit, "rate", hostile, language)
    none = {"images": [], "totalSize": 0}  # whatever the tests before graded
    page.route("**/konomi.v1.RaterService/ListImages", lambda route: route.fulfill(json=none))
    page.evaluate("location.hash = 'night'")
    page.wait_for_selector("#base option:nth-child(2)", state="attached")
    lacks = page.locator(".systems label .lack").all_inner_texts()
    assert len(lacks) == 3, "golden, propagate and concepts say what they lack before they are clicked"
    words = json.dumps(recorded.trial(hostile, warning=True))
    page.route("**/konomi.page/NightTrial", recorded.spoken(words))
    started: list[dict] = []
    page.route(
        "**/konomi.page/NightStart",
        lambda route: (started.append(json.loads(route.request.post_data)), route.fulfill(json={"night": "n"})),
    )
    page.select_option("#base", "sdxl")
    assert "whatever a prompt says" in page.inner_text(".sheet")
    page.locator("button.primary", has_text={"en": "Start the night", "ja": "夜を始める"}[language]).click()
    page.wait_for_selector(".told .verdict")
    assert "sdxl cannot draw this taste" in page.inner_text(".told") and not started
    assert page.locator(".told .samples img").count() == 16
    found = axe.run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"][:160]) for one in found]
    page.locator(".told button").click()
    until(page, "!document.querySelector('.told .verdict')")
    assert started[0]["anyway"] is True and started[0]["base"] == "sdxl"


def test_prompts_are_kept_and_a_concept_is_its_word_its_class_and_its_pictures(site, visit, hostile):
    with connect_home(site.home.root) as client:
        labels = [rater_pb2.Label(image_digest=digest, grade=rater_pb2.GRADE_UR) for digest in hostile[:2]]
        client.rater.record_labels(taste="tastes/default", labels=labels, request_id=str(uuid.uuid4()))
        liked = rater_pb2.ImageFilter(grades=[rater_pb2.GRADE_SSR, rater_pb2.GRADE_UR])  # other tests grade here too
        listed = client.rater.list_images(taste="tastes/default", filter=liked, page_size=1000).images
    page = opened(visit, "night", hostile, "en")
    kept: list[dict] = []

    def keep(route):
        kept.append(json.loads(route.request.post_data))
        route.fulfill(json={"prompts": kept[-1]["prompts"], "origin": "kept"})

    page.route("**/konomi.page/TastePromptsKeep", keep)
    page.wait_for_selector("#prompts")
    page.fill("#prompts", "a temple\n\n a cat ")
    page.locator("button", has_text="Keep these prompts").click()
    until(page, "document.querySelector('#toast').textContent === 'Kept'")
    assert kept == [{"taste": "tastes/default", "prompts": ["a temple", "a cat"]}]
    started: list[dict] = []
    page.route("**/konomi.page/NightTrial", recorded.spoken('{"needed": false, "warning": false}'))
    page.route(
        "**/konomi.page/NightStart",
        lambda route: (started.append(json.loads(route.request.post_data)), route.fulfill(json={"night": "n"})),
    )
    page.locator(".systems label", has_text="Concepts").click()
    page.fill("#concept_word", "tama")
    page.fill("#concept_class", "cat")
    page.locator(".samples button").first.click()
    assert page.locator(".samples button[aria-pressed=true]").count() == 1
    page.locator("button.primary", has_text="Start the night").click()
    until(page, "!document.querySelector('.told p')")
    (concept,) = started[0]["concepts"]
    assert (concept["word"], concept["class"]) == ("tama", "cat") and concept["images"][0] in {
        image.digest for image in listed
    }


def test_what_an_image_says_of_itself_is_never_markup(site, visit, hostile):
    page = visit("rate", service_workers="block")
    heard: list[str] = []
    page.on("dialog", lambda dialog: (heard.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda r: None if r.url.startswith((site.address, "data:", "blob:")) else heard.append(r.url))
    page.evaluate("addEventListener('securitypolicyviolation', (e) => { window.broken = e.violatedDirective; })")
    recorded.play(page, hostile)
    seen = set()
    for view in VIEWS:
        page.evaluate(f"location.hash = '{view}'")
        page.wait_for_selector(READY[view])
        if view == "library":
            for place in range(0, 40, 3):
                page.evaluate(f"document.querySelector('.scroller').scrollTop = {place * 60}")
                page.wait_for_timeout(40)
                seen |= set(page.evaluate("[...document.querySelectorAll('[role=option]')].map((e) => e.ariaLabel)"))
            page.keyboard.press("Enter")
            page.wait_for_selector("dialog .facts")
            page.wait_for_timeout(300)
            page.keyboard.press("Escape")
        for _ in range(6 if view in ("rate", "pair") else 0):
            page.keyboard.press("Space")
            page.wait_for_timeout(60)
        assert page.evaluate("[window.hit, window.broken]") == [None, None], view
    assert not heard
    assert len([name for name in seen if "hit=1" in name]) >= 10, "the attacks were on the screen, as text"
    assert page.evaluate("document.querySelectorAll('main script, main iframe, main object, main style').length") == 0


def test_markup_from_text_is_refused_by_the_browser_itself(visit):
    page = visit("rate", strict=False)
    refused = page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; return 'made'; } catch (error) { return error.name; } }"
    )
    assert refused == "TypeError", "trusted types are enforced"


def test_an_image_is_looked_for_by_its_file_and_its_name_is_copied(visit):
    page = visit("library", permissions=["clipboard-read", "clipboard-write"])
    page.wait_for_selector(READY["library"])
    page.fill("#by-file", "set 1/img_0007")
    until(page, "document.querySelector('[role=option]')?.getAttribute('aria-setsize') === '1'")
    assert page.locator("[role=option]").first.get_attribute("title") == "set 1/IMG_0007.jpg"
    page.locator(".scroller").focus()
    page.keyboard.press("Enter")
    page.locator("dialog .facts dd button").click()
    until(page, "document.getElementById('toast').textContent === 'Copied: IMG_0007.jpg'")
    assert page.evaluate("navigator.clipboard.readText()") == "IMG_0007.jpg"
    assert "set 1/IMG_0007.jpg" in page.locator("dialog .facts").last.inner_text()


@pytest.mark.parametrize("language", ["en", "ja"])
def test_on_a_window_of_middle_width_the_head_is_one_row_and_the_filters_fold(visit, language):
    tastes = {
        "tastes": [
            {"name": f"tastes/{name}", "imageCount": "200"} for name in ("default", "landscapes-of-mine-in-autumn")
        ]
    }
    page = visit("library", language, viewport={"width": 960, "height": 600}, service_workers="block")
    page.route("**/konomi.v1.RaterService/ListTastes", recorded.spoken(json.dumps(tastes)))
    page.reload()
    page.wait_for_selector("#choose-taste")
    page.wait_for_selector(READY["library"])
    assert page.evaluate("document.getElementById('top').offsetHeight") < 80
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    rows = "document.querySelector('.scroller').clientHeight / document.querySelector('[role=option]').clientHeight"
    assert page.evaluate(rows) > 1.5, "the pictures are what is seen first"
    assert not page.locator("#by-file").is_visible()
    page.locator("details.more summary").click()
    assert page.locator("#by-file").is_visible()
    grades, filters = (page.locator(one).first.bounding_box() for one in (".filters .group", "details.more"))
    assert filters["y"] >= grades["y"] + grades["height"], "opened they have rows of their own, below the grades"
    assert filters["x"] <= grades["x"] and filters["width"] > 800


def test_a_hundred_thousand_places_can_be_jumped_through(visit):
    """The grid itself: few cells whatever the number, and the last index is one jump away."""
    page = visit("library", strict=False, service_workers="block")
    page.wait_for_selector(READY["library"])
    page.route("**/konomi.v1.RaterService/ListImages", lambda route: route.fulfill(body=json.dumps(_page_of(route))))
    page.click(".filters .toggle")
    until(page, "document.querySelector('[role=option]').getAttribute('aria-setsize') === '100000'")
    page.fill("#jump-to", "99990")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('[aria-selected=true]')?.ariaLabel?.startsWith('99990: number 99989')")
    assert page.evaluate("document.querySelectorAll('[role=option]').length") < 200


STEADILY = """([pixels, last]) => new Promise((done) => {
  const field = document.querySelector(".scroller");
  const step = () => {
    field.scrollTop += pixels;
    const cell = document.querySelector(`${last}:not([hidden])`);
    const there = cell && cell.getBoundingClientRect().top < field.getBoundingClientRect().bottom;
    if (there) done(); else requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})"""
"""Scrolls without a rest until a picture is in sight."""


def test_what_a_steady_hand_scrolls_to_is_asked_for_before_it_is_in_sight(visit):
    page = visit("library", strict=False, service_workers="block")
    page.wait_for_selector(READY["library"])
    asked: list[int] = []

    def answer(route) -> None:
        asked.append(json.loads(route.request.post_data).get("skip", 0))
        route.fulfill(body=json.dumps(_page_of(route)))

    page.route("**/konomi.v1.RaterService/ListImages", answer)
    page.click(".filters .toggle")
    until(page, "document.querySelector('[role=option]').getAttribute('aria-setsize') === '100000'")
    asked.clear()
    page.evaluate(STEADILY, [20, "[aria-posinset='115']"])
    assert asked == [120], "asked for before the first of them is there, by a hand that does not rest"
    page.evaluate(STEADILY, [20, "[aria-posinset='180']"])
    bare = (
        "[...document.querySelectorAll('[role=option]:not([hidden])')].filter((one) => !/number/.test(one.ariaLabel))"
    )
    until(page, f"{bare}.length === 0")


def _page_of(route) -> dict:
    asked = json.loads(route.request.post_data)
    first = asked.get("skip", 0)
    images = [
        {"digest": f"{n:064x}", "prompt": f"number {n}"} for n in range(first, min(100_000, first + asked["pageSize"]))
    ]
    return {"images": images, "totalSize": "100000"}


@pytest.mark.parametrize("missing", ["ja.json", "languages.json"])
def test_a_page_that_cannot_have_its_language_speaks_english(site, chromium, missing):
    context = chromium.new_context(service_workers="block")
    context.add_init_script("localStorage.setItem('konomi.language', 'ja')")
    context.route(f"**/i18n/{missing}", lambda route: route.abort())
    page = context.new_page()
    page.goto(site.link("taste"))
    page.wait_for_selector(READY["taste"])
    assert "Grade" in page.inner_text("nav") and page.title()
    context.close()


@pytest.mark.parametrize(
    ("language", "words"), [("en", ("is used", "is not used")), ("ja", ("使っています", "使っていません"))]
)
def test_the_page_says_what_a_population_added_to_the_rater_that_scores(visit, language, words):
    uses = [
        {"name": "populations/<b>friends", "used": True, "srcc": 0.61, "srccWithout": 0.52, "gain": {"n": "20"}},
        {"name": "populations/strangers", "srcc": 0.4, "srccWithout": 0.5, "gain": {"n": "20"}},
    ]
    version = {"name": "tastes/default/raterVersions/1", "active": True, "labelCount": "20", "populations": uses}
    page = visit("rate", language, service_workers="block")
    answer = recorded.spoken(json.dumps({"raterVersions": [version]}))
    page.route("**/konomi.v1.RaterService/ListRaterVersions", answer)
    page.evaluate("location.hash = 'taste'")
    page.wait_for_selector(".prior")
    used, dropped = page.locator(".prior").all_inner_texts()
    assert words[0] in used and "<b>friends" in used and "0.61" in used and "0.52" in used
    assert words[1] in dropped and "strangers" in dropped


def test_on_a_phone_the_head_is_two_rows_however_many_tastes(site, visit):
    tastes = {"tastes": [{"name": f"tastes/{name}", "imageCount": "200"} for name in ("default", "landscapes-of-mine")]}
    page = visit("rate", viewport={"width": 390, "height": 844}, service_workers="block")
    page.route("**/konomi.v1.RaterService/ListTastes", recorded.spoken(json.dumps(tastes)))
    page.reload()
    page.wait_for_selector("#choose-taste")
    mark, tools, views = (page.locator(f"#top > {one}").bounding_box() for one in (".mark", ".tools", "nav"))
    assert abs(mark["y"] + mark["height"] / 2 - tools["y"] - tools["height"] / 2) < 8 and tools["x"] > mark["width"]
    assert views["y"] >= tools["y"] + tools["height"] - 1 and views["y"] + views["height"] < 120
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#help").click()
    page.select_option("#choose-theme-here", "dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark", "the theme is chosen beside the keys"


def test_a_library_that_cannot_be_had_says_so_in_its_place_and_tries_again(site, visit):
    page = visit("rate", strict=False, service_workers="block")
    address, refused = "**/konomi.v1.RaterService/ListImages", {"code": "internal", "message": "no room"}
    page.route(address, lambda route: route.fulfill(status=500, json=refused))
    page.evaluate("location.hash = 'library'")
    page.wait_for_selector(".found .failed")
    assert "no room" in page.inner_text(".found .failed")
    page.wait_for_timeout(500)  # nothing is asked anew by itself: the button stays where a hand reaches for it
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "ListImages" in request.url else None)
    page.wait_for_timeout(500)
    assert not asked
    page.unroute(address)
    page.locator(".found .failed button").click()
    page.wait_for_selector("[role=option] img:not([hidden])")
    assert not page.locator(".found .failed").count()


def test_the_page_says_which_of_two_embedders_serves_the_taste(visit):
    beside = {"embedder": "starter", "second": "timm:x", "labelCount": "40"}
    version = {"name": "tastes/default/raterVersions/1", "active": True, "embedderComparison": beside}
    page = visit("rate", "en", service_workers="block")
    page.route("**/konomi.v1.RaterService/ListRaterVersions", recorded.spoken(json.dumps({"raterVersions": [version]})))
    sentences = {"alarms": [], "embedders": ["on 40 grades", "<b>timm:x serves this taste better"]}
    page.route("**/konomi.page/RaterAlarms", recorded.spoken(json.dumps(sentences)))
    page.evaluate("location.hash = 'taste'")
    page.wait_for_selector(".prior")
    assert page.locator(".prior").all_inner_texts() == sentences["embedders"]
