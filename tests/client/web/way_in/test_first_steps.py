"""The way in, in a real browser: forty pictures dropped, thirty graded by keys, what is next; looking closer."""

import base64
import io
import json
import time
import uuid

import pytest
from PIL import Image

from konomi.client import connect_home
from konomi.v1 import rater_pb2 as rater
from tests.client.web import recorded
from tests.client.web.grading.test_grading import press, shown
from tests.client.web.site import picture, until
from tests.client.web.test_search import taste_of
from tests.client.web.test_views import PAYLOADS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

DROP = """([files, kind]) => {
  const transfer = new DataTransfer();
  for (const [name, data] of Object.entries(files)) {
    transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
  }
  const event = kind === "drop" ? new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true })
    : new ClipboardEvent(kind, { clipboardData: transfer, bubbles: true, cancelable: true });
  document.querySelector("main").dispatchEvent(event);
}"""
LARGE = """() => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(32 * 2 ** 20 + 1)], "large.png"));
  document.querySelector("main").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""
NOW = "document.querySelector('.now')?.textContent"
SUM = "document.querySelector('.sum')?.textContent"


def taste(site, name: str) -> str:
    """Makes a taste without pictures, as a fresh home has one, and returns the view that opens it."""
    with connect_home(site.home.root) as client:
        client.rater.ensure_taste(name)
    return f"rate&taste={name}"


def drop(page, files: dict[str, bytes], kind: str = "drop") -> None:
    page.evaluate(DROP, [{name: base64.b64encode(data).decode() for name, data in files.items()}, kind])


def test_from_no_pictures_to_thirty_grades(site, visit):
    page = visit(taste(site, "first"))
    until(page, f"{NOW}?.includes('bring your pictures')")
    assert page.url.endswith("#guide") and page.locator(".meanings dt").count() == 5
    drop(page, {f"{seed}.png": picture(seed, 96) for seed in range(7000, 7040)})
    until(page, f"{SUM}?.includes('40 pictures added')", 120)
    until(page, f"{NOW}.includes('an eye') || {NOW}.includes('grade about')")
    if page.locator("[data-eye=keep]").count():
        page.click("[data-eye=keep]")
    until(page, f"{NOW}.includes('grade about 30')")
    page.click("[data-step=grade] a")
    shown(page)
    graded = set()
    while len(graded) < 30:  # one may be shown again to check on its grade, which is no new one
        graded.add(press(page, str(len(graded) % 5 + 1)))
    until(page, "document.querySelector('a.count')?.innerText === 'First steps: 30 of 30 grades'")
    page.click("a.count")
    until(page, f"{NOW}?.includes('let the rater learn')")
    assert page.inner_text("[data-graded]") == "30 of 30 graded"
    page.locator("[data-step=grade] button.primary").click()
    until(page, f"{NOW}.includes('start a night')", 120)
    with connect_home(site.home.root) as client:
        about = client.rater.get_taste(name="tastes/first")
    assert (about.image_count, about.label_count, bool(about.active_rater_version)) == (40, 30, True)
    page.locator(".guide button.plain", has_text="Skip").click()
    shown(page)
    page.keyboard.press("?")
    page.locator("dialog a").click()
    page.wait_for_selector(".steps")


def test_an_eye_at_hand_is_taken_by_a_button(site, visit):
    page = visit(taste(site, "eyed"), service_workers="block")  # else it hides requests from `route`
    page.wait_for_selector(".drop")
    drop(page, {f"{seed}.png": picture(seed, 96) for seed in range(7100, 7112)})
    until(page, f"{SUM}?.includes('12 pictures added')", 120)
    advice = {"embedder": "starter", "foreign_share": 1, "n": 12, "change": True, "offers": []}
    lines = ["pip install 'konomi[offline]'", "konomi rater embedder NAME"]
    page.route("**/konomi.page/EmbedderAdvice", recorded.spoken(json.dumps(advice | {"lines": lines})))
    page.reload()
    page.wait_for_selector("[data-step=eye] pre")
    assert page.inner_text("[data-step=eye] pre").splitlines() == lines
    assert page.locator("[data-step=eye] button").count() == 1, "nothing is installed by itself"
    page.unroute("**/konomi.page/EmbedderAdvice")
    page.reload()
    page.wait_for_selector("[data-step=eye] .primary")
    page.locator("[data-step=eye] .primary").click()
    until(page, f"!{NOW}.includes('an eye')", 120)
    with connect_home(site.home.root) as client:
        assert client.rater.get_taste(name="tastes/eyed").embedder != "starter"


def test_where_the_eye_is_chosen_the_step_is_said_before_the_pictures_were_looked_at(site, visit):
    taste_of(site, "tastes/early", "timm:tf_efficientnet_lite0", 6)
    page = visit("rate&taste=early", service_workers="block")
    page.wait_for_selector("main :not(.quiet)")
    held = []
    page.route("**/konomi.page/EmbedderAdvice", lambda route: held.append(route))  # looking takes long: no answer yet
    page.evaluate("localStorage.setItem('konomi.eye', 'tastes/early')")
    page.goto(page.url.partition("#")[0] + "#guide")
    page.reload()
    until(page, f"{NOW}?.includes('grade about 30')")
    assert len(held) == 1, "asked, and not waited for"
    held[0].continue_()


def test_a_home_without_any_taste_gets_one_and_the_first_steps(visit):
    page = visit("taste", service_workers="block")
    asked = []
    page.route("**/konomi.v1.RaterService/ListTastes", lambda route: route.fulfill(json={}))
    page.route(
        "**/konomi.v1.RaterService/CreateTaste",
        lambda route: (asked.append(route.request.post_data_json), route.fulfill(json={})),
    )
    page.evaluate("location.hash = 'rate'")
    page.reload()
    page.wait_for_selector(".steps")
    assert [one["tasteId"] for one in asked] == ["default"]


def test_pictures_are_pasted_and_dropped_anywhere_and_refused_by_name_as_text(site, visit):
    page = visit(taste(site, "pasted").replace("rate", "library"))
    page.wait_for_selector(".library .next a")
    heard = []
    page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
    names = [f"{payload.replace('/', '|')}.png" for payload in PAYLOADS]
    drop(page, {"image.png": picture(7200), **dict.fromkeys(names, b"no picture")}, "paste")
    until(page, f"{SUM}?.includes('1 picture added')", 60)
    assert page.url.endswith("#add")
    page.locator(".way summary").click()
    listed = page.locator(".named li").all_inner_texts()
    assert len(listed) == len(names) and all(any(name in line for line in listed) for name in names[:5])
    assert page.evaluate("[window.hit ?? null, document.querySelectorAll('main script, main iframe').length]") == [
        None,
        0,
    ]
    drop(page, {"image.png": picture(7200), ".DS_Store": b"x"})
    until(page, f"{SUM}?.includes('1 known already')", 60)
    assert not heard


def test_a_file_that_is_too_large_is_not_even_sent(site, visit):
    page = visit("add")
    page.wait_for_selector(".drop")
    page.evaluate(LARGE)
    page.wait_for_selector(".way summary")
    page.locator(".way summary").click()
    assert page.locator(".named li").all_inner_texts() == [
        "large.png: expected at most 32 MiB, got more; shrink it first"
    ]


PASTED = """([tag, kinds]) => {
  const field = document.createElement(tag);
  document.querySelector("main").append(field);
  const transfer = new DataTransfer();
  if (kinds.includes("text")) transfer.setData("text/plain", "words");
  if (kinds.includes("file")) transfer.items.add(new File([new Uint8Array(4)], "picture.png"));
  const event = new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
  const goesOn = field.dispatchEvent(event);
  field.remove();
  return goesOn;
}"""


@pytest.mark.parametrize("tag", ["input", "textarea"])
def test_words_that_also_come_as_a_picture_stay_words_where_one_writes(site, visit, tag):
    page = visit("library", service_workers="block")
    begun = []
    page.route("**/konomi.page/UploadBegin", lambda route: (begun.append(1), route.abort()))
    assert page.evaluate(PASTED, [tag, ["text", "file"]]), "the browser puts the words into the field"
    assert page.evaluate(PASTED, [tag, ["text"]])
    page.wait_for_timeout(100)
    assert not begun and page.url.endswith("#library")
    assert not page.evaluate(PASTED, ["p", ["text", "file"]]), "elsewhere it is a picture"
    until(page, "location.hash === '#add'")


STATE = """upload => fetch("/konomi.page/UploadStatus", {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ upload }),
}).then(answer => answer.json()).then(status => status.state)"""


def test_leaving_the_page_gives_the_upload_up(site, visit):
    page = visit(taste(site, "left"), service_workers="block", strict=False)
    page.wait_for_selector(".drop")
    other = page.context.new_page()
    other.goto(page.url)
    page.route("**/konomi.page/UploadFile/**", lambda route: None)  # never answered: the files are on their way
    with page.expect_response("**/konomi.page/UploadBegin") as begun, page.expect_request("**/UploadFile/**"):
        drop(page, {"a.png": picture(7300)})
    upload = begun.value.json()["upload"]
    assert other.evaluate(STATE, upload) == "receiving"
    page.goto("about:blank")
    deadline = time.monotonic() + 60
    while other.evaluate(STATE, upload) != "stopped":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_file_that_came_though_its_answer_was_lost_is_taken(site, visit):
    page = visit(taste(site, "lost"), service_workers="block", strict=False)
    page.wait_for_selector(".drop")
    tried = []

    def lose(route):
        tried.append(route.request.headers["x-konomi-name"])
        answer = route.fetch()
        if len(tried) == 1:
            route.abort()
        else:
            assert answer.status == 409
            route.fulfill(response=answer)

    page.route("**/konomi.page/UploadFile/**", lose)
    drop(page, {"a.png": picture(7310)})
    until(page, f"{SUM}?.includes('1 picture added')", 60)
    assert tried == ["a.png", "a.png"]
    assert page.locator(".named li").count() == 0 and "refused" not in page.inner_text(".way")


def test_every_empty_view_leads_to_the_next_step(site, visit):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(taste(site, "bare").replace("rate", "add"), service_workers="block")
    page.route("**/konomi.v1.TrainerService/ListModels", lambda route: route.fulfill(json={}))
    none = {"nights": [], "night": None}  # as on a fresh home: other tests leave nights in this one
    page.route("**/konomi.page/NightStatus", lambda route: route.fulfill(json=none))
    bases = {"bases": [], "chosen": "starter", "golden_minimum": 8}  # no generator runs here
    page.route("**/konomi.page/NightBases", lambda route: route.fulfill(json=bases))
    found = {}
    for view in ("rate", "pair", "pick", "library", "tail", "taste", "night", "lineage"):
        page.evaluate(f"location.hash = '{view}'")
        until(page, f"document.body.dataset.view === '{view}' && document.querySelector('.next a')")
        assert page.get_attribute(".next a", "href") == "#add", view
        found[view] = [(one["id"], one["nodes"][0]["html"][:160]) for one in axe.run(page).response["violations"]]
    assert not {view: faults for view, faults in found.items() if faults}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_where_pairs_alone_were_said_the_buttons_say_pairs(site, visit, language):
    name = f"pairs-{language}"
    taste_of(site, f"tastes/{name}", "timm:tf_efficientnet_lite0", 6)
    with connect_home(site.home.root) as client:
        asked = client.rater.list_images(taste=f"tastes/{name}", page_size=6)
        digests = [image.digest for image in asked.images]
        pairs = [(a, b) for place, a in enumerate(digests) for b in digests[:place]][:11]
        for winner, loser in pairs:
            compared = rater.Comparison(winner_digest=winner, loser_digest=loser)
            client.rater.record_comparison(taste=f"tastes/{name}", comparison=compared, request_id=str(uuid.uuid4()))
    page = visit(f"taste&taste={name}", language)
    words = {"en": "Learn from 11 pairs", "ja": "11 組の比較から学ぶ"}[language]
    until(page, f"document.querySelector('button.primary')?.textContent === '{words}'")
    page.evaluate("location.hash = 'guide'")
    until(page, "document.querySelector('[data-pairs]')?.dataset.pairs === '11'")
    assert page.get_by_role("button", name=words).count() == 1
    assert page.get_by_role("button", name=words).is_enabled()


def large(colour: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (1600, 1200), colour).save(out, "JPEG")
    return out.getvalue()


SCALES = "[...document.querySelectorAll('.zoomable img')].map((e) => new DOMMatrix(getComputedStyle(e).transform))"


def test_a_pair_is_looked_at_closely_side_by_side(site, visit):
    page = visit(taste(site, "closer"))
    page.wait_for_selector(".drop")
    drop(page, {"a.jpg": large((200, 30, 30)), "b.jpg": large((30, 30, 200))})
    until(page, f"{SUM}?.includes('2 pictures added')", 120)
    page.evaluate("location.hash = 'pair'")
    until(page, "document.querySelectorAll('.side img').length === 2")
    count = len(comparisons(site))
    page.keyboard.press("x")
    scale, other = page.evaluate(f"{SCALES}.map((m) => m.a)")
    box = page.evaluate(
        "(() => { const e = document.querySelector('.side img'); return [e.offsetWidth, e.offsetHeight]; })()"
    )
    assert scale == other == pytest.approx(1 / min(box[0] / 1600, box[1] / 1200), rel=0.01), "a pixel is a pixel"
    left = page.locator(".side").first.bounding_box()
    page.mouse.move(left["x"] + 100, left["y"] + 100)
    page.mouse.down()
    page.mouse.move(left["x"] + 60, left["y"] + 80, steps=4)
    page.mouse.up()
    moves = page.evaluate(f"{SCALES}.map((m) => [Math.round(m.e), Math.round(m.f)])")
    assert moves[0] == moves[1] == [-40, -20], "both move together"
    assert len(comparisons(site)) == count, "a drag chooses nothing"
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate(f"{SCALES}.map((m) => Math.round(m.e))") == [-100, -100]
    page.keyboard.press("x")
    assert page.evaluate(f"{SCALES}.map((m) => m.a)") == [1, 1]


def comparisons(site) -> list[str]:
    from pysqlite3 import dbapi2

    with dbapi2.connect(site.home.root / "databases" / "rater.sqlite") as connection:
        return connection.execute("SELECT winner FROM comparisons_standing").fetchall()


PINCH = """() => { const frame = document.querySelector('.frame');
  const { left, top, width, height } = frame.getBoundingClientRect();
  const send = (kind, id, x) => frame.dispatchEvent(new PointerEvent(kind, { pointerId: id, isPrimary: id === 1,
    pointerType: 'touch', clientX: left + width / 2 + x, clientY: top + height / 2, bubbles: true }));
  send('pointerdown', 1, -20); send('pointerdown', 2, 20);
  for (let x = 20; x <= 60; x += 10) { send('pointermove', 1, -x); send('pointermove', 2, x); }
  send('pointerup', 1, -60); send('pointerup', 2, 60); }"""


def test_two_fingers_look_closer_and_grade_nothing(site, visit):
    page = visit("rate", viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    digest, count = shown(page), len(site.labels())
    assert page.locator(".swipe-hint").is_visible()
    page.evaluate(PINCH)
    assert page.evaluate(f"{SCALES}[0].a") == pytest.approx(3.0, rel=0.05)
    page.wait_for_timeout(200)
    assert shown(page) == digest and len(site.labels()) == count


@pytest.mark.parametrize(("width", "height"), [(390, 780), (390, 600), (720, 450)])
def test_the_grades_are_never_below_the_fold(visit, width, height):
    page = visit("rate", viewport={"width": width, "height": height})
    shown(page)
    below = page.evaluate("document.querySelector('.grades').getBoundingClientRect().bottom - innerHeight")
    assert below <= 0
    page.evaluate("location.hash = 'pair'")
    until(page, "document.querySelectorAll('.side img').length === 2")
    first, second = (page.locator(".side").nth(place).bounding_box() for place in (0, 1))
    assert (second["y"] >= first["y"] + first["height"]) == (width < 736), "one above the other on a phone"
    words = page.locator(".pair .act button").first.inner_text()
    assert ("Upper" in words) == (width < 736)
