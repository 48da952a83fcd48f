"""A hub on loopback with the answers of the real one: HEAD with linked digest and commit, a redirect, ranges."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """What the hub holds and how it behaves.

    Attributes:
        files: path in a repository → bytes.
        large: whether files are kept like large ones: a sha256 in X-Linked-Etag and a redirect to another path.
        break_after: bytes after which a connection breaks, once each.
        lie: the digest to claim instead of the true one.
        commit: the commit to claim; the one asked for where empty.
        ranges: whether it can go on in the middle.
        asked: method, path and range of every request.
        gated: the token without which a repository's files are not given; "" gives them to everybody.
        tokens: what came as authorization with every request, "" where nothing did.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    large: bool = True
    break_after: list[int] = field(default_factory=list)
    lie: str = ""
    commit: str = ""
    ranges: bool = True
    location: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    gated: str = ""
    tokens: list[str] = field(default_factory=list)
    address: str = ""

    @contextmanager
    def running(self) -> Iterator["Hub"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def log_message(self, *_: object) -> None:
            """Keeps the test's output clean."""

        def answer(self, *, body: bool) -> None:
            hub.asked.append((self.command, self.path, self.headers.get("Range", "")))
            hub.tokens.append(self.headers.get("Authorization", ""))
            direct = re.fullmatch(r"/[^/]+/[^/]+/resolve/([0-9a-f]{40}|main)/(.+)", self.path)
            name = direct[2] if direct else self.path.removeprefix("/blobs/")
            data = hub.files.get(name)
            if direct and hub.gated and hub.tokens[-1] != f"Bearer {hub.gated}":
                refused = 403 if hub.tokens[-1] else 401
                self.reply(refused, {"Content-Length": "0", "X-Error-Code": "GatedRepo"})
            elif data is None:
                self.reply(404, {"Content-Length": "0"})
            elif direct and hub.large:
                self.reply(302, self.linked(direct[1], data) | {"Location": hub.location or f"/blobs/{name}"})
            else:
                self.send(data, direct[1] if direct else "", body=body)

        def linked(self, revision: str, data: bytes) -> dict[str, str]:
            digest = hub.lie or hashlib.sha256(data).hexdigest()
            return {
                "X-Repo-Commit": hub.commit or revision,
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(data)),
                "Content-Length": "0",
            }

        def send(self, data: bytes, revision: str, *, body: bool) -> None:
            git = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            headers = {"ETag": f'"{hub.lie or git}"'} | ({"X-Repo-Commit": hub.commit or revision} if revision else {})
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if hub.ranges else 0
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            part = data[start:]
            self.reply(206 if start else 200, headers | {"Content-Length": str(len(part))})
            if body and hub.break_after:
                self.wfile.write(part[: hub.break_after.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
            elif body:
                self.wfile.write(part)

        def reply(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    return Handler
