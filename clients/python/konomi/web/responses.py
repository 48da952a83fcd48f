"""How the page's own endpoints answer: Connect's unary JSON, so that one small client in the browser reads all."""

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from konomi.client.refusals import told
from konomi.errors import InvalidArgument, KonomiError
from konomi.i18n import catalogue

BODY_BYTES = 256 * 1024
"""Of a request to the page's own endpoints."""

STATUS = {
    "invalid_argument": 400,
    "failed_precondition": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "already_exists": 409,
    "aborted": 409,
    "resource_exhausted": 429,
    "unimplemented": 501,
    "unavailable": 503,
    "deadline_exceeded": 504,
}
"""Connect code to HTTP status; everything else is 500."""

Result = TypeVar("Result")

Asked = Mapping[str, object]
"""A request's JSON object: nothing is known of a value until `text`, `number` or `measure` has looked at it."""
Endpoint = Callable[[Asked], Mapping[str, object]]
"""Takes the request's JSON object and returns the reply's; raises KonomiError."""


class SpokenByReader:
    """Answers every request in the language it accepts.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        accepts = Headers(raw=scope.get("headers", [])).get("accept-language", "")
        with catalogue.speaking(catalogue.accepted(accepts)):
            await self._app(scope, receive, send)


async def in_worker(workers: ThreadPoolExecutor, work: Callable[..., Result], *arguments: Any) -> Result:
    """Runs work in a worker thread, in the language of the request, and returns what it returns."""
    return await asyncio.get_running_loop().run_in_executor(workers, copy_context().run, work, *arguments)


def error_body(code: str, message: str, reason: str = "") -> bytes:
    """Returns the JSON of a Connect error."""
    body = {"code": code, "message": message} | ({"reason": reason} if reason else {})
    return json.dumps(body, ensure_ascii=False).encode()


def failure(error: KonomiError) -> Response:
    """Returns the answer that an error is."""
    code = error.code.name.lower()
    body = error_body(code, told(error), error.reason)
    return Response(body, STATUS.get(code, 500), media_type="application/json")


def answer(body: Mapping[str, object]) -> Response:
    """Returns a JSON answer."""
    return Response(json.dumps(body, ensure_ascii=False, allow_nan=False), media_type="application/json")


async def read(request: Request) -> Asked:
    """Returns the JSON object a request carries.

    Raises:
        InvalidArgument: it is too long, or no JSON object.
    """
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > BODY_BYTES:
            raise InvalidArgument(catalogue.text("expected at most {most} bytes, got more", most=BODY_BYTES))
    try:
        body: object = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(catalogue.text("expected a JSON object, got something else")) from error
    if not isinstance(body, dict):
        raise InvalidArgument(catalogue.text("expected a JSON object, got something else"))
    return body


def serve(endpoint: Endpoint, workers: ThreadPoolExecutor) -> Callable[[Request], Any]:
    """Returns the handler of an endpoint; the endpoint runs in a worker thread."""

    async def handle(request: Request) -> Response:
        try:
            asked = await read(request)
            return answer(await in_worker(workers, endpoint, asked))
        except KonomiError as error:
            return failure(error)

    return handle


def text(asked: Asked, name: str, default: str = "") -> str:
    """Returns a text field of a request.

    Raises:
        InvalidArgument: it is no text, or too long.
    """
    value = asked.get(name, default)
    if not isinstance(value, str) or len(value) > 4096:
        raise InvalidArgument(catalogue.text("expected a short text in {name}", name=name), field=name)
    return value


def number(asked: Asked, name: str, default: int, low: int, high: int) -> int:
    """Returns a whole number of a request.

    Raises:
        InvalidArgument: it is none, or out of its range.
    """
    value = asked.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        message = catalogue.text("expected {name} from {low} to {high}", name=name, low=low, high=high)
        raise InvalidArgument(message, field=name)
    return value


def measure(asked: Asked, name: str, low: float, high: float) -> float:
    """Returns a number of a request that need not be whole.

    Raises:
        InvalidArgument: it is none, or out of its range.
    """
    value = asked.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        message = catalogue.text("expected {name} from {low:g} to {high:g}", name=name, low=low, high=high)
        raise InvalidArgument(message, field=name)
    return float(value)
