"""Connect-JSON of konomi.v1 for the page and for small tools, relayed to the roles (only import of connectrpc)."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from cachetools import LRUCache
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from konomi.client import Client
from konomi.client.calls import Service, snake
from konomi.client.channel import Link
from konomi.client.refusals import told
from konomi.client.services import ArtifactClient, GeneratorClient, RaterClient, TrainerClient
from konomi.errors import Internal, InvalidArgument, KonomiError, ResourceExhausted
from konomi.i18n.catalogue import text
from konomi.web.responses import in_worker
from konomi.web.security import RPC_BYTES

ROLE_OF = {
    "konomi.v1.RaterService": ("rater", RaterClient),
    "konomi.v1.GeneratorService": ("generator", GeneratorClient),
    "konomi.v1.TrainerService": ("trainer", TrainerClient),
    "konomi.v1.ArtifactService": ("rater", ArtifactClient),
}
"""Service to the role that is asked and the client that asks it."""

MAX_VALUES = 100_000
"""Values of a request, by its commas, brackets and braces: they are counted before anything is parsed."""

MAX_DEPTH = 64
"""Brackets and braces within each other."""

MAX_REQUESTS = 1000
"""Requests of one call that takes a stream of them; they are read to the end before the first is handed on."""

FOREIGN_AT_ONCE = 32
"""Calls of programs under way or waiting; one more is refused, so that they never crowd out the page."""

QUICK = ("Record", "Undo", "Set", "Get", "List", "Promote", "Rollback", "Activate")
"""Calls that are answered at once; they have workers of their own, so that no long call keeps a grade waiting."""

ASK_SECONDS = 5.0
"""Given to the rater to say whether it knows a token."""

TOKENS_KEPT = 32
"""Clients kept for programs that brought a token of their own."""

Observer = Callable[[str, Message, Message], None]
"""Told of every answered call: rpc name, request, reply."""


class Relay(ConnectASGIApplication[None]):  # type: ignore[misc]
    """Every rpc of konomi.v1 at /konomi.v1.SERVICE/METHOD."""

    def __init__(self, client: Callable[[], Client], observe: Observer) -> None:
        """Takes the client of now, which holds the owner's token, and who is told of what was done."""
        self._client, self._observe = client, observe
        self._quick, self._slow = ThreadPoolExecutor(8, "page-quick"), ThreadPoolExecutor(12, "page-slow")
        self._parsing, self._programs = ThreadPoolExecutor(2, "page-parsing"), ThreadPoolExecutor(8, "page-programs")
        self._of_programs = 0
        self._foreign: LRUCache[tuple[str, str], Service] = LRUCache(TOKENS_KEPT)
        self._lock = threading.Lock()
        super().__init__(
            service=None,
            endpoints=lambda _: self._table(),
            codecs=[_Raw()],
            compressions=(),
            read_max_bytes=RPC_BYTES,
        )

    @property
    def path(self) -> str:
        """Where it is mounted: the root, because every endpoint has its whole path."""
        return ""

    def close(self) -> None:
        """Lets go of the workers; calls under way end by themselves."""
        for workers in (self._quick, self._slow, self._parsing, self._programs):
            workers.shutdown(wait=False, cancel_futures=True)

    def _table(self) -> dict[str, Endpoint]:  # type: ignore[type-arg]
        table: dict[str, Endpoint] = {}  # type: ignore[type-arg]
        for name, (_, kind) in ROLE_OF.items():
            for method in kind.descriptor.methods:
                table[f"/{name}/{method.name}"] = self._endpoint(name, method)
        return table

    def _endpoint(self, service: str, method: MethodDescriptor) -> Endpoint:  # type: ignore[type-arg]
        stream_type, endpoint = _KINDS[method.client_streaming, method.server_streaming]
        info: MethodInfo[Any, Any] = MethodInfo(
            name=method.name,
            service_name=service,
            input=bytes,
            output=bytes,
            idempotency_level=IdempotencyLevel.UNKNOWN,  # so that Connect's GET stays off
            stream_type=stream_type,
        )
        kind = GetMessageClass(method.input_type)
        make = self._stream if method.server_streaming else self._unary
        made: Endpoint = endpoint(info, make(service, method.name, kind))  # type: ignore[type-arg]
        return made

    async def _read(self, source: bytes | AsyncIterator[bytes], kind: type[Message]) -> Message | list[Message]:
        """Returns the request, or all requests of a call that takes many.

        Raises:
            InvalidArgument: one is no such message, or they are too many or too large together.
        """
        if isinstance(source, bytes):
            return await in_worker(self._parsing, parse, source, kind)
        raws: list[bytes] = []
        size = 0
        async for raw in source:
            size += len(raw)
            if size > RPC_BYTES or len(raws) == MAX_REQUESTS:
                line = text(
                    "expected at most {most} requests of {size} MiB together in a call, got more",
                    most=MAX_REQUESTS,
                    size=RPC_BYTES // 1024**2,
                )
                raise InvalidArgument(line)
            raws.append(raw)
        return await in_worker(self._parsing, lambda: [parse(raw, kind) for raw in raws])

    def _unary(self, service: str, method: str, kind: type[Message]) -> Callable[..., Any]:
        workers = self._quick if method.startswith(QUICK) else self._slow

        def call(request: Message | list[Message], token: str) -> bytes:
            reply: Message = getattr(self._asked(service, token), snake(method))(request)
            if not isinstance(request, list):
                self._observe(method, request, reply)
            return MessageToJson(reply).encode()

        async def handle(source: bytes | AsyncIterator[bytes], context: RequestContext[Any, Any]) -> bytes:
            token = _token(context)
            try:
                with self._counted(token):
                    request = await self._read(source, kind)
                    return await in_worker(self._programs if token else workers, call, request, token)
            except KonomiError as error:
                raise translated(error) from error

        return handle

    def _stream(self, service: str, method: str, kind: type[Message]) -> Callable[..., Any]:
        async def handle(
            source: bytes | AsyncIterator[bytes], context: RequestContext[Any, Any]
        ) -> AsyncIterator[bytes]:
            token = _token(context)
            workers, replies = self._programs if token else self._slow, None
            try:
                with self._counted(token):
                    request = await self._read(source, kind)
                    replies = getattr(self._asked(service, token), snake(method))(request)
                    while (reply := await in_worker(workers, next, replies, None)) is not None:
                        yield MessageToJson(reply).encode()
            except KonomiError as error:
                raise translated(error) from error
            finally:
                if replies is not None:
                    replies.cancel()

        return handle

    @contextmanager
    def _counted(self, token: str) -> Iterator[None]:
        """Counts a program's call while it is under way; it runs in the one thread of the page's loop."""
        if not token:
            yield
            return
        if self._of_programs >= FOREIGN_AT_ONCE:
            raise ResourceExhausted(text("too many requests at once; try again in a moment"), retry_after=1.0)
        self._of_programs += 1
        try:
            yield
        finally:
            self._of_programs -= 1

    def ask_as(self, authorization: str) -> None:
        """Asks the rater the least there is, with a program's token; the KonomiError it raises says whose it is."""
        link = self._client().link("rater")
        asking = RaterClient(Link(link.channel, link.address, (("authorization", authorization),)))
        asking.get_taste(name="tastes/default", timeout=ASK_SECONDS)

    def _asked(self, service: str, token: str) -> Service:
        """Returns who asks: the owner for the page, the bearer of a token for a program that brought one."""
        role, kind = ROLE_OF[service]
        client = self._client()
        if not token:
            owner: Service = client.artifacts if kind is ArtifactClient else getattr(client, role)
            return owner
        with self._lock:
            if (service, token) not in self._foreign:
                link = client.link(role)
                self._foreign[service, token] = kind(Link(link.channel, link.address, (("authorization", token),)))
            return self._foreign[service, token]


class _Raw:
    """Hands JSON through as bytes: it is parsed and made in worker threads, never on the page's loop."""

    def name(self) -> str:
        return "json"

    def encode(self, message: bytes) -> bytes:
        return message

    def decode(self, data: bytes | bytearray, _message_class: type[bytes]) -> bytes:
        return bytes(data)


def parse(raw: bytes, kind: type[Message]) -> Message:
    """Returns the message a JSON text stands for.

    Raises:
        InvalidArgument: it holds too much, lies too deep, or is no such message.
    """
    structure = _structure(raw)
    if len(structure) > 2 * MAX_VALUES:
        raise InvalidArgument(text("expected at most {most} values in a request, got more", most=MAX_VALUES))
    if _depth(structure) > MAX_DEPTH:
        raise InvalidArgument(text("expected values at most {most} deep, got deeper ones", most=MAX_DEPTH))
    message = kind()
    try:
        Parse(raw, message, ignore_unknown_fields=True)
    except (ParseError, ValueError, RecursionError) as error:
        why = str(error)[:200]
        raise InvalidArgument(text("expected the JSON of {kind}: {why}", kind=kind.DESCRIPTOR.name, why=why)) from error
    return message


def _structure(raw: bytes) -> bytes:
    """Returns the brackets, braces and commas of a JSON text, those within its strings left out."""
    plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * MAX_VALUES:
        raise InvalidArgument(text("expected at most {most} values in a request, got more", most=MAX_VALUES))
    outside = b"".join(plain.split(b'"')[::2])
    return outside.translate(None, _NO_STRUCTURE)


def _depth(structure: bytes) -> int:
    depth = deepest = 0
    for sign in structure:
        if sign in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in b"}]":
            depth -= 1
    return deepest


def translated(error: KonomiError) -> ConnectError:
    """Returns the Connect error with the same code; a fault's own words stay in the log."""
    message = text("the page met a fault of its own") if isinstance(error, Internal) else told(error)
    return ConnectError(Code[_CODES.get(error.code.name, error.code.name)], message)


def _token(context: RequestContext[Any, Any]) -> str:
    return context.request_headers.get("authorization") or ""


_NO_STRUCTURE = bytes(sorted(set(range(256)) - set(b"{}[],")))
_CODES = {"CANCELLED": "CANCELED"}
_KINDS: dict[tuple[bool, bool], tuple[StreamType, Callable[..., Any]]] = {
    (False, False): (StreamType.UNARY, Endpoint.unary),
    (True, False): (StreamType.CLIENT_STREAM, Endpoint.client_stream),
    (False, True): (StreamType.SERVER_STREAM, Endpoint.server_stream),
    (True, True): (StreamType.BIDI_STREAM, Endpoint.bidi_stream),
}
"""Streams of requests and of replies to the kind of an rpc."""
