"""Connect-JSON of konomi.v1 for the page and for small tools, relayed to the roles (only import of connectrpc)."""

import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cachetools import LRUCache
from connectrpc.code import Code
from connectrpc.compat import google_protobuf_json_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from konomi.client import Client
from konomi.client.calls import Service, snake
from konomi.client.channel import Link
from konomi.client.services import ArtifactClient, GeneratorClient, RaterClient, TrainerClient
from konomi.errors import Internal, KonomiError
from konomi.i18n.catalogue import text
from konomi.web.responses import in_worker

ROLE_OF = {
    "konomi.v1.RaterService": ("rater", RaterClient),
    "konomi.v1.GeneratorService": ("generator", GeneratorClient),
    "konomi.v1.TrainerService": ("trainer", TrainerClient),
    "konomi.v1.ArtifactService": ("rater", ArtifactClient),
}
"""Service to the role that is asked and the client that asks it."""

MAX_BYTES = 24 * 1024 * 1024
"""Of one request: 16 MiB of images as base64."""

QUICK = ("Record", "Undo", "Get", "List", "Promote", "Rollback", "Activate")
"""Calls that are answered at once; they have workers of their own, so that no long call keeps a grade waiting."""

TOKENS_KEPT = 32
"""Clients kept for programs that brought a token of their own."""

Observer = Callable[[str, Message, Message], None]
"""Told of every answered call: rpc name, request, reply."""


class Relay(ConnectASGIApplication[None]):  # type: ignore[misc]
    """Every unary and server-streaming rpc of konomi.v1 at /konomi.v1.SERVICE/METHOD."""

    def __init__(self, client: Callable[[], Client], observe: Observer) -> None:
        """Takes the client of now, which holds the owner's token, and who is told of what was done."""
        self._client, self._observe = client, observe
        self._quick, self._slow = ThreadPoolExecutor(8, "page-quick"), ThreadPoolExecutor(12, "page-slow")
        self._foreign: LRUCache[tuple[str, str], Service] = LRUCache(TOKENS_KEPT)
        self._lock = threading.Lock()
        super().__init__(
            service=None,
            endpoints=lambda _: self._table(),
            codecs=[google_protobuf_json_codec()],
            compressions=(),
            read_max_bytes=MAX_BYTES,
        )

    @property
    def path(self) -> str:
        """Where it is mounted: the root, because every endpoint has its whole path."""
        return ""

    def close(self) -> None:
        """Lets go of the workers; calls under way end by themselves."""
        self._quick.shutdown(wait=False, cancel_futures=True)
        self._slow.shutdown(wait=False, cancel_futures=True)

    def _table(self) -> dict[str, Endpoint]:  # type: ignore[type-arg]
        table: dict[str, Endpoint] = {}  # type: ignore[type-arg]
        for name, (_, kind) in ROLE_OF.items():
            for method in kind.descriptor.methods:
                if not method.client_streaming:
                    table[f"/{name}/{method.name}"] = self._endpoint(name, method)
        return table

    def _endpoint(self, service: str, method: MethodDescriptor) -> Endpoint:  # type: ignore[type-arg]
        info: MethodInfo[Any, Any] = MethodInfo(
            name=method.name,
            service_name=service,
            input=GetMessageClass(method.input_type),
            output=GetMessageClass(method.output_type),
            idempotency_level=IdempotencyLevel.UNKNOWN,  # so that Connect's GET stays off
            stream_type=StreamType.SERVER_STREAM if method.server_streaming else StreamType.UNARY,
        )
        if method.server_streaming:
            return Endpoint.server_stream(info, self._stream(service, method.name))
        return Endpoint.unary(info, self._unary(service, method.name))

    def _unary(self, service: str, method: str) -> Callable[..., Any]:
        workers = self._quick if method.startswith(QUICK) else self._slow

        def call(request: Message, token: str) -> Message:
            reply: Message = getattr(self._asked(service, token), snake(method))(request)
            self._observe(method, request, reply)
            return reply

        async def handle(request: Message, context: RequestContext[Any, Any]) -> Message:
            try:
                return await in_worker(workers, call, request, _token(context))
            except KonomiError as error:
                raise translated(error) from error

        return handle

    def _stream(self, service: str, method: str) -> Callable[..., Any]:
        async def handle(request: Message, context: RequestContext[Any, Any]) -> AsyncIterator[Message]:
            replies = getattr(self._asked(service, _token(context)), snake(method))(request)
            try:
                while (reply := await in_worker(self._slow, next, replies, None)) is not None:
                    yield reply
            except KonomiError as error:
                raise translated(error) from error
            finally:
                replies.cancel()

        return handle

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


def translated(error: KonomiError) -> ConnectError:
    """Returns the Connect error with the same code; a fault's own words stay in the log."""
    message = text("the page met a fault of its own") if isinstance(error, Internal) else error.message
    return ConnectError(Code[_CODES.get(error.code.name, error.code.name)], message)


def _token(context: RequestContext[Any, Any]) -> str:
    return context.request_headers.get("authorization") or ""


_CODES = {"CANCELLED": "CANCELED"}
