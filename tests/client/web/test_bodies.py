"""Bodies: who asks is known before a byte of one is read, and what one holds is counted before it is parsed."""

import asyncio
import http.client
import json
import socket
import threading
import time

import pytest
from google.protobuf.json_format import MessageToJson

from konomi.errors import InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable
from konomi.v1 import rater_pb2 as rater
from konomi.web import auth, connect
from konomi.web.auth import BearerCheck
from konomi.web.connect import MAX_DEPTH, MAX_VALUES, parse
from konomi.web.security import RPC_BYTES

RECORD, SCORE = "/konomi.v1.RaterService/RecordLabels", "/konomi.v1.RaterService/ScoreImages"
DIGEST = "0" * 64


def begin(site, path, *headers, method="POST", seconds=20):
    """Sends the head of a request and nothing of its body; returns status, code and message of the answer."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{site.port}", "Content-Type: application/json", *headers]
    with socket.create_connection(("127.0.0.1", site.port), timeout=seconds) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = http.client.HTTPResponse(connection, method=method)
        answer.begin()
        body = json.loads(answer.read())
        return answer.status, body["code"], body["message"]


@pytest.mark.slow
@pytest.mark.parametrize("authorization", ["Bearer konomi_invented", "Bearer", "Basic b3duZXI6eA=="])
def test_an_unknown_token_is_refused_before_its_body(site, authorization):
    for length in ("Content-Length: 20971520", "Transfer-Encoding: chunked"):
        status, code, _ = begin(site, RECORD, f"Authorization: {authorization}", length)
        assert (status, code) in ((401, "unauthenticated"), (429, "resource_exhausted"))


@pytest.mark.slow
def test_without_token_or_cookie_no_body_is_read(site):
    own = (f"Origin: {site.address}", "Content-Length: 20971520")
    for path in (RECORD, SCORE):
        assert begin(site, path, *own)[:2] == (401, "unauthenticated")
    assert begin(site, "/konomi.page/Skip", f"Origin: {site.address}", "Content-Length: 1000")[0] == 401


@pytest.mark.slow
def test_a_body_that_declares_too_much_is_refused_at_once(site):
    token = site.home.token_file.read_text().strip()
    bearer = f"Authorization: Bearer {token}"
    assert begin(site, SCORE, bearer, f"Content-Length: {RPC_BYTES + 1}")[:2] == (413, "resource_exhausted")
    assert begin(site, "/session", f"Origin: {site.address}", "Content-Length: 262145")[:2] == (
        413,
        "resource_exhausted",
    )


@pytest.mark.slow
def test_bodies_held_at_once_are_bounded(site):
    token = site.home.token_file.read_text().strip()
    head = "\r\n".join(
        [
            f"POST {SCORE} HTTP/1.1",
            f"Host: 127.0.0.1:{site.port}",
            "Content-Type: application/json",
            f"Authorization: Bearer {token}",
            f"Content-Length: {RPC_BYTES}",
            "",
            "",
        ]
    )
    stalled = [socket.create_connection(("127.0.0.1", site.port), timeout=20) for _ in range(4)]
    for connection in stalled:
        connection.sendall(head.encode() + b"{")
    large = ("Authorization: Bearer " + token, f"Content-Length: {RPC_BYTES}")
    assert begin(site, SCORE, *large)[:2] == (429, "resource_exhausted")
    for connection in stalled:
        connection.close()
    deadline = time.monotonic() + 10
    with pytest.raises(TimeoutError):  # it is let in, and its body is waited for
        while time.monotonic() < deadline:
            begin(site, SCORE, *large, seconds=2)


@pytest.mark.slow
def test_the_page_answers_while_large_bodies_are_refused(site):
    token = site.home.token_file.read_text().strip()
    hostile = b'{"labels":[' + b"{}," * 7_000_000 + b"{}]}"
    outcomes = []

    def attack():
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=120)
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        connection.request("POST", RECORD, hostile, sent)
        answer = connection.getresponse()
        outcomes.append((answer.status, json.loads(answer.read())["message"]))

    attackers = [threading.Thread(target=attack) for _ in range(2)]
    for attacker in attackers:
        attacker.start()
    slowest = 0.0
    while any(attacker.is_alive() for attacker in attackers):
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
        connection.request("GET", "/", headers={"Host": f"127.0.0.1:{site.port}"})
        assert connection.getresponse().status == 200
        slowest = max(slowest, time.monotonic() - began)
    assert [status for status, _ in outcomes] == [400, 400]
    assert all("100000 values" in message for _, message in outcomes), outcomes
    print(f"slowest answer beside them: {slowest:.2f} s")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"labels":[' + b"{}," * MAX_VALUES + b"{}]}", "values in a request"),
        (b'{"names":[' + b'"",' * (2 * MAX_VALUES + 1) + b'""]}', "values in a request"),
        (b"[" * (3 * MAX_VALUES), "values in a request"),
        (b"]" * (3 * MAX_VALUES), "values in a request"),
        (b'"' * (5 * MAX_VALUES), "values in a request"),
        (b'{"labels":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "deep"),
        (b'{"taste": "' + b'\\"' * 1000, "RecordLabelsRequest"),
        (b'{"taste": "\\', "RecordLabelsRequest"),
        (b'{"taste": 7}', "RecordLabelsRequest"),
        (b"\xff{}", "RecordLabelsRequest"),
        (b"nothing", "RecordLabelsRequest"),
    ],
)
def test_what_a_body_may_not_hold(raw, words, monkeypatch):
    if "RecordLabelsRequest" not in words:
        monkeypatch.setattr(connect, "Parse", None)  # it is refused before anything is parsed
    with pytest.raises(InvalidArgument, match=words):
        parse(raw, rater.RecordLabelsRequest)


def test_strings_may_hold_what_looks_like_structure():
    prompt = '{[,"\\' * 60_000
    request = rater.SearchImagesRequest(taste="tastes/default", text=prompt)
    assert parse(MessageToJson(request).encode(), rater.SearchImagesRequest) == request


def test_a_whole_batch_of_labels_is_taken():
    labels = [rater.Label(image_digest=DIGEST, grade=rater.GRADE_UR)] * 1000
    request = rater.RecordLabelsRequest(taste="tastes/default", labels=labels)
    assert parse(MessageToJson(request).encode(), rater.RecordLabelsRequest) == request


class TestBearerCheck:
    @staticmethod
    def asked(outcome):
        calls = []

        def ask(authorization):
            calls.append(authorization)
            if isinstance(outcome, Exception):
                raise outcome

        return ask, calls

    @pytest.mark.parametrize(
        ("outcome", "known"),
        [(None, True), (PermissionDenied(""), True), (NotFound(""), True), (Unauthenticated(""), False)],
    )
    def test_the_rater_says_whether_a_token_is_known_and_is_asked_once(self, outcome, known):
        ask, calls = self.asked(outcome)
        check = BearerCheck(ask)
        assert [asyncio.run(check.knows("Bearer x")) for _ in range(3)] == [known] * 3
        assert calls == ["Bearer x"]

    @pytest.mark.parametrize("failure", [Unavailable("nobody"), ResourceExhausted("slow down")])
    def test_where_nobody_says_so_the_failure_is_the_answer_and_is_not_kept(self, failure):
        ask, calls = self.asked(failure)
        check = BearerCheck(ask)
        for _ in range(2):
            with pytest.raises(type(failure)):
                asyncio.run(check.knows("Bearer x"))
        assert len(calls) == 2

    def test_an_answer_is_kept_for_a_while_only(self):
        now = [0.0]
        ask, calls = self.asked(None)
        check = BearerCheck(ask, lambda: now[0])
        asyncio.run(check.knows("Bearer x"))
        now[0] = auth.KNOWN_SECONDS + 1
        asyncio.run(check.knows("Bearer x"))
        assert len(calls) == 2

    def test_only_so_many_tokens_are_looked_up_at_once(self):
        release = threading.Event()
        check = BearerCheck(lambda _: release.wait(20))

        async def flood():
            waiting = [asyncio.create_task(check.knows(f"Bearer {number}")) for number in range(auth.ASKED_AT_ONCE)]
            await asyncio.sleep(0)
            with pytest.raises(ResourceExhausted) as refused:
                await check.knows("Bearer one more")
            release.set()
            assert all(await asyncio.gather(*waiting))
            return refused.value

        assert asyncio.run(flood()).retry_after == 1.0
