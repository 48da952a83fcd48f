"""Connections that are slow, or too many: they are closed, and the page answers others all the while."""

import socket
import time
import urllib.request
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from konomi.home import Home
from konomi.web import connections
from konomi.web.server import serving
from konomi.web.settings import PageSettings


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page of its own, in a hurry; nothing stands behind it."""
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(connections, name, 0.5)
    with serving(Home(tmp_path), lambda: None, PageSettings(home=tmp_path, page_port=0)) as address:
        yield urlsplit(address)


@pytest.fixture
def connect(page):
    with ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection((page.hostname, page.port), timeout=20))


def answers(page) -> bool:
    with urllib.request.urlopen(f"{page.geturl()}/", timeout=20) as answer:
        return answer.status == 200


def closed(connection, seconds=10.0) -> bool:
    """Waits until the server closes; what it sends before is read."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def head(page, method="GET", path="/", *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {page.netloc}", *lines, "", ""]).encode()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_in_time_ends_the_connection(page, connect, sent):
    connection = connect()
    connection.sendall(sent)
    began = time.monotonic()
    assert closed(connection) and time.monotonic() - began < 8
    assert answers(page)


def test_a_head_that_trickles_is_not_waited_for_longer(page, connect):
    connection = connect()
    began = time.monotonic()
    with pytest.raises(OSError):
        for byte in head(page, "GET", "/", "X-Slow: " + "a" * 1000):
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
    assert time.monotonic() - began < 20


def test_a_second_head_on_a_kept_connection_has_to_hurry_too(page, connect):
    connection = connect()
    connection.sendall(head(page))
    assert b"200 OK" in connection.recv(65536)
    connection.sendall(b"GET / HTTP")
    assert closed(connection)


def test_a_body_that_does_not_come_ends_the_connection(page, connect):
    own = (f"Origin: {page.geturl()}", "Content-Type: application/json", "Content-Length: 1000")
    connection = connect()
    connection.sendall(head(page, "POST", "/session", *own) + b'{"ticket"')
    assert closed(connection)
    assert answers(page)


def test_a_body_nobody_wants_is_not_waited_for(page, connect):
    connection = connect()
    connection.sendall(head(page, "POST", "/konomi.page/Skip", "Content-Length: 100000"))
    assert b" 403 " in connection.recv(65536)
    assert closed(connection)


def test_a_reader_that_takes_nothing_of_its_answer_is_cut_off(page, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 60.0)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect((page.hostname, page.port))
        deadline = time.monotonic() + 20
        with pytest.raises(ConnectionError):
            while time.monotonic() < deadline:
                connection.sendall(head(page, "GET", "/static/app.js") * 50)
                time.sleep(0.01)
    assert answers(page)


@pytest.mark.parametrize("sent", [b"", b"POST /session HTTP/1.1\r\n"])
def test_more_slow_connections_than_the_page_takes_do_not_keep_others_out(page, connect, monkeypatch, sent):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 60.0)
    slow = [connect() for _ in range(connections.MOST + 200)]
    for connection in slow:
        connection.sendall(sent)
    assert all(answers(page) for _ in range(5))
    assert closed(slow[0]), "the oldest made room"


@pytest.mark.slow
def test_a_slow_but_steady_body_is_taken(page, connect, monkeypatch):
    monkeypatch.setattr(connections, "LEAST_BYTES", 100)
    body = b'{"ticket": "' + b"a" * 3000 + b'"}'
    own = (f"Origin: {page.geturl()}", "Content-Type: application/json", f"Content-Length: {len(body)}")
    connection = connect()
    connection.sendall(head(page, "POST", "/session", *own))
    for start in range(0, len(body), 300):
        connection.sendall(body[start : start + 300])
        time.sleep(0.1)
    assert b" 403 " in connection.recv(65536)
