"""Search on a live rater: the box and "find images like this" of the page, and `konomi explore --text | --like`."""

import json
import os
import subprocess
import sys
import uuid

import pytest

from konomi.client import connect_home
from konomi.v1 import rater_pb2 as rater
from tests.client.web.site import ROOT, TASTE, picture, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

FIRST = "[role=option] img:not([hidden])"
TOLD = "document.querySelector('.found [role=status]')?.textContent"
UNREAD = "tastes/unread"


def taste_of(site, name: str, embedder: str, count: int) -> list[str]:
    """Makes a taste with so many pictures of its own, and returns their digests."""
    with connect_home(site.home.root) as client:
        taste_id = name.removeprefix("tastes/")
        fields = {"taste": rater.Taste(embedder=embedder), "request_id": str(uuid.uuid4())}
        client.rater.create_taste(taste_id=taste_id, **fields)
        digests = [client.artifacts.put(picture(seed), "image/png").digest for seed in range(count)]
        requests = [
            rater.AddImagesRequest(taste=name, image=rater.Image(digest=digest, source=rater.SOURCE_IMPORTED))
            for digest in digests
        ]
        assert not [reply for reply in client.rater.add_images(iter(requests)) if reply.HasField("error")]
    return digests


@pytest.fixture(scope="module")
def unread(site) -> list[str]:
    """Pictures of a taste whose embedder reads no words."""
    return taste_of(site, UNREAD, "timm:tf_efficientnet_lite0", 6)


def nearest(site, **query) -> list[str]:
    with connect_home(site.home.root) as client:
        return [hit.image.digest for hit in client.rater.search_images(taste=TASTE, count=1000, **query).hits]


def shown(page, count: int) -> list[str]:
    """Returns the digests of the first pictures in the grid, in their order."""
    cells = "[...document.querySelectorAll('[role=option]:not([hidden])')].sort((a, b) => a.index - b.index)"
    found = page.evaluate(f"{cells}.slice(0, {count}).map((cell) => cell.digest)")
    assert len(found) == count
    return found


def clean(page) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"][:160]) for one in found]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_words_are_looked_for_in_the_library(site, visit, language):
    page = visit("library", language, "dark" if language == "ja" else "light")
    page.wait_for_selector(FIRST)
    page.get_by_role("search").get_by_role("textbox").fill("red hair / blue?")
    page.keyboard.press("Enter")
    until(page, "location.hash === '#library/words/red%20hair%20%2F%20blue%3F'")
    page.wait_for_selector(FIRST)
    assert shown(page, 8) == nearest(site, text="red hair / blue?")[:8]
    assert {"en": "the nearest first", "ja": "近い順"}[language] in page.evaluate(TOLD)
    assert page.input_value("#search-words") == "red hair / blue?"
    label = page.locator("[role=option]").first.get_attribute("aria-label")
    assert {"en": "similarity 0.", "ja": "類似度 0."}[language] in label
    clean(page)
    page.locator(".looked-for a").click()
    until(page, "location.hash === '#library' && document.querySelector('.filters')")
    page.go_back()
    page.wait_for_selector(".looked-for")
    assert page.input_value("#search-words") == "red hair / blue?", "the address says what was looked for"


def test_pages_of_a_search_are_fetched_as_they_come_into_sight(site, visit):
    page = visit("library/words/hat")
    page.wait_for_selector(FIRST)
    everything = nearest(site, text="hat")
    with page.expect_request("**/SearchImages") as asked:
        page.locator(".scroller").focus()
        page.keyboard.press("End")
    last = len(everything) - 1
    skipped = json.loads(asked.value.post_data)["skip"]
    assert skipped % 120 == 0 and 0 < skipped <= last, "a later page, by how many pictures other tests brought"
    until(page, f"document.getElementById('cell-{last}')?.digest === {json.dumps(everything[last])}")


def test_images_like_this_one_are_found_from_its_details_and_graded_there(site, visit):
    page = visit("rate", viewport={"width": 390, "height": 844})
    page.wait_for_selector(".frame img")
    digest = page.evaluate("document.querySelector('main').dataset.digest")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Find images like this").click()
    until(page, f"location.hash === '#library/like/{digest}'")
    page.wait_for_selector(FIRST)
    assert page.locator("dialog").count() == 0
    assert shown(page, 6) == nearest(site, image={"digest": digest})[:6] and shown(page, 1) == [digest]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing is wider than a phone"
    clean(page)
    second = shown(page, 2)[1]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("4")
    until(page, "document.querySelector('#cell-1 .chip').textContent === 'SSR'")
    with connect_home(site.home.root) as client:
        assert client.rater.get_image(taste=TASTE, digest=second).grade == rater.GRADE_SSR
    page.keyboard.press("z")
    until(page, "document.getElementById('toast').textContent === 'Undone'")


@pytest.mark.parametrize("language", ["en", "ja"])
def test_where_the_embedder_reads_no_words_the_box_says_why_not(site, visit, unread, language):
    page = visit("library&taste=unread", language, viewport={"width": 390, "height": 844})
    page.wait_for_selector(FIRST)
    until(page, "document.getElementById('search-words').disabled")
    why = page.locator("#search-why")
    assert {"en": "tf_efficientnet_lite0, the embedder of this taste, reads no words", "ja": "は言葉を読めません"}[
        language
    ] in why.inner_text()
    assert "konomi rater embedder open_clip:ViT-B-32/laion2b_s34b_b79k --taste unread" in why.inner_text()
    assert page.get_attribute("#search-words", "aria-describedby") == "search-why"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    clean(page)
    page.evaluate(f"location.hash = 'library/like/{unread[2]}'")
    until(
        page, "document.querySelector('.looked-for img') && document.querySelector('[role=option] img:not([hidden])')"
    )
    assert shown(page, 1) == [unread[2]], "by an image it can be searched"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("words/" + "hat%20" * 40, "These words cannot be searched for: expected a text of at most 24 tokens"),
        ("like/" + "ab" * 32, "The image that was looked for is not here any more."),
    ],
)
def test_what_cannot_be_looked_for_is_said_where_the_images_would_be(visit, query, words):
    page = visit(f"library/{query}", strict=False)
    until(page, f"{TOLD}.startsWith({json.dumps(words)})")
    assert page.locator(".scroller").is_hidden()
    clean(page)


def test_a_taste_without_images_leads_to_bringing_some(site, visit):
    taste_of(site, "tastes/bare", "", 0)
    page = visit("library/words/hat&taste=bare", strict=False)
    until(page, f"{TOLD} === 'There are no images to search among yet.'")
    assert page.locator(".next a").get_attribute("href") == "#add"


def run(site, *arguments: str, language: str = "en") -> subprocess.CompletedProcess:
    environment = {**os.environ, "KONOMI_HOME": str(site.home.root), "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "konomi", "--lang", language, "explore", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)


def told(site, *arguments: str) -> dict:
    done = run(site, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_command_finds_by_words_and_by_image_and_goes_on_with_skip(site, tmp_path):
    words = nearest(site, text="red hat")
    first = told(site, "--text", "red hat", "--count", "4")
    assert [image["digest"] for image in first["images"]] == words[:4] and first["total"] == len(words)
    cosines = [image["similarity"] for image in first["images"]]
    assert cosines == sorted(cosines, reverse=True)
    second = told(site, "--text", "red hat", "--count", "4", "--skip", "4", "--save", str(tmp_path / "look"))
    assert [image["digest"] for image in second["images"]] == words[4:8] and len(second["saved"]) == 4
    printed = run(site, "--text", "red hat", "--count", "4")
    assert "similarity" in printed.stdout and words[0][:12] in printed.stdout
    assert f"1 to 4 of {len(words)}; the next with --skip 4" in printed.stderr
    assert "類似度" in run(site, "--text", "red hat", language="ja").stdout

    known, near = words[7], nearest(site, image={"digest": words[7]})
    for like in (known, known[:10]):
        assert [image["digest"] for image in told(site, "--like", like, "--count", "3")["images"]] == near[:3]


def test_a_file_that_is_asked_with_does_not_join_the_taste(site, tmp_path):
    stranger = tmp_path / "stranger.png"
    stranger.write_bytes(picture(987_654, 96))
    with connect_home(site.home.root) as client:
        before = client.rater.get_taste(name=TASTE).image_count
        found = told(site, "--like", str(stranger), "--count", "5")
        near = client.rater.search_images(taste=TASTE, image={"content": stranger.read_bytes()}, count=5).hits
        assert [image["digest"] for image in found["images"]] == [hit.image.digest for hit in near]
        assert client.rater.get_taste(name=TASTE).image_count == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--text", "hat " * 60], 2, "these are more words than the taste's embedder reads; use fewer"),
        (["--text", "  "], 2, "expected words to search for, got none"),
        (["--text", "a", "--like", "b"], 2, "--text and --like are two searches; give one of them"),
        (["--skip", "5"], 2, "--skip goes with --text or --like; the long tail has no pages"),
        (["--text", "a", "--elites", "3"], 2, "--elites goes with the long tail"),
        (
            ["--text", "a", "--taste", "unread"],
            2,
            "tf_efficientnet_lite0, reads no words; search by an image, or change it",
        ),
        (["--text", "a", "--taste", "nobody"], 1, "no taste nobody"),
        (["--text", "a", "--taste", "blank"], 4, "tastes/blank has no images to search among yet; run: konomi import"),
        (["--like", "ab" * 32], 1, "there is no image with the digest " + "ab" * 32),
        (["--like", "ffffffffff"], 1, "knows no image whose digest begins with ffffffffff"),
        (["--like", "nothing.png"], 1, "there is nothing at nothing.png"),
        (["--like", str(ROOT / "README.md")], 2, "expected an image (PNG, JPEG"),
        (["--like", str(ROOT / "docs" / "screenshots")], 2, "which holds several"),
    ],
)
def test_each_mistake_of_the_command_is_named(site, unread, arguments, code, words):
    if "blank" in arguments:
        taste_of(site, "tastes/blank", "", 0)
    done = run(site, *arguments)
    assert words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, done.stderr


def test_a_broken_picture_is_refused_by_its_name(site, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture(3)[:60])
    done = run(site, "--like", str(broken))
    assert done.returncode == 2 and "Traceback" not in done.stderr and "error" in done.stderr
