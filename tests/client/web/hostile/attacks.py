"""Attacks on the page server as data: requests that must change nothing and give nothing away."""

import http.client
import itertools
import json
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

DIGEST = "0" * 64
RECORD = "/konomi.v1.RaterService/RecordLabels"
ACTS = (
    RECORD,
    "/konomi.v1.RaterService/UndoLabel",
    "/konomi.v1.RaterService/RecordComparison",
    "/konomi.v1.RaterService/UndoComparison",
    "/konomi.v1.RaterService/CreateTaste",
    "/konomi.v1.RaterService/ActivateRaterVersion",
    "/konomi.v1.TrainerService/PromoteModel",
    "/konomi.v1.TrainerService/RollbackModel",
    "/konomi.page/Skip",
    "/konomi.page/NightSystems",
    "/konomi.page/NightStart",
    "/konomi.page/NightStop",
    "/konomi.page/NightVerdict",
    "/konomi.page/RaterAlarms",
    "/konomi.page/UploadBegin",
    f"/konomi.page/UploadFile/{DIGEST[:32]}",
    "/konomi.page/UploadFinish",
    "/konomi.page/EmbedderAdvice",
    "/session",
)
METHODS = ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")


@dataclass(frozen=True)
class Attack:
    """One request; `cookie` says whether it comes from the owner's own browser."""

    name: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    cookie: bool = True
    allowed: frozenset[int] = field(default=frozenset({400, 401, 403, 404, 405, 415, 421, 426, 429, 501}))


def hosts(port: int) -> list[str]:
    """Returns values of Host that are not the page's own."""
    return [
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        f"127.0.0.1:{port + 1}",
        f"127.0.0.1.:{port}",
        f"127.0.0.1:{port}.",
        f"127.0.0.1:0{port}",
        f" 127.0.0.1:{port}x",
        f"127.1:{port}",
        f"0.0.0.0:{port}",
        f"2130706433:{port}",
        f"0x7f.0.0.1:{port}",
        f"0177.0.0.1:{port}",
        f"[::1]:{port}",
        f"[::ffff:127.0.0.1]:{port}",
        f"[::ffff:7f00:1]:{port}",
        f"LOCALHOST:{port}",
        f"Localhost:{port}",
        f"localhost.:{port}",
        f"localhost.evil.example:{port}",
        f"evil.localhost:{port}",
        f"127.0.0.1.nip.io:{port}",
        f"127.0.0.1@evil.example:{port}",
        f"evil.example@127.0.0.1:{port}",
        f"127.0.0.1:{port}/evil",
        f"127.0.0.1:{port}#",
        f"127.0.0.1:{port},evil.example",
        f"127.0.0.1%00:{port}",
        f"127.0.0.1:{port}\\",
        "",
    ]


def origins(port: int) -> list[tuple[tuple[str, str], ...]]:
    """Returns what a browser would say of a request that another page made."""
    foreign = [
        "null",
        "http://evil.example",
        f"http://evil.example:{port}",
        f"https://127.0.0.1:{port}",
        "http://127.0.0.1",
        f"http://127.0.0.1:{port + 1}",
        f"http://127.0.0.1:{port}.evil.example",
        f"http://127.0.0.1:{port}/",
        f"HTTP://127.0.0.1:{port}",
        f"http://[::1]:{port}",
        f"file://127.0.0.1:{port}",
        f"http://127.0.0.1:{port} http://evil.example",
        "",
    ]
    told = [(("Origin", origin),) for origin in foreign]
    told += [(("Sec-Fetch-Site", site),) for site in ("cross-site", "same-site", "none", "", "SAME-ORIGIN", "weird")]
    own = f"http://127.0.0.1:{port}"
    told += [(("Origin", own), ("Sec-Fetch-Site", site)) for site in ("cross-site", "same-site", "none")]
    told += [(("Origin", "null"), ("Sec-Fetch-Site", "same-origin")), (("Origin", own), ("Origin", "null")), ()]
    return told


def label(digest: str) -> bytes:
    """Returns a body that would record a grade."""
    request = str(uuid.uuid4())
    one = {"imageDigest": digest, "grade": "GRADE_UR"}
    return json.dumps({"taste": "tastes/default", "labels": [one], "requestId": request}).encode()


def rebinding(port: int, digest: str) -> Iterator[Attack]:
    """DNS rebinding: a name of the attacker's that leads here."""
    own = ("Sec-Fetch-Site", "same-origin"), ("Content-Type", "application/json")
    for host in hosts(port):
        yield Attack(f"host {host!r} page", "GET", "/", (("Host", host),))
        yield Attack(f"host {host!r} image", "GET", f"/image/{digest}", (("Host", host),))
        yield Attack(f"host {host!r} act", "POST", RECORD, (("Host", host), *own), label(digest))


def forgery(port: int, digest: str) -> Iterator[Attack]:
    """Cross-site request forgery: another page uses the owner's cookie."""
    host = ("Host", f"127.0.0.1:{port}")
    kind = ("Content-Type", "application/json")
    for path, told in itertools.product(ACTS, origins(port)):
        yield Attack(f"forged {path} {told}", "POST", path, (host, kind, *told), label(digest))
    own = ("Origin", f"http://127.0.0.1:{port}")
    for path, method in itertools.product(ACTS, METHODS):
        yield Attack(f"{method} {path}", method, path, (host, kind, own), label(digest))
    forms = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "text/json")
    wires = ("application/proto", "application/grpc", "application/grpc-web", "application/grpc-web-text")
    for form in (*forms, *wires, "application/connect+proto"):
        yield Attack(f"type {form!r}", "POST", RECORD, (host, own, ("Content-Type", form)), label(digest))
    query = "?encoding=json&connect=v1&message=%7B%7D"
    for path in ACTS:
        yield Attack(f"Connect GET {path}", "GET", path + query, (host, own))
        yield Attack(f"override {path}", "GET", path, (host, own, ("X-HTTP-Method-Override", "POST")))
    for encoding in ("gzip", "br", "identity"):
        headers = (host, own, kind, ("Content-Encoding", encoding))
        yield Attack(f"encoding {encoding}", "POST", RECORD, headers, label(digest))


def strangers(port: int, digest: str) -> Iterator[Attack]:
    """No cookie, or one that is not the owner's."""
    host = ("Host", f"127.0.0.1:{port}")
    own = (host, ("Sec-Fetch-Site", "same-origin"), ("Content-Type", "application/json"))
    cookies = [
        "",
        "konomi=",
        "konomi=1",
        "konomi=" + "0" * 64,
        f"konomi=1700000000.{'0' * 32}.{'0' * 64}",
        f"konomi=99999999999.{'0' * 32}.{'0' * 64}",
        f"konomi=1700000000.{'a' * 32}.{'f' * 64}; konomi=x",
        'konomi="1700000000.x.y"',
        "KONOMI=1",
        "konomi=../../tokens/owner.token",
        "session=1; konomi=%00",
    ]
    looks = (f"/image/{digest}", f"/thumb/{digest}", f"/small/{digest}", "/report/x")
    for cookie in cookies:
        carried = (("Cookie", cookie),) if cookie else ()
        for path in looks:
            yield Attack(f"cookie {cookie!r} {path}", "GET", path, (host, *carried), cookie=False)
        for path in ACTS[:-1]:
            yield Attack(f"cookie {cookie!r} {path}", "POST", path, (*own, *carried), label(digest), cookie=False)
    for token in ("", "Bearer", "Bearer x", "Basic b3duZXI6eA==", "bearer owner", "Bearer " + "0" * 64):
        carried = (("Authorization", token),) if token else ()
        for path in (RECORD, "/konomi.page/NightSystems", "/konomi.page/NightStart", "/konomi.page/Sitting"):
            yield Attack(f"token {token!r} {path}", "POST", path, (*own, *carried), label(digest), cookie=False)
        yield Attack(f"token {token!r} image", "GET", f"/image/{digest}", (host, *carried), cookie=False)
    for ticket in ("x", "1.2.3", f"1700000000.{'0' * 32}.{'0' * 64}", "9" * 5000, "\x00", "' OR 1=1 --", "../up.json"):
        body = json.dumps({"ticket": ticket}).encode()
        yield Attack(f"ticket {ticket[:20]!r}", "POST", "/session", own, body, cookie=False)


def traversal(port: int) -> Iterator[Attack]:
    """Paths that try to leave where they may go."""
    host = ("Host", f"127.0.0.1:{port}")
    up = (
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "....//",
        "%252e%252e%252f",
        "..%c0%af",
        "..;/",
        "./",
    )
    targets = ("tokens/owner.token", "run/page.key", "databases/rater.sqlite", "etc/passwd")
    for prefix, step, target in itertools.product(("/static/", "/image/", "/report/", "/thumb/"), up, targets):
        yield Attack(f"{prefix}{step}{target}", "GET", f"{prefix}{step * 4}{target}", (host,))
    odd = (
        "//etc/passwd",
        "/static//app.js/..",
        "/static/%00",
        "/image/" + "A" * 64,
        "/image/" + "0" * 63,
        "/%",
        "/a%zz",
    )
    more = (
        "/.git/config",
        "/konomi.toml",
        "/up.json",
        "/static/app.js%00.png",
        "/STATIC/app.js",
        "/image/",
        "/report/",
    )
    for path in (*odd, *more, "/index.html", "/app.js", "/" + "a" * 5000, "/image/" + DIGEST):
        yield Attack(f"odd {path[:40]}", "GET", path, (host,))


def framing(port: int, digest: str) -> Iterator[Attack]:
    """Pictures read by another page, and pages that are no document."""
    host = ("Host", f"127.0.0.1:{port}")
    for path in (f"/image/{digest}", f"/thumb/{digest}", "/static/app.js", "/manifest.webmanifest", "/sw.js"):
        for site in ("cross-site", "same-site", "", "weird"):
            yield Attack(f"read {path} {site}", "GET", path, (host, ("Sec-Fetch-Site", site)))
        for origin in ("null", "http://evil.example"):
            yield Attack(f"cors {path} {origin}", "GET", path, (host, ("Origin", origin)))
    framed = (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe"))
    yield Attack("framed", "GET", "/", (host, *framed))


def send(port: int, attack: Attack, cookie: str) -> tuple[int, dict[str, str], bytes]:
    """Sends exactly what the attack says, and returns status, headers and body; 0 where nothing was answered."""
    headers = list(attack.headers) + ([("Cookie", cookie)] if attack.cookie else [])
    if attack.body:
        headers.append(("Content-Length", str(len(attack.body))))
    lines = [f"{attack.method} {attack.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head + attack.body)
        answer = http.client.HTTPResponse(connection, method=attack.method)
        try:
            answer.begin()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        except (http.client.HTTPException, ConnectionError):
            return 0, {}, b""
