"""The page server under attack, by plain HTTP: nothing is changed, nothing is given away."""

import json
import urllib.error
import urllib.request

import pytest

from konomi.errors import FailedPrecondition
from konomi.home import Home
from konomi.web.server import serving
from konomi.web.settings import PageSettings
from tests.client.web.hostile import attacks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def post(site, path: str, body: dict, cookie: str = "", **headers: str):
    sent = {"Content-Type": "application/json", "Origin": site.address, "Cookie": cookie} | headers
    request = urllib.request.Request(site.address + path, json.dumps(body).encode(), sent)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers, json.loads(answer.read())


@pytest.fixture(scope="module")
def cookie(site) -> str:
    """The owner's cookie, as a one-time link gives it."""
    headers, known = post(site, "/session", {"ticket": ticket_of(site)})
    assert known == {"known": True}
    whole = headers["Set-Cookie"]
    assert "HttpOnly" in whole and "SameSite=strict" in whole and "Path=/" in whole
    return whole.partition(";")[0]


@pytest.fixture(scope="module")
def digest(site, cookie) -> str:
    _, told = post(site, "/konomi.page/Sitting", {"taste": "tastes/default", "count": 1}, cookie)
    return told["images"][0]["image"]["digest"]


def ticket_of(site) -> str:
    return site.link().partition("#ticket=")[2]


def state(site, cookie) -> list:
    """Everything an attack might have changed."""
    _, sitting = post(site, "/konomi.page/Sitting", {"taste": "tastes/default", "count": 8}, cookie)
    _, tastes = post(site, "/konomi.v1.RaterService/ListTastes", {}, cookie)
    nights = sorted(path.name for path in (site.home.root / "nights").glob("*"))
    return [len(site.labels()), sitting, tastes, nights]


def test_more_than_five_hundred_attacks_and_none_succeeds(site, cookie, digest):
    port = site.port
    every = [
        *attacks.rebinding(port, digest),
        *attacks.forgery(port, digest),
        *attacks.strangers(port, digest),
        *attacks.traversal(port),
        *attacks.framing(port, digest),
    ]
    assert len(every) >= 500
    before = state(site, cookie)
    secret = site.home.token_file.read_text().strip().encode()
    got_through = []
    for attack in every:
        status, headers, body = attacks.send(port, attack, cookie)
        if status and status not in attack.allowed:
            got_through.append((attack.name, status, body[:80]))
        assert secret not in body and b"Traceback" not in body, attack.name
        assert "access-control-allow-origin" not in headers, attack.name
        if status not in (0, 400):  # those the HTTP parser itself refuses never reach the page
            assert headers["x-content-type-options"] == "nosniff", attack.name
    assert not got_through
    assert state(site, cookie) == before
    own = (("Host", f"127.0.0.1:{port}"), ("Origin", site.address), ("Content-Type", "application/json"))
    owner = attacks.Attack("the owner", "POST", attacks.RECORD, own, attacks.label(digest))
    assert attacks.send(port, owner, cookie)[0] == 200, "what was attacked works for its owner"
    assert len(site.labels()) == before[0] + 1
    print(f"{len(every)} attacks, 0 successes")


def test_a_link_opens_once_and_only_while_its_server_lives(site):
    ticket = ticket_of(site)
    post(site, "/session", {"ticket": ticket})
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(site, "/session", {"ticket": ticket})
    assert refused.value.code == 403
    assert json.loads(refused.value.read())["message"].startswith("this link was used already")


def test_guessing_tickets_is_slowed_down(site):
    codes = []
    for guess in range(14):
        try:
            post(site, "/session", {"ticket": f"1700000000.{guess:032x}.{'0' * 64}"})
        except urllib.error.HTTPError as refused:
            codes.append(refused.code)
    assert codes[-1] == 429


def test_a_program_with_a_token_may_score_but_never_uses_the_owners(site, digest):
    token = site.home.token_file.read_text().strip()

    def ask(authorization: str):
        request = urllib.request.Request(
            site.address + "/konomi.v1.RaterService/GetTaste",
            b'{"name": "tastes/default"}',
            {"Content-Type": "application/json", "Authorization": authorization},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    assert ask(f"Bearer {token}")["name"] == "tastes/default"
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask("Bearer another")
    assert refused.value.code == 401


def test_every_answer_carries_the_policy_and_images_are_only_images(site, cookie, digest):
    for path in ("/", "/static/app.js", "/sw.js", f"/image/{digest}", f"/thumb/{digest}"):
        request = urllib.request.Request(site.address + path, headers={"Cookie": cookie})
        with urllib.request.urlopen(request, timeout=30) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'")
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            if path.startswith(("/image", "/thumb")):
                assert "sandbox" in policy
                assert answer.headers["Content-Type"] in ("image/png", "image/webp")
            else:
                assert "require-trusted-types-for 'script'" in policy


def test_an_artifact_that_is_no_image_is_not_served_as_one(site, cookie):
    from konomi.client import connect_home

    with connect_home(site.home.root) as client:
        html = client.artifacts.put(b"<script>alert(1)</script>", "image/png").digest
        polyglot = client.artifacts.put(b"\x89PNG\r\n\x1a\n<script>alert(1)</script>", "image/png").digest
    for path, code in ((f"/image/{html}", 400), (f"/thumb/{html}", 400), (f"/thumb/{polyglot}", 400)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(site.address + path, headers={"Cookie": cookie}), timeout=30)
        assert refused.value.code == code
    request = urllib.request.Request(f"{site.address}/image/{polyglot}", headers={"Cookie": cookie})
    with urllib.request.urlopen(request, timeout=30) as answer:  # its bytes, but as a picture that runs nothing
        assert answer.headers["Content-Type"] == "image/png"
        assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_a_page_for_others_needs_a_certificate(tmp_path):
    settings = PageSettings(home=tmp_path, page_host="0.0.0.0", page_port=0)
    with pytest.raises(FailedPrecondition, match="page_certificate"), serving(Home(tmp_path), lambda: None, settings):
        pass


def test_a_taken_port_is_named(site, tmp_path):
    settings = PageSettings(home=tmp_path, page_port=site.port)
    with pytest.raises(FailedPrecondition, match="--port-page"), serving(Home(tmp_path), lambda: None, settings):
        pass
