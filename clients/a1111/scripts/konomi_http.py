"""Asks a konomi rater over Connect-JSON; the standard library alone, so that it breaks nobody's environment."""

import base64
import json
import os
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
    """The rater cannot be reached, or said no; the message says what to do."""


def default_token() -> str:
    """Returns KONOMI_TOKEN, or the owner's token of this machine's konomi; empty where there is neither."""
    if os.environ.get("KONOMI_TOKEN"):
        return os.environ["KONOMI_TOKEN"]
    home = Path(os.environ.get("KONOMI_HOME") or Path.home() / ".local" / "share" / "konomi")
    try:
        return (home / "tokens" / "owner.token").read_text().strip()
    except OSError:
        return ""


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


def score(images: list, address: str, taste: str = "default", token: str = "") -> list:
    """Returns one score per encoded image (PNG, JPEG or WebP), in order.

    Args:
        images: bytes of each image.
        address: what `konomi up` prints as its page, as it stands there, or "http://127.0.0.1:50050".
        taste: id of the taste.
        token: a token of scope `tool` or more; empty takes the one of this machine.

    Returns:
        dicts with "utility" 1..5, "std", "lower_bound", "grade_probabilities" of N R SR SSR UR, "grade", "typicality"
        and "novelty"; or with "error" alone, for an image that cannot be read.

    Raises:
        KonomiRefused: the rater cannot be reached, or refused.
    """
    found: list = []
    batch: list = []
    size = 0
    for data in images:
        if batch and (size + len(data) > MAX_BODY or len(batch) == MAX_IMAGES):
            found += _ask(batch, address, taste, token)
            batch, size = [], 0
        batch.append(data)
        size += len(data)
    return found + (_ask(batch, address, taste, token) if batch else [])


def _ask(batch: list, address: str, taste: str, token: str) -> list:
    body = {
        "taste": f"tastes/{taste}",
        "images": [{"content": base64.b64encode(data).decode()} for data in batch],
    }
    if not address.strip().startswith(("http://", "https://")):
        raise KonomiRefused(f'expected an address like "http://127.0.0.1:50050", got {address!r}')
    place = urllib.parse.urlsplit(address.strip())  # pasted as it was printed, it has a ticket behind it
    request = urllib.request.Request(
        f"{place.scheme}://{place.netloc}/konomi.v1.RaterService/ScoreImages",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Bearer " + (token or default_token())},
    )
    try:
        with _opener(address).open(request, timeout=SECONDS) as reply:
            results = json.load(reply).get("results", [])
    except urllib.error.HTTPError as error:
        raise KonomiRefused(f"konomi refused: {_reason(error)}") from error
    except (OSError, ValueError) as error:
        raise KonomiRefused(f"no konomi answers at {address} ({error}); start `konomi up`") from error
    return [_plain(result) for result in results]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nowhere: urllib would carry the token along."""

    def redirect_request(self, *_: object) -> None:
        return None


def _opener(address: str) -> urllib.request.OpenerDirector:
    """Returns what asks an address; on this machine never through a proxy, which would get pictures and token."""
    host = urllib.parse.urlsplit(address).hostname or ""
    local = host in ("localhost", "::1") or host.startswith("127.")
    return urllib.request.build_opener(_NoRedirect, *([urllib.request.ProxyHandler({})] if local else []))


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


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error).get("message", error.reason))
    except ValueError:
        return str(error.reason)
