"""Grading in a real browser on a real rater: keys, durability, undo, resuming elsewhere, an outbox while offline."""

import socket
import threading

import pytest

from tests.client.web.site import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WAITING = "document.getElementById('state').textContent"
SHOWN = "document.getElementById('main').dataset.digest"


def shown(page) -> str:
    until(page, f"{SHOWN} && !document.querySelector('[aria-busy]')")
    return page.evaluate(SHOWN)


def press(page, key: str, *, moves: bool = True) -> str:
    """Presses a key and waits until another image is painted."""
    before = shown(page)
    page.keyboard.press(key)
    if moves:
        until(page, f"{SHOWN} !== '{before}'")
    return before


def test_each_key_is_on_record_before_the_next_image_is_painted(site, visit):
    page = visit("rate")
    for number in range(1, 6):
        count = len(site.labels())
        digest = press(page, str(number))
        record = site.labels()
        assert len(record) == count + 1
        assert (record[-1].image_digest, record[-1].grade) == (digest, number)


def test_an_image_shown_again_to_check_on_its_grade_is_not_counted_twice(site, visit):
    page = visit("rate", service_workers="block")  # else it hides requests from `route`
    shown(page)
    again = {"value": True}

    def sitting(route):
        told = route.fetch().json()
        if again["value"]:
            told["images"] = [item | {"reason": "SUGGESTION_REASON_REPEAT_CHECK"} for item in told["images"]]
        route.fulfill(json=told)

    page.route("**/konomi.page/Sitting", sitting)
    for again["value"], more in ((True, 0), (False, 1)):
        page.reload()
        shown(page)
        graded = int(page.inner_text("p.count").split()[0].replace(",", ""))
        press(page, "3")
        until(page, f"document.querySelector('p.count').textContent.startsWith('{graded + more} ')")


def test_undo_reaches_over_a_reload_and_space_and_arrows_move(site, visit):
    page = visit("rate")
    first = press(page, "3")
    second = press(page, "4")
    page.reload()
    press(page, "z")
    assert shown(page) == second, "the reloaded page undoes what the page before it did"
    press(page, "z")
    assert shown(page) == first
    assert [label.undone for label in site.labels() if not label.undoes][-2:] == [True, True]
    skipped = press(page, "Space")
    assert shown(page) != skipped
    press(page, "z")
    assert shown(page) == skipped, "a skip is undone too"
    graded = press(page, "2")
    press(page, "ArrowLeft")
    assert shown(page) == graded
    page.keyboard.press("0")
    until(page, "![...document.querySelectorAll('.g')].some((b) => b.ariaPressed === 'true')")
    assert graded not in [label.image_digest for label in site.labels(in_force=True)]
    press(page, "ArrowRight")


KEYS_OF_LAYOUTS = (
    *(("я", "KeyZ", True), ("ζ", "KeyZ", True), ("ז", "KeyZ", True), ("つ", "KeyZ", True), ("Process", "KeyZ", True)),
    *(("z", "KeyY", True), ("Z", "KeyW", True), ("w", "KeyZ", False), ("y", "KeyZ", False), ("н", "KeyY", False)),
)
"""Letter, place on the keyboard, and whether the two undo."""


def test_z_is_where_the_layout_has_it_and_on_its_key_where_it_has_none(site, visit):
    page = visit("rate")
    for key, code, undoes in KEYS_OF_LAYOUTS:
        graded = press(page, "3")
        after = shown(page)
        event = f"new KeyboardEvent('keydown', {{key: '{key}', code: '{code}', bubbles: true, cancelable: true}})"
        page.evaluate(f"document.body.dispatchEvent({event})")
        if undoes:
            until(page, f"{SHOWN} === '{graded}'")
        else:
            press(page, "3")  # whatever the key did, it was not to go back
            assert [label.undone for label in site.labels()][-2:] == [False, False], (key, code)
            assert site.labels()[-1].image_digest == after, (key, code)


def test_another_browser_resumes_at_the_same_image(site, visit):
    page = visit("rate")
    for key in ("1", "Space", "5", "2", "z"):
        press(page, key)
    assert shown(visit("rate")) == shown(page)


def test_a_held_key_and_keys_in_a_field_grade_nothing(site, visit):
    page = visit("rate")
    count = len(site.labels())
    before = shown(page)
    page.keyboard.down("3")
    until(page, f"{SHOWN} !== '{before}'")
    for _ in range(5):
        page.keyboard.down("3")  # what a keyboard sends while a key is held
    page.keyboard.up("3")
    page.wait_for_timeout(300)
    assert len(site.labels()) == count + 1
    library = visit("library")
    library.wait_for_selector("[role=option]")
    library.fill("input[type=search]", "135")
    library.wait_for_timeout(500)
    assert len(site.labels()) == count + 1


def test_offline_grades_wait_on_the_device_and_arrive_once_in_order(site, visit):
    page = visit("rate", strict=False)
    shown(page)
    until(page, "navigator.serviceWorker.ready.then(() => !!navigator.serviceWorker.controller)")
    page.wait_for_timeout(800)  # the next images are being fetched
    count = len(site.labels())
    page.context.set_offline(True)
    graded = [press(page, key) for key in ("5", "1", "4")]
    press(page, "z")
    assert shown(page) == graded.pop(), "what was not sent yet is simply taken back"
    until(page, "document.getElementById('state')?.textContent.includes('2')")
    assert len(site.labels()) == count
    page.reload()  # the installed page needs no server
    until(page, "document.getElementById('state')?.textContent.includes('2')")  # the element comes with the script
    page.context.set_offline(False)
    until(page, "document.getElementById('state')?.textContent === ''", 30)
    record = site.labels()[count:]
    assert [(label.image_digest, label.grade) for label in record] == list(zip(graded, (5, 1), strict=True))


def test_an_answer_cut_off_in_its_middle_is_asked_for_again(site, visit):
    """A server killed between the header and the body of its answer: the grade is kept, and recorded once."""
    page = visit("rate", strict=False, service_workers="block")
    shown(page)
    count = len(site.labels())
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def cut() -> None:
            talk, _ = listener.accept()
            with talk:
                talk.recv(65536)
                talk.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")

        dying = threading.Thread(target=cut, daemon=True)
        dying.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        page.route("**/RecordLabels", lambda route: route.continue_(url=address), times=1)
        digest = press(page, "4")
        dying.join(30)
    until(page, f"{WAITING} === ''")
    assert [(label.image_digest, label.grade) for label in site.labels()[count:]] == [(digest, 4)]


def test_a_finger_grades_by_swiping(site, visit):
    page = visit("rate", viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    digest = shown(page)
    page.evaluate(
        """() => { const frame = document.querySelector('.frame');
        const send = (kind, x) => frame.dispatchEvent(new PointerEvent(kind,
          {clientX: x, clientY: 300, isPrimary: true, pointerType: 'touch', bubbles: true}));
        send('pointerdown', 100); send('pointerup', 260); }"""
    )
    until(page, f"{SHOWN} !== '{digest}'")
    assert (site.labels()[-1].image_digest, site.labels()[-1].grade) == (digest, 4)
    small = page.evaluate(
        """[...document.querySelectorAll('button, select, a:not(.skip-link)')].filter((e) => e.offsetParent)
        .map((e) => e.getBoundingClientRect()).filter((r) => r.height < 48 || r.width < 44).length"""
    )
    assert small == 0, "every target is large enough for a thumb"


@pytest.mark.parametrize("view", ["pair", "pick", "library", "tail"])
def test_the_same_keys_grade_and_undo_in_every_view(site, visit, view):
    page = visit(view)
    page.wait_for_selector(".side img, .nine img, [role=option], .tile img")
    page.wait_for_timeout(300)
    if view != "library":
        page.keyboard.press("ArrowDown")
    count = len(site.labels())
    page.keyboard.press("4")
    page.wait_for_selector("#toast.shown")
    assert [label.grade for label in site.labels()[count:]] == [4]
    page.wait_for_timeout(200)
    page.keyboard.press("z")
    until(page, "document.getElementById('toast').textContent === 'Undone'")
    assert site.labels()[-1].undoes == site.labels()[-2].name


def test_pairs_and_picks_become_comparisons(site, visit):
    from pysqlite3 import dbapi2

    def comparisons() -> list[tuple[str, str, int]]:
        with dbapi2.connect(site.home.root / "databases" / "rater.sqlite") as connection:
            return connection.execute(
                "SELECT winner, loser, tie FROM comparisons_standing ORDER BY sequence"
            ).fetchall()

    page = visit("pair")
    digest = "(n) => document.querySelectorAll('.side img')[n].src.split('/').at(-1)"
    until(page, "document.querySelectorAll('.side img').length === 2")
    left, right = page.evaluate(digest, 0), page.evaluate(digest, 1)
    page.keyboard.press("ArrowRight")
    until(page, f"({digest})(0) !== '{left}'")
    assert comparisons()[-1] == (right, left, 0)
    left, right = page.evaluate(digest, 0), page.evaluate(digest, 1)
    page.keyboard.press("ArrowUp")
    until(page, f"({digest})(0) !== '{left}'")
    assert comparisons()[-1] == (left, right, 1)

    standing = comparisons()
    page = visit("pair")  # another browser knows nothing of what was just answered, yet z takes it back
    until(page, "document.querySelectorAll('.side img').length === 2")
    for took_back in (standing[-1], standing[-2]):
        page.keyboard.press("z")
        until(page, f"({digest})(0) === '{took_back[0]}' && ({digest})(1) === '{took_back[1]}'")
        until(page, "!document.querySelector('[aria-busy]')")
        assert took_back not in comparisons()
    page.keyboard.press("ArrowLeft")
    until(page, f"({digest})(0) !== '{standing[-2][0]}'")
    assert comparisons()[-1] == standing[-2]

    page = visit("pick")
    page.wait_for_selector(".nine button")
    count = len(comparisons())
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    until(page, "document.getElementById('toast').textContent.includes('14')")
    assert len(comparisons()) == count + 2 * 7
    page.keyboard.press("z")
    until(page, "document.getElementById('toast').textContent === 'Undone'")
    assert len(comparisons()) == count
    assert page.evaluate("document.querySelectorAll('.nine [aria-pressed=true]').length") == 2
