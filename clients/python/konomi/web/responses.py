"""How the page's own endpoints answer: Connect's unary JSON, so that one small client in the browser reads all."""

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from konomi.errors import InvalidArgument, KonomiError

BODY_BYTES = 256 * 1024

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

Asked = Mapping[str, object]
"""A request's JSON object: nothing is known of a value until `text`, `number` or `measure` has looked at it."""
Endpoint = Callable[[Asked], Mapping[str, object]]
"""Takes the request's JSON object and returns the reply's; raises KonomiError."""


def error_body(code: str, message: str, reason: str = "") -> bytes:
    """Returns the JSON of a Connect error."""
    body = {"code": code, "message": message} | ({"reason": reason} if reason else {})
    return json.dumps(body, ensure_ascii=False).encode()


def failure(error: KonomiError) -> Response:
    """Returns the answer that an error is."""
    code = error.code.name.lower()
    body = error_body(code, error.message, error.reason)
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
            raise InvalidArgument(f"expected at most {BODY_BYTES} bytes, got more")
    try:
        body: object = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("expected a JSON object, got something else") from error
    if not isinstance(body, dict):
        raise InvalidArgument("expected a JSON object, got something else")
    return body


def serve(endpoint: Endpoint, workers: ThreadPoolExecutor) -> Callable[[Request], Any]:
    """Returns the handler of an endpoint; the endpoint runs in a worker thread."""

    async def handle(request: Request) -> Response:
        try:
            asked = await read(request)
            return answer(await asyncio.get_running_loop().run_in_executor(workers, endpoint, asked))
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
        raise InvalidArgument(f"expected a short text in {name}", field=name)
    return value


def number(asked: Asked, name: str, default: int, low: int, high: int) -> int:
    """Returns a whole number of a request.

    Raises:
        InvalidArgument: it is none, or out of its range.
    """
    value = asked.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidArgument(f"expected {name} from {low} to {high}", field=name)
    return value


def measure(asked: Asked, name: str, low: float, high: float) -> float:
    """Returns a number of a request that need not be whole.

    Raises:
        InvalidArgument: it is none, or out of its range.
    """
    value = asked.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidArgument(f"expected {name} from {low:g} to {high:g}", field=name)
    return float(value)
