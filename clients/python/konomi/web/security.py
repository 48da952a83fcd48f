"""What every request to the page passes before anything else sees it: host, path, method, origin, identity."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from konomi.errors import KonomiError
from konomi.i18n.catalogue import text
from konomi.web.auth import COOKIE, BearerCheck, SessionAuth
from konomi.web.responses import BODY_BYTES, STATUS, error_body
from konomi.web.uploads.endpoints import BLOCK_BYTES
from konomi.web.uploads.staging import FILE_BYTES

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types konomi"
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=()"),
)
PATH = re.compile(rb"/[A-Za-z0-9._/-]{0,200}")
RPC = "/konomi."
OPEN = ("/static/", "/icon-")
OPEN_EXACT = frozenset({"/", "/sw.js", "/manifest.webmanifest"})
CONTENT_TYPES = ("application/json", "application/connect+json")
UPLOAD, UPLOAD_TYPES = "/konomi.page/UploadFile/", ("application/octet-stream",)
"""Where files come in, whose bodies go to the disk block by block and are never held whole."""
RPC_BYTES = 24 * 1024 * 1024
"""Of a request that is relayed: 16 MiB of images as base64."""
BODIES_BYTES = 96 * 1024 * 1024
"""Of all bodies that are held at once."""


class Refusal(Exception):
    """Why a request goes no further."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Guard:
    """Wraps the page's application; whatever is not allowed here is refused.

    Args:
        app: what answers when all is well.
        origins: exact origins of the page, "http://127.0.0.1:50050"; their hosts are the only ones answered to.
        auth: knows the cookies.
        bearers: knows the tokens programs bring.
    """

    def __init__(self, app: App, origins: frozenset[str], auth: SessionAuth, bearers: BearerCheck) -> None:
        self._app, self._origins, self._auth, self._bearers = app, origins, auth, bearers
        self._held = 0
        self._hosts = frozenset(origin.partition("://")[2] for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it with a refusal; anything but HTTP is closed."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _sealed(list(message.get("headers", ())))
            await send(message)

        headers = _Headers(scope["headers"])
        try:
            bearer = self._check(scope, headers)
            if bearer:
                await self._check_bearer(bearer)
            size = _body_bytes(scope["path"], headers)
            if self._held + size > BODIES_BYTES:
                raise Refusal(429, "resource_exhausted", text("too many requests at once; try again in a moment"))
        except Refusal as refusal:
            await _refuse(sealed, refusal)
            return
        self._held += size
        try:
            await self._app(scope, receive, sealed)
        finally:
            self._held -= size

    async def _check_bearer(self, bearer: str) -> None:
        """A program's token is looked up before a byte of its request is read."""
        try:
            known = await self._bearers.knows(bearer)
        except KonomiError as error:
            code = error.code.name.lower()
            raise Refusal(STATUS.get(code, 500), code, error.message) from error
        if not known:
            raise Refusal(401, "unauthenticated", text("This token is not known here."))

    def _check(self, scope: Scope, headers: "_Headers") -> str:
        """Returns the token that is still to be looked up, or nothing where a cookie said who asks."""
        if headers.only("host") not in self._hosts:
            raise Refusal(421, "permission_denied", text("This server does not answer to that host name."))
        raw = scope.get("raw_path") or scope["path"].encode()
        if not PATH.fullmatch(raw) or b"//" in raw or b"/." in raw:
            raise Refusal(404, "not_found", text("There is nothing at this address."))
        path, method = scope["path"], scope["method"]
        acts = path.startswith(RPC) or path == "/session"
        if method not in (("POST",) if acts else ("GET", "HEAD")):
            raise Refusal(405, "unimplemented", text("This method is not served here."))
        bearer = headers.only("authorization")
        if acts:
            self._check_act(headers, path, bearer)
        else:
            self._check_look(headers, path)
        if path in OPEN_EXACT or path.startswith(OPEN) or path == "/session":
            return ""
        if bearer and path.startswith("/konomi.v1."):
            return bearer
        if not any(self._auth.is_signed_in(cookie) for cookie in headers.cookies()):
            raise Refusal(401, "unauthenticated", text("Open the page by the link that konomi label prints."))
        return ""

    def _check_act(self, headers: "_Headers", path: str, bearer: str) -> None:
        """A call must come from the page itself, or from a program with a token of its own that is no web page."""
        origin, site = headers.only("origin"), headers.only("sec-fetch-site")
        foreign = (headers.has("origin") and origin not in self._origins) or (
            headers.has("sec-fetch-site") and site != "same-origin"
        )
        declared = headers.has("origin") or headers.has("sec-fetch-site")
        program = bool(bearer) and path.startswith("/konomi.v1.")
        if foreign or not (declared or program):
            raise Refusal(403, "permission_denied", text("Only the page itself may do this."))
        kind = headers.only("content-type").partition(";")[0].strip().lower()
        if path.startswith(UPLOAD):
            if kind not in UPLOAD_TYPES:
                raise Refusal(415, "invalid_argument", text("application/octet-stream was expected."))
        elif kind not in CONTENT_TYPES:
            raise Refusal(415, "invalid_argument", text("application/json was expected."))
        if headers.has("content-encoding"):
            raise Refusal(415, "invalid_argument", text("An uncompressed body was expected."))

    def _check_look(self, headers: "_Headers", path: str) -> None:
        """A picture may only be shown by the page; the page itself may also be reached by a link from elsewhere."""
        site, mode = headers.only("sec-fetch-site"), headers.only("sec-fetch-mode")
        if headers.has("origin") and headers.only("origin") not in self._origins:
            raise Refusal(403, "permission_denied", text("Only the page itself may read this."))
        linked = path == "/" and mode == "navigate" and headers.only("sec-fetch-dest") == "document"
        if headers.has("sec-fetch-site") and site not in ("same-origin", "none") and not linked:
            raise Refusal(403, "permission_denied", text("Only the page itself may read this."))


class _Headers:
    """The headers of a request; one that came twice where one is meant counts as wrong."""

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in raw:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))

    def has(self, name: str) -> bool:
        return name in self._values

    def only(self, name: str) -> str:
        values = self._values.get(name, [])
        return values[0] if len(values) == 1 else ""

    def cookies(self) -> list[str]:
        values = []
        for line in self._values.get("cookie", []):
            for part in line.split(";"):
                try:
                    jar = SimpleCookie(part.strip())
                except CookieError:
                    continue
                if COOKIE in jar:
                    values.append(jar[COOKIE].value)
        return values


def _body_bytes(path: str, headers: _Headers) -> int:
    """Returns how many bytes the body of a request may have: as many as it declares, or the most where it does not.

    Raises:
        Refusal: it declares more than may come, or a file does not declare how large it is.
    """
    if not (path.startswith(RPC) or path == "/session"):
        return 0
    is_file = path.startswith(UPLOAD)
    most = FILE_BYTES if is_file else RPC_BYTES if path.startswith("/konomi.v1.") else BODY_BYTES
    if is_file and (headers.has("transfer-encoding") or not headers.has("content-length")):
        raise Refusal(411, "invalid_argument", text("A Content-Length was expected."))
    if not headers.has("content-length"):
        return most
    declared = headers.only("content-length")
    if not declared.isdecimal() or len(declared) > 12 or int(declared) > most:
        raise Refusal(413, "resource_exhausted", text("expected at most {most} bytes, got more", most=most))
    return min(int(declared), 2 * BLOCK_BYTES) if is_file else int(declared)


def _sealed(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Adds what every answer carries; a policy or a cache rule that is there already stays."""
    names = {name.lower() for name, _ in headers}
    if b"content-security-policy" not in names:
        headers.append((b"content-security-policy", POLICY.encode()))
    if b"cache-control" not in names:
        headers.append((b"cache-control", b"no-store"))
    return headers + list(HEADERS)


async def _refuse(send: Send, refusal: Refusal) -> None:
    body = error_body(refusal.code, str(refusal))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
