"""One file from a hub: what the hub says of it, its bytes with resume, and the proof that they are the right ones."""

import hashlib
import http.client
import json
import os
import re
import shutil
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, urljoin, urlsplit

from pydantic import Field

from konomi.errors import DataLoss, FailedPrecondition, NotFound, PermissionDenied, ResourceExhausted, Unavailable
from konomi.host.hub_models import Download, Remote
from konomi.host.hub_token import VARIABLE, HubToken
from konomi.i18n.catalogue import text
from konomi.settings import KonomiSettings

CHUNK = 1 << 20
REDIRECTS = 5
SECONDS = 60.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PLAIN = {"User-Agent": "konomi", "Accept-Encoding": "identity"}
NO_TOKEN = HubToken()
GATED = "GatedRepo"
"""How the hub calls what it gives only to who has accepted the terms."""
NEWEST, INDEX = "main", "model_index.json"
SHA256, SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
MAX_HEADER_BYTES = 8_000_000
Beat = Callable[..., None]
"""Takes `completed`, the bytes there, and `total`, the bytes in all."""


class FetchSettings(KonomiSettings):
    """Where `konomi models fetch` asks."""

    toml_table: ClassVar[str] = "fetch"

    hub: str = Field(default="https://huggingface.co", pattern=r"https?://[^/\s]+/?")
    """Address of the hub, or of a mirror of your own; plain http only on this machine."""

    hub_token_file: Path | None = None
    """File that holds a token of the hub, for models it gives only to who has accepted their terms; readable by its
    owner alone. HF_TOKEN in the environment stands over it. Default: `tokens/hub.token` of the home."""

    fetch_tries: int = Field(default=4, ge=1, le=100)
    """How often a broken connection is taken up again before the command gives up."""

    def token_file(self) -> Path:
        """Returns the file a token is looked for in."""
        return self.hub_token_file or self.home / "tokens" / "hub.token"


@dataclass(frozen=True)
class Facts:
    """What is known of a file before its bytes come.

    Attributes:
        sha256: of its bytes; empty for a small file the hub knows only by its git name.
        git: sha1 of git's blob, where the hub gives that instead.
        size: in bytes.
        pinned: the digest comes from konomi's own list, not from the hub.
    """

    sha256: str
    git: str
    size: int
    pinned: bool


def newest(hub: str, model: Download, token: HubToken = NO_TOKEN) -> str:
    """Asks the hub for the commit its newest revision of a model is, without any bytes of it.

    Raises:
        PermissionDenied: the hub gives it only to who has accepted its terms (reason HUB_GATED).
        Unavailable: the hub cannot be reached, or names none.
    """
    asked = replace(model, revision=NEWEST)
    first = model.files[0] if model.files else Remote(INDEX, INDEX)
    answer = _ask(_url(hub, asked, first), "HEAD", follow=False, token=token)
    commit = answer.headers.get("X-Repo-Commit", "").lower()
    if SHA1.fullmatch(commit):
        return commit
    message = text(
        "the hub names no revision of {repository}, so none could be kept; try later", repository=model.repository
    )
    raise Unavailable(message, reason="HUB")


def facts(hub: str, model: Download, file: Remote, token: HubToken = NO_TOKEN) -> Facts:
    """Asks the hub for a file's digest and size, without its bytes.

    Raises:
        NotFound: there is no such file at that revision.
        PermissionDenied: the hub gives it only to who has accepted its terms (reason HUB_GATED).
        DataLoss: what the hub says is not what konomi's list says.
        Unavailable: the hub cannot be reached, or says too little.
    """
    response = _ask(_url(hub, model, file), "HEAD", follow=False, token=token)
    headers = response.headers
    digest = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"').lower()
    size = int(headers.get("X-Linked-Size") or headers.get("Content-Length") or 0)
    commit = headers.get("X-Repo-Commit", "")
    if commit and commit != model.revision:
        message = text(
            "revision {asked} was asked for; the hub answered for {got}", asked=model.revision, got=commit[:40]
        )
        raise DataLoss(message)
    if file.sha256 and SHA256.fullmatch(digest) and digest != file.sha256:
        message = text(
            "{file}: sha256 {wanted} was expected; the hub offers {got}", file=file.path, wanted=file.sha256, got=digest
        )
        raise DataLoss(message, reason="DIGEST")
    if file.sha256:
        return Facts(file.sha256, "", file.size or size, pinned=True)
    if SHA256.fullmatch(digest) and size:
        return Facts(digest, "", size, pinned=False)
    if SHA1.fullmatch(digest) and size:
        return Facts("", digest, size, pinned=False)
    message = text("{file}: the hub names no digest, so nothing would prove what came; try later", file=file.path)
    raise Unavailable(message)


def fetch(url: str, part: Path, facts: Facts, tries: int, beat: Beat, token: HubToken = NO_TOKEN) -> None:
    """Brings a file's bytes, going on where an earlier try ended, and checks them.

    Args:
        url: of the file.
        part: where the bytes gather; it stays when the connection breaks, and is gone when they are the wrong ones.
        facts: what they must be.
        tries: how often to take a broken connection up again.
        beat: called as they come.
        token: of the hub, for its own address alone.

    Raises:
        ResourceExhausted: the disk has no room.
        DataLoss: the bytes are not those expected.
        Unavailable: the connection broke too often.
    """
    room = shutil.disk_usage(part.parent).free + (part.stat().st_size if part.exists() else 0)
    if room < facts.size:
        message = text("{needed} bytes are needed on this disk, {free} are free", needed=facts.size, free=room)
        raise ResourceExhausted(message, reason="DISK_FULL")
    for number in range(tries):
        time.sleep(min(2.0**number, 30.0) - 1 if number else 0)
        try:
            _append(url, part, facts, beat, token)
        except (OSError, http.client.HTTPException, Unavailable):
            continue
        if part.stat().st_size >= facts.size:
            break
    have = part.stat().st_size if part.exists() else 0
    if have < facts.size:
        raise Unavailable(
            text(
                "the connection broke at byte {have} of {size}; the same command goes on there",
                have=have,
                size=facts.size,
            )
        )
    _check(part, facts)


def check_safetensors(part: Path, name: str) -> None:
    """Raises FailedPrecondition, and removes the file, unless its first bytes are the header of safetensors."""
    with part.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        raw = file.read(length) if 2 <= length <= min(MAX_HEADER_BYTES, part.stat().st_size - 8) else b""
    try:
        fine = isinstance(json.loads(raw), dict)
    except ValueError:
        fine = False
    if not fine:
        part.unlink()
        raise FailedPrecondition(
            text("{name} is not safetensors and was thrown away", name=name), reason="UNSAFE_FORMAT"
        )


def address(hub: str, model: Download, file: Remote) -> str:
    """Returns a file's address, checked: https, or plain http on this machine.

    Raises:
        FailedPrecondition: it is neither.
    """
    url = _url(hub, model, file)
    _check_address(url)
    return url


def _append(url: str, part: Path, facts: Facts, beat: Beat, token: HubToken) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= facts.size:
        return
    ranged = {"Range": f"bytes={have}-"} if have else {}
    response = _ask(url, "GET", follow=True, token=token, headers=ranged)
    if response.status != 206:
        have = 0  # this hub cannot go on where it ended
    elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
        raise http.client.HTTPException("another range came than the one asked for")
    with part.open("r+b" if part.exists() else "xb") as out:
        out.truncate(have)
        out.seek(have)
        while have < facts.size and (chunk := response.read(min(CHUNK, facts.size - have))):
            have += out.write(chunk)
            beat(completed=have, total=facts.size)
        out.flush()
        os.fsync(out.fileno())


def _check(part: Path, facts: Facts) -> None:
    size = part.stat().st_size
    with part.open("rb") as file:
        if facts.sha256:
            digest, expected = hashlib.file_digest(file, "sha256").hexdigest(), facts.sha256
        else:
            whole = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
            while chunk := file.read(CHUNK):
                whole.update(chunk)
            digest, expected = whole.hexdigest(), facts.git
    if digest != expected:
        part.unlink()
        message = text(
            "digest {wanted} was expected, {got} came; what came was thrown away", wanted=expected, got=digest
        )
        raise DataLoss(message, reason="DIGEST")


def _ask(
    url: str, method: str, *, follow: bool, token: HubToken, headers: Mapping[str, str] | None = None
) -> http.client.HTTPResponse:
    """Sends one request and follows redirects where that is wanted; the answer is a success or a redirect.

    The token goes with what is asked of the first address's own host, and never with what it leads on to elsewhere.
    """
    first = url
    for _ in range(REDIRECTS + 1):
        _check_address(url)
        parts = urlsplit(url)
        own = token.secret and _origin(url) == _origin(first)
        sent = {**PLAIN, **(headers or {}), **({"Authorization": f"Bearer {token.secret}"} if own else {})}
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=SECONDS)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(method, target, headers=sent)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            message = text("{host} cannot be reached: {why}", host=parts.hostname, why=type(error).__name__)
            raise Unavailable(message, reason="HUB") from error
        if response.status in (301, 302, 303, 307, 308) and response.headers.get("Location"):
            beyond = urljoin(url, response.headers["Location"])
            if not follow and response.headers.get("X-Linked-Etag"):
                return response
            url = beyond
            continue
        if response.status in (401, 403) and response.headers.get("X-Error-Code") == GATED:
            raise _gated(first, token)
        if response.status in (401, 403, 404):
            raise _absent(parts.path, response.status)
        if response.status not in (200, 206):
            message = text("{host} answered {status}; try later", host=parts.hostname, status=response.status)
            raise Unavailable(message, reason="HUB")
        return response
    raise Unavailable(text("the hub sends in circles"), reason="HUB")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _gated(url: str, token: HubToken) -> PermissionDenied:
    """Returns the error for a model whose terms have to be accepted; it says where."""
    parts = urlsplit(url)
    hub = f"{parts.scheme}://{parts.netloc}"
    page = hub + parts.path.partition("/resolve/")[0]
    if token.secret:
        message = text(
            "the hub gives this model only to who has accepted its terms, and the account of the token from {source} "
            "has not: read and accept them at {page}, then run the same command again",
            source=token.source,
            page=page,
        )
    else:
        message = text(
            "the hub gives this model only to who has accepted its terms: read and accept them at {page}, make a token "
            "that may read at {tokens}, and set {variable} to it, or write it into tokens/hub.token of the home with "
            "chmod 600; then run the same command again",
            page=page,
            tokens=f"{hub}/settings/tokens",
            variable=VARIABLE,
        )
    return PermissionDenied(message, reason="HUB_GATED")


def _absent(path: str, status: int) -> NotFound:
    message = text("{path} is not there, or not for everyone ({status})", path=path, status=status)
    return NotFound(message, reason="HUB")


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return
    came = f"{parts.scheme}://{parts.hostname}"
    message = text("https was expected, or http on this machine; {address} came", address=came)
    raise FailedPrecondition(message, reason="INSECURE")


def _url(hub: str, model: Download, file: Remote) -> str:
    return f"{hub.rstrip('/')}/{model.repository}/resolve/{model.revision}/{quote(file.path)}"
