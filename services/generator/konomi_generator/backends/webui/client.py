"""Calls to a running A1111, Forge or SD.Next over HTTP: one address, no redirects, bounded answers."""

import base64
import binascii
import http.client
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from konomi.errors import Cancelled, FailedPrecondition, Internal, ResourceExhausted, Unavailable

MAX_ANSWER = 128 << 20
LOOK_SECONDS = 0.1
QUICK_SECONDS = 10.0


class SdapiClient:
    """The program at one address; safe to use from several threads at once."""

    def __init__(self, url: str, timeout: float) -> None:
        self._parts, self._timeout = urlsplit(url), timeout
        self.address = f"{self._parts.scheme}://{self._parts.netloc}"

    def get(self, path: str) -> Any:
        """Returns the JSON of a path under /sdapi/v1/. Raises what `post` raises."""
        return self._call("GET", path, None, QUICK_SECONDS)

    def post(self, path: str, body: dict[str, Any], stopped: Callable[[], bool] | None = None) -> Any:
        """Sends JSON to a path under /sdapi/v1/ and returns the JSON of the answer.

        Args:
            path: for example "txt2img".
            body: the request.
            stopped: asked ten times a second; where it says so, the program is told to stop.

        Raises:
            Unavailable: the program cannot be reached, or took too long.
            FailedPrecondition: it refused, or has no such API.
            ResourceExhausted: its device's memory is full.
            Internal: its answer cannot be read.
            Cancelled: `stopped` said so.
        """
        if stopped is None:
            return self._call("POST", path, body, QUICK_SECONDS)
        outcome: list[Any] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                outcome.append(self._call("POST", path, body, self._timeout))
            except BaseException as error:  # noqa: BLE001  raised again below, in the thread that asked
                failure.append(error)

        thread = threading.Thread(target=work, name="sdapi", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(LOOK_SECONDS)
            if stopped() and thread.is_alive():
                self._call("POST", "interrupt", {}, QUICK_SECONDS)
                thread.join(QUICK_SECONDS)
                raise Cancelled("The caller went away.", reason="CANCELLED")
        if failure:
            raise failure[0]
        return outcome[0]

    def _call(self, method: str, path: str, body: dict[str, Any] | None, seconds: float) -> Any:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=seconds)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, f"/sdapi/v1/{path}", data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            raw = response.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"{self.address} does not answer ({type(error).__name__}): start it with its API, or set the "
                "generator's sdapi_url.",
                reason="SDAPI_UNREACHABLE",
                retry_after=5.0,
            ) from error
        finally:
            connection.close()
        if len(raw) > MAX_ANSWER:
            raise self.odd("it sent more than an answer may have")
        try:
            answer = json.loads(raw or b"null")
        except ValueError as error:
            if response.status == 200:
                raise self.odd("it is no JSON") from error
            answer = {}
        if response.status != 200:
            raise self._refusal(response.status, answer if isinstance(answer, dict) else {})
        return answer

    def odd(self, why: str) -> Internal:
        """Returns the error for an answer that cannot be used."""
        return Internal(f"The answer of {self.address} cannot be used: {why}.", reason="SDAPI_ANSWER")

    def _refusal(self, status: int, answer: dict[str, Any]) -> Exception:
        message = " ".join(str(answer.get(key) or "") for key in ("error", "detail", "errors")).strip()[:300]
        if "outofmemory" in message.lower().replace(" ", "").replace("_", ""):
            return ResourceExhausted(f"{self.address} has no memory left for this image.", reason="DEVICE_MEMORY")
        if status == 404 and not message.startswith("Sampler"):
            message = message or "it has no such call; start it with --api"
        return FailedPrecondition(f"{self.address} refused with {status}: {message}", reason="SDAPI_REFUSED")


def unpacked(image: object) -> bytes:
    """Returns the bytes of a base64 image, with or without its data URL prefix; empty where it is none."""
    if not isinstance(image, str):
        return b""
    try:
        return base64.b64decode(image.rpartition(",")[2], validate=True)
    except (ValueError, binascii.Error):
        return b""


def packed(data: bytes) -> str:
    """Returns base64 text."""
    return base64.b64encode(data).decode()
