"""Asks a konomi rater over Connect-JSON; the standard library alone, so that it breaks nobody's environment."""

import base64
import http.client
import ipaddress
import json
import os
import stat
import struct
import urllib.error
import urllib.parse
import urllib.request
import zlib
from pathlib import Path

GRADES = ("N", "R", "SR", "SSR", "UR")
MAX_BODY = 12 * 1024 * 1024
MAX_IMAGES = 64
SECONDS = 120


class KonomiRefused(RuntimeError):
    """The rater cannot be reached, or said no; the message says what to do.

    Attributes:
        code: Connect's word for it, "permission_denied" for one; empty where konomi said nothing.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def default_token() -> str:
    """Returns KONOMI_TOKEN, else what the file KONOMI_TOKEN_FILE holds, else the owner's token of this machine.

    Raises:
        KonomiRefused: the file cannot be read, or others than its owner may read it.
    """
    if os.environ.get("KONOMI_TOKEN"):
        return os.environ["KONOMI_TOKEN"].strip()
    if os.environ.get("KONOMI_TOKEN_FILE"):
        return _secret(Path(os.environ["KONOMI_TOKEN_FILE"]))
    home = Path(os.environ.get("KONOMI_HOME") or Path.home() / ".local" / "share" / "konomi")
    try:
        return (home / "tokens" / "owner.token").read_text().strip()
    except OSError:
        return ""


def _secret(path: Path) -> str:
    try:
        shared = os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077
        text = path.read_text().strip()
    except (OSError, ValueError) as error:
        raise KonomiRefused(f"KONOMI_TOKEN_FILE names {path}, which cannot be read: {error}") from error
    if shared:
        raise KonomiRefused(f"others may read {path}; run: chmod 600 {path}")
    return text


def png(width: int, height: int, rgb: bytes) -> bytes:
    """Returns 8-bit RGB pixels, row by row, as a PNG."""
    if len(rgb) != width * height * 3:
        raise ValueError(f"expected {width * height * 3} bytes for {width} x {height} RGB pixels, got {len(rgb)}")

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + rgb[start : start + width * 3] for start in range(0, len(rgb), width * 3))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + packed


def score(images: list, address: str, taste: str = "default", token: str = "", seconds: float = SECONDS) -> list:
    """Returns one score per encoded image (PNG, JPEG or WebP), in order.

    Args:
        images: bytes of each image.
        address: what `konomi up` prints as its page, as it stands there, or "http://127.0.0.1:50050".
        taste: id of the taste.
        token: a token of scope `tool` or more; empty takes the one of this machine.
        seconds: the longest silence that is waited through.

    Returns:
        dicts with "utility" 1..5, "std", "lower_bound", "grade_probabilities" of N R SR SSR UR, "grade", "typicality"
        and "novelty"; or with "error" alone, for an image that cannot be read.

    Raises:
        KonomiRefused: the rater cannot be reached, or refused.
    """
    found: list = []
    for batch in batches(images):
        body = {"taste": f"tastes/{taste}", "images": [{"content": encoded(data)} for data in batch]}
        reply = call("RaterService/ScoreImages", body, address, token, seconds)
        found += [_plain(result) for result in reply.get("results", [])]
    return found


def batches(images: list) -> list:
    """Returns images in groups that go into one call each."""
    groups: list = []
    size = 0
    for data in images:
        if not groups or size + len(data) > MAX_BODY or len(groups[-1]) == MAX_IMAGES:
            groups.append([])
            size = 0
        groups[-1].append(data)
        size += len(data)
    return groups


def encoded(data: bytes) -> str:
    """Returns bytes as JSON carries them."""
    return base64.b64encode(data).decode()


def call(method: str, body: dict, address: str, token: str = "", seconds: float = SECONDS) -> dict:
    """Returns the answer of a call that has one.

    Args:
        method: "RaterService/GetTaste".
        body: the request's JSON.
        address: of the page.
        token: empty takes the one of this machine.
        seconds: the longest silence that is waited through.

    Raises:
        KonomiRefused: konomi cannot be reached, or refused.
    """
    answer = _asked(method, json.dumps(body).encode(), "application/json", address, token, seconds)
    try:
        reply = json.loads(answer)
    except ValueError as error:
        raise KonomiRefused(f"no konomi answers at {address} ({error}); start `konomi up`") from error
    if not isinstance(reply, dict):
        raise KonomiRefused(f"no konomi answers at {address} (its answer is no object); start `konomi up`")
    return reply


def stream(method: str, bodies: list, address: str, token: str = "", seconds: float = SECONDS) -> list:
    """Returns all answers of a call that takes or gives a stream of messages; arguments and errors as of `call`."""
    messages = [json.dumps(body).encode() for body in bodies]
    sent = b"".join(b"\0" + struct.pack(">I", len(message)) + message for message in messages)
    answer = _asked(method, sent, "application/connect+json", address, token, seconds)
    replies: list = []
    at = 0
    try:
        while True:
            flags, length = struct.unpack_from(">BI", answer, at)
            reply = json.loads(answer[at + 5 : at + 5 + length] or b"{}")
            at += 5 + length
            if flags & 2:
                break
            replies.append(reply)
    except (struct.error, ValueError) as error:
        raise KonomiRefused(f"the answer of {address} was cut short; try again") from error
    if "error" in reply:
        code, words = (reply["error"].get(name, "") for name in ("code", "message"))
        raise KonomiRefused(f"konomi refused: {words or code}", code)
    return replies


def _asked(method: str, data: bytes, kind: str, address: str, token: str, seconds: float) -> bytes:
    if not address.strip().startswith(("http://", "https://")):
        raise KonomiRefused(f'expected an address like "http://127.0.0.1:50050", got {address!r}')
    place = urllib.parse.urlsplit(address.strip())  # pasted as it was printed, it has a ticket behind it
    request = urllib.request.Request(
        f"{place.scheme}://{place.netloc}/konomi.v1.{method}",
        data=data,
        headers={"Content-Type": kind, "Authorization": "Bearer " + (token or default_token())},
    )
    try:
        with _opener(address).open(request, timeout=seconds) as reply:
            return reply.read()
    except urllib.error.HTTPError as error:
        code, words = _reason(error)
        raise KonomiRefused(f"konomi refused: {words}", code) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise KonomiRefused(f"no konomi answers at {address} ({error}); start `konomi up`") from error


def is_here(address: str) -> bool:
    """Says whether an address is of this machine."""
    host = urllib.parse.urlsplit(address.strip()).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # another name, "127.example.org" among them


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nowhere: urllib would carry the token along."""

    def redirect_request(self, *_: object) -> None:
        return None


def _opener(address: str) -> urllib.request.OpenerDirector:
    """Returns what asks an address; on this machine never through a proxy, which would get pictures and token."""
    direct = [urllib.request.ProxyHandler({})] if is_here(address) else []
    return urllib.request.build_opener(_NoRedirect, *direct)


def _plain(result: dict) -> dict:
    """Returns a score with the names of the contract; JSON leaves out what is zero."""
    if "error" in result:
        return {"error": result["error"].get("message", "this image could not be scored")}
    said = result["score"]
    chances = said.get("gradeProbabilities", [])
    return {
        "utility": said.get("utility", 0.0),
        "std": said.get("std", 0.0),
        "lower_bound": said.get("lowerBound", 0.0),
        "grade_probabilities": chances,
        "grade": GRADES[chances.index(max(chances))] if len(chances) == len(GRADES) else "",
        "typicality": said.get("typicality", 0.0),
        "novelty": said.get("novelty", 0.0),
        "unknown": said.get("unknown", False),
        "rater_version": said.get("raterVersion", ""),
    }


def _reason(error: urllib.error.HTTPError) -> tuple:
    """Returns code and words of a refusal."""
    try:
        said = json.load(error)
        return str(said.get("code", "")), str(said.get("message", error.reason))
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return "", str(error.reason)
