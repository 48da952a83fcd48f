"""One Immich server over HTTP: the key, the addresses it may have, and its refusals in words.

The shapes are those of Immich's OpenAPI document, version 3.1.0; what is asked is the same in 1.136 and 2.x. Its errors
are {"message", "error", "statusCode", "correlationId"}.
"""

import http.client
import ipaddress
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from konomi.datasets.media import MAX_IMAGE_BYTES
from konomi.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    KonomiError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from konomi.host.hub_token import IMMICH, HubToken, read_token
from konomi.i18n.catalogue import text
from konomi.settings import KonomiSettings

JSON_BYTES = 64 * 1024**2


class ImmichSettings(KonomiSettings):
    """The Immich server whose pictures `konomi immich` reads."""

    toml_table: ClassVar[str] = "immich"

    immich_url: str = Field(default="", pattern=r"^(https?://[^/\s?#@]+(/[^\s?#]*)?)?$")
    """Address of the server, as the browser shows it: "https://photos.example.org". Plain http only within your own
    network. Nothing else is ever asked, and no redirect is followed."""

    immich_key_file: Path | None = None
    """File that holds an API key of Immich; readable by its owner alone. IMMICH_API_KEY in the environment stands over
    it. Default: `tokens/immich.key` of the home."""

    immich_seconds: float = Field(default=60.0, gt=0, le=3600)
    """The longest silence of the server that is waited through, in seconds."""

    def key_file(self) -> Path:
        """Returns the file a key is looked for in."""
        return self.immich_key_file or self.home / "tokens" / "immich.key"


class ImmichServer:
    """What is asked of one server.

    Attributes:
        address: of the server, without a slash behind it.
    """

    def __init__(self, address: str, key: HubToken, seconds: float) -> None:
        self.address, self._key, self._seconds = address, key, seconds
        direct = [urllib.request.ProxyHandler({})] if _is_loopback(address) else []
        self._opener = urllib.request.build_opener(_NoRedirect, *direct)

    @classmethod
    def of(cls, settings: ImmichSettings) -> "ImmichServer":
        """Returns the server the settings name.

        Raises:
            FailedPrecondition: they name none (reason IMMICH_URL), there is no key (reason IMMICH_KEY), or its file is
                not its owner's alone (reason TOKEN_RIGHTS).
            InvalidArgument: the key would go over the open network in plain text.
        """
        address = settings.immich_url.rstrip("/").removesuffix("/api")
        if not address:
            raise FailedPrecondition(
                text("no Immich server is named: set immich_url in [immich] of konomi.toml, or KONOMI_IMMICH_URL"),
                reason="IMMICH_URL",
            )
        if urlsplit(address).scheme == "http" and not _is_within(address):
            line = text(
                "{address} is outside your own network: expected https, so that nobody reads the key", address=address
            )
            raise InvalidArgument(line, reason="IMMICH_PLAIN", field="immich_url")
        key = read_token(settings.key_file(), IMMICH)
        if not key.secret:
            raise FailedPrecondition(
                text(
                    "there is no API key: make one in Immich (Account settings, API keys) and put it into {file}, "
                    "readable by you alone, or into {variable}",
                    file=settings.key_file(),
                    variable=IMMICH,
                ),
                reason="IMMICH_KEY",
            )
        return cls(address, key, settings.immich_seconds)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Returns the JSON a call answers with; None where it answers with nothing.

        Args:
            method: "GET", "POST", "PUT" or "DELETE".
            path: below the server's /api.
            body: sent as JSON.

        Raises:
            KonomiError: the server cannot be reached, or refused; see `refusal`.
        """
        data = None if body is None else json.dumps(body).encode()
        answer = self._send(method, path, data, JSON_BYTES)
        if not answer:
            return None
        try:
            return json.loads(answer)
        except ValueError as error:
            raise self._no_immich() from error

    def bytes_of(self, path: str) -> bytes:
        """Returns the bytes of a picture; errors as of `ask`, and ResourceExhausted where it is too large."""
        return self._send("GET", path, None, MAX_IMAGE_BYTES)

    def version(self) -> str:
        """Returns the server's version, "3.1.0"; errors as of `ask`."""
        said = self.ask("GET", "/server/version")
        try:
            return ".".join(str(int(said[part])) for part in ("major", "minor", "patch"))
        except (KeyError, TypeError, ValueError) as error:
            raise self._no_immich() from error

    def _send(self, method: str, path: str, data: bytes | None, most: int) -> bytes:
        headers = {"x-api-key": self._key.secret, "Accept": "application/json, image/*", "User-Agent": "konomi"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(f"{self.address}/api{path}", data, headers, method=method)
        try:
            with self._opener.open(request, timeout=self._seconds) as reply:
                answer: bytes = reply.read(most + 1)
        except urllib.error.HTTPError as error:
            raise refusal(error.code, _message(error), path) from error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            line = text("Immich does not answer at {address}: {why}", address=self.address, why=why)
            raise Unavailable(line, reason="IMMICH_AWAY") from error
        if len(answer) > most:
            line = text("expected at most {most} MiB, got more; shrink it first", most=most // 1024**2)
            raise ResourceExhausted(line, reason="IMAGE_TOO_LARGE")
        return answer

    def _no_immich(self) -> KonomiError:
        line = text(
            "what answers at {address} is no Immich: its answer is not the JSON that was expected", address=self.address
        )
        return DataLoss(line, reason="IMMICH_ANSWER")


def refusal(status: int, message: str, path: str) -> KonomiError:
    """Returns what a status of Immich is, with what to do.

    Args:
        status: of HTTP.
        message: what Immich said of it; may be empty.
        path: what was asked.
    """
    said = message or str(http.client.responses.get(status, status))
    if status in (301, 302, 303, 307, 308):
        line = text("Immich answered {status} and leads elsewhere: set immich_url to where it leads", status=status)
        return FailedPrecondition(line, reason="IMMICH_ELSEWHERE")
    if status == 401:
        line = text("Immich does not know this API key ({status}: {said}): make a new one", status=status, said=said)
        return Unauthenticated(line, reason="IMMICH_KEY_UNKNOWN")
    if status == 403:
        line = text(
            "the API key may not do this ({status}: {said}): give it that permission in Immich's API keys",
            status=status,
            said=said,
        )
        return PermissionDenied(line, reason="IMMICH_KEY_DENIED")
    if status == 404:
        line = text("Immich has nothing at {path} ({status}: {said})", path=path, status=status, said=said)
        return NotFound(line, reason="IMMICH_GONE")
    if status == 429:
        return ResourceExhausted(
            text("Immich is asked too often ({status}); the same command goes on from there", status=status),
            reason="IMMICH_BUSY",
        )
    if status >= 500:
        line = text("Immich met a fault of its own ({status}: {said}); look at its log", status=status, said=said)
        return Unavailable(line, reason="IMMICH_FAULT")
    line = text("Immich refused {path} ({status}: {said})", path=path, status=status, said=said)
    return InvalidArgument(line, reason="IMMICH_REFUSED")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nowhere: the key would be carried along."""

    def redirect_request(self, *_: object) -> None:
        return None


def _message(error: urllib.error.HTTPError) -> str:
    """Returns what Immich says of a refusal; several messages as one."""
    try:
        said = json.loads(error.read(64 * 1024)).get("message", "")
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return ""
    return ", ".join(map(str, said)) if isinstance(said, list) else str(said)


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_within(address: str) -> bool:
    """Says whether an address is of this machine or of a network of one's own; of names, those no public one can be."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".internal", ".home.arpa"))
