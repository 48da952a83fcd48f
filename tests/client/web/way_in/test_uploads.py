"""The way in over plain HTTP: the owner's pictures arrive as `konomi import` reads them, and nobody else's bytes do."""

import http.client
import io
import json
import os
import socket
import struct
import time
import zipfile
import zlib
from urllib.parse import quote

import pytest

from konomi.client import connect_home
from konomi.web.security import UPLOAD
from konomi.web.uploads.staging import FILE_BYTES
from tests.client.datasets.test_beside import XMP
from tests.client.web.site import Site, picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

UNKNOWN = UPLOAD + "0" * 32


class Visitor:
    """A browser that has entered, as far as HTTP goes."""

    def __init__(self, site: Site) -> None:
        self.site = site
        ticket = site.link().partition("#ticket=")[2]
        status, _, headers = self.ask("/session", json.dumps({"ticket": ticket}).encode(), cookie="")
        assert status == 200
        self.cookie = headers["set-cookie"].partition(";")[0]

    def ask(self, path, body=b"", kind="application/json", cookie=None, **headers):
        """Sends a request as the page would, and returns status, JSON and headers of the answer."""
        sent = {"Content-Type": kind, "Origin": self.site.address, "Cookie": self.cookie if cookie is None else cookie}
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=60)
        connection.request("POST", path, body, {**sent, **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}"), {n.lower(): v for n, v in answer.getheaders()}

    def page(self, endpoint: str, **body):
        status, told, _ = self.ask(f"/konomi.page/{endpoint}", json.dumps(body).encode())
        assert status == 200, told
        return told

    def begin(self, taste: str) -> str:
        return self.page("UploadBegin", taste=f"tastes/{taste}")["upload"]

    def send(self, upload: str, name: str, data: bytes):
        """Sends one file, and returns status and what is said of it."""
        named = {"x-konomi-name": quote(name, safe="")}
        return self.ask(UPLOAD + upload, data, "application/octet-stream", **named)[:2]

    def finish(self, upload: str):
        """Has it read, and returns what became of it."""
        told = self.page("UploadFinish", upload=upload)
        deadline = time.monotonic() + 120
        while told["state"] == "reading" and time.monotonic() < deadline:
            time.sleep(0.05)
            told = self.page("UploadStatus", upload=upload)
        return told

    def bring(self, taste: str, files: dict[str, bytes]):
        """Uploads files and returns what became of them."""
        upload = self.begin(taste)
        for name, data in files.items():
            assert self.send(upload, name, data) == (200, {})
        return self.finish(upload)


@pytest.fixture(scope="module")
def visitor(site) -> Visitor:
    return Visitor(site)


def zipped(files: dict[str, bytes], pressing: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", pressing) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def images_of(site, taste: str):
    with connect_home(site.home.root) as client:
        return {image.prompt: image for image in client.rater.list_images(taste=f"tastes/{taste}").images}


def left_over(site) -> list[str]:
    folder = site.home.root / "uploads"
    return os.listdir(folder) if folder.exists() else []


def test_captions_ratings_and_archives_arrive_as_an_import_reads_them(site, visitor):
    files = {
        "mine/a.png": picture(5001),
        "mine/a.txt": "a 猫 in the snow".encode(),
        "mine/a.png.xmp": XMP.format(5).encode(),
        "mine/layers.psd": b"8BPS",
        "mine/broken.png": b"no picture",
        "more.zip": zipped({"b.png": picture(5002), "b.txt": b"from a zip", "../c.png": picture(5003)}),
    }
    told = visitor.bring("uploaded", files)
    assert (told["state"], told["added"], told["rated"], told["already_known"]) == ("done", 2, 1, 0)
    assert told["passed_over"] == {".psd": 1}
    assert {(one["name"], one["reason"]) for one in told["refused"]} == {
        ("mine/broken.png", "IMAGE_TYPE"),
        ("more.zip!../c.png", "UNSAFE_NAME"),
    }
    known = images_of(site, "uploaded")
    assert set(known) == {"a 猫 in the snow", "from a zip"}
    assert known["a 猫 in the snow"].grade == 5
    assert {image.source for image in known.values()} == {4}, "imported, as the command says"
    assert left_over(site) == []
    again = visitor.bring("uploaded", files)
    assert (again["added"], again["already_known"], again["rated"]) == (0, 2, 0)


def png_head(width: int, height: int) -> bytes:
    """Returns a PNG that says it is large and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def test_bombs_are_refused_by_name_and_the_rest_arrives(site, visitor):
    bomb = zipped(
        {"bomb.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 30_000_000, "good.png": picture(5010)}, zipfile.ZIP_DEFLATED
    )
    told = visitor.bring(
        "bombs",
        {
            "bomb.zip": bomb,
            "pixels.png": png_head(60_000, 60_000),
            "torn.zip": bomb[:200],
            "inner.zip": zipped({"again.zip": bomb}),
            "good.png": picture(5011),
        },
    )
    assert (told["state"], told["added"]) == ("done", 2)
    reasons = {one["name"]: one["reason"] for one in told["refused"]}
    assert reasons["bomb.zip!bomb.png"] == "ZIP_BOMB"
    assert reasons["torn.zip"] == "ZIP_UNREADABLE"
    assert "pixels.png" in reasons and set(reasons) == {"bomb.zip!bomb.png", "torn.zip", "pixels.png"}
    assert told["passed_over"] == {".zip": 1}, "an archive within one is not opened"
    assert left_over(site) == []


@pytest.mark.parametrize("name", ["../a.png", "/etc/cron.d/a.png", "a/../../a.png", "C:\\a.png", "a\0.png", "a//b.png"])
def test_names_that_lead_elsewhere_are_refused(visitor, name):
    upload = visitor.begin("uploaded")
    status, told = visitor.send(upload, name, picture(1))
    assert (status, told["reason"], told["message"]) == (
        400,
        "UNSAFE_NAME",
        "has a name that leads elsewhere; it was not taken",
    )
    assert visitor.page("UploadStop", upload=upload)["state"] == "stopped"


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>.png", "$(reboot).png", "-rf.png", "a\nb.png", "‮gnp.png"]
)
def test_a_name_is_only_data(visitor, name):
    told = visitor.bring("uploaded", {name: b"no picture"})
    assert [one["name"] for one in told["refused"]] == [name]


def test_a_name_comes_once_and_twice_is_told(visitor):
    upload = visitor.begin("uploaded")
    assert visitor.send(upload, "a.png", picture(1))[0] == 200
    status, told = visitor.send(upload, "a.png", picture(2))
    assert (status, told["code"], told["reason"]) == (409, "already_exists", "TWICE")
    for headers in ({}, {"x-konomi-name": "%ff"}, {"x-konomi-name": ""}):
        status, told, _ = visitor.ask(UPLOAD + upload, b"x", "application/octet-stream", **headers)
        assert (status, told["reason"]) == (400, "NAME_MISSING")
        assert told["message"] == "expected the name of the file in the header x-konomi-name"
    assert visitor.finish(upload)["added"] + visitor.page("UploadStatus", upload=upload)["already_known"] >= 1
    status, told = visitor.send(upload, "late.png", picture(3))
    assert (status, told["reason"], told["message"]) == (400, "UPLOAD_CLOSED", "this upload takes no more files")
    status, told = visitor.send("0" * 32, "a.png", b"x")
    assert (status, told["message"]) == (404, "this upload is not known any more; bring the files again")


def begin(site, *headers, path=UNKNOWN, kind="application/octet-stream", body=b""):
    """Sends the head of an upload and next to nothing of its body, and returns status and message of the answer."""
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{site.port}", f"Content-Type: {kind}", *headers, "", ""]
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode() + body)
        answer = http.client.HTTPResponse(connection, method="POST")
        answer.begin()
        return answer.status, json.loads(answer.read())["message"]


def test_who_asks_and_how_much_comes_is_settled_before_a_byte_is_read(site, visitor):
    own, cookie = f"Origin: {site.address}", f"Cookie: {visitor.cookie}"
    large = "Content-Length: 20971520"
    sign_in = (401, "Open the page by the link that konomi label prints.")
    assert begin(site, own, large) == sign_in
    assert begin(site, own, large, "Cookie: konomi=1") == sign_in
    token = site.home.token_file.read_text().strip()
    assert begin(site, own, large, f"Authorization: Bearer {token}") == sign_in, "a program's way in is the rater"
    only_page = (403, "Only the page itself may do this.")
    assert begin(site, cookie, large) == only_page
    assert begin(site, cookie, large, "Origin: http://evil.example") == only_page
    assert begin(site, cookie, large, own, "Sec-Fetch-Site: cross-site") == only_page
    for kind in ("application/json", "multipart/form-data; boundary=x", "text/plain", ""):
        assert begin(site, own, cookie, large, kind=kind) == (415, "application/octet-stream was expected.")
    assert begin(site, own, cookie, large, path="/konomi.page/UploadBegin")[0] == 415
    beyond = f"Content-Length: {FILE_BYTES + 1}"
    assert begin(site, own, cookie, beyond) == (413, f"expected at most {FILE_BYTES} bytes, got more")
    endless = (411, "A Content-Length was expected.")
    chunk = b"5\r\nhello\r\n"
    assert begin(site, own, cookie, "Transfer-Encoding: chunked", body=chunk) == endless
    assert begin(site, own, cookie, "Transfer-Encoding: chunked", "Content-Length: 5", body=chunk) == endless
    assert begin(site, own, cookie) == endless
    assert begin(site, own, cookie, large)[0] == 404, "an upload nobody opened"


def test_a_picture_that_is_too_large_is_refused_by_its_announcement(site, visitor):
    upload = visitor.begin("uploaded")
    head = (f"Origin: {site.address}", f"Cookie: {visitor.cookie}", "x-konomi-name: a.png", "Content-Length: 33554433")
    said = (400, "expected at most 32 MiB, got more; shrink it first")
    assert begin(site, *head, path=UPLOAD + upload) == said
    visitor.page("UploadStop", upload=upload)


def test_a_sender_that_goes_away_leaves_nothing(site, visitor):
    upload = visitor.begin("uploaded")
    head = [
        f"POST {UPLOAD}{upload} HTTP/1.1",
        f"Host: 127.0.0.1:{site.port}",
        "Content-Type: application/octet-stream",
        f"Origin: {site.address}",
        f"Cookie: {visitor.cookie}",
        "x-konomi-name: half.png",
        "Content-Length: 4000000",
    ]
    parts = site.home.root / "uploads" / upload / "parts"
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + picture(1) + b"\0" * 2_000_000)
        deadline = time.monotonic() + 20
        while not list(parts.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(list(parts.iterdir())) == 1
    while list(parts.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not list(parts.iterdir()) and not list((parts.parent / "files").iterdir())
    assert visitor.finish(upload)["added"] == 0
    assert left_over(site) == []


def test_a_taste_of_no_name_is_refused(visitor):
    status, told, _ = visitor.ask("/konomi.page/UploadBegin", b'{"taste": "tastes/../x"}')
    assert status == 400 and "taste" in told["message"]


def test_advice_on_the_embedder_names_what_is_at_hand_or_what_to_run(visitor):
    told = visitor.page("EmbedderAdvice", taste="tastes/default")
    assert told["embedder"] == "starter" and told["n"] >= 0
    assert all("konomi rater embedder" in line for line in told["lines"][-1:])
    assert len(told["lines"]) == (1 if told["offers"] else 2)
