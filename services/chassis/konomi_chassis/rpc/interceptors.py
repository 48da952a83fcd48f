"""The one interceptor around every rpc, unary and streams: admits callers, checks messages, translates errors."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_status import rpc_status

from konomi.errors import InvalidArgument, KonomiError, ResourceExhausted, Unavailable
from konomi_chassis.auth.authentication import ANONYMOUS, CURRENT, Authenticator, Principal
from konomi_chassis.auth.policy import WATCHES, TasteOf, authorize, confine
from konomi_chassis.rpc.admission import Admission
from konomi_chassis.rpc.deadlines import DeadlineWatch
from konomi_chassis.rpc.error_translation import status_of, to_error, unimplemented
from konomi_chassis.rpc.field_rules import RequestRules
from konomi_chassis.rpc.telemetry import RpcTelemetry
from konomi_chassis.rpc.validation import check
from konomi_chassis.settings import ServerSettings

HEALTH = "/grpc.health.v1.Health/"
NO_DEADLINE_SECONDS = 1e9
"""grpc tells of a call without a deadline that it has some centuries left."""


class Gate:
    """Open while the server serves: closed before it is ready and while it drains."""

    def __init__(self) -> None:
        self.why: str | None = "starting"
        self.draining = threading.Event()

    def check(self, rpc: str) -> None:
        """Raises Unavailable while closed, except for health."""
        if self.why is not None and not rpc.startswith(HEALTH):
            raise Unavailable(f"The server is {self.why}; try again.", reason=self.why.upper(), retry_after=1.0)


@dataclass(frozen=True)
class ServiceRules:
    """How requests of a service are checked: rules of their fields, and what finds the taste of a resource."""

    fields: RequestRules
    taste_of: TasteOf | None = None


class Interceptor(grpc.ServerInterceptor):
    """Wraps every handler; bytes are parsed only after the caller was let in."""

    def __init__(
        self,
        settings: ServerSettings,
        authenticator: Authenticator,
        telemetry: RpcTelemetry,
        services: Mapping[str, ServiceRules],
    ) -> None:
        self._settings, self._authenticator, self._telemetry = settings, authenticator, telemetry
        self._services = services
        self.gate, self.admission, self.deadlines = Gate(), Admission(settings), DeadlineWatch()

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Returns the wrapped handler; for an rpc nobody serves, one that says so."""
        rpc = str(handler_call_details.method)
        handler = continuation(handler_call_details)
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(self._nobody(rpc))
        behaviour = (
            (handler.stream_stream or handler.unary_stream)
            if handler.response_streaming
            else (handler.stream_unary or handler.unary_unary)
        )
        read, write = self._reader(rpc, handler), self._writer(handler)
        wrap = self._streaming if handler.response_streaming else self._single
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[(bool(handler.request_streaming), bool(handler.response_streaming))]
        return make(wrap(rpc, behaviour, read, write))

    def _single(self, rpc: str, behaviour: Any, read: Any, write: Callable[[Any], bytes]) -> Any:
        def call(raw: Any, context: grpc.ServicerContext) -> bytes:
            with self._serving(rpc, context) as caller:
                return write(behaviour(read(raw, caller), context))
            raise AssertionError("unreachable: _serving never swallows an exception")

        return call

    def _streaming(self, rpc: str, behaviour: Any, read: Any, write: Any) -> Any:
        def call(raw: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
            with self._serving(rpc, context) as caller:
                responses = iter(behaviour(read(raw, caller), context))
                with closing(responses) if hasattr(responses, "close") else _nothing():
                    for response in responses:
                        yield write(response)
                        if rpc in WATCHES and self.gate.draining.is_set():
                            self.gate.check(rpc)

        return call

    def _nobody(self, rpc: str) -> Any:
        def call(_raw: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
            with self._serving(rpc, context, served=False):
                raise unimplemented(rpc)
            yield b""

        return call

    @contextmanager
    def _serving(self, rpc: str, context: grpc.ServicerContext, served: bool = True) -> Iterator[Principal]:
        started = time.monotonic()
        span = self._telemetry.start(rpc, _metadata(context))
        code, fields, caller = "OK", {"peer": context.peer()}, ANONYMOUS
        try:
            caller = self._authenticator.authenticate(_metadata(context), context.peer(), _certificate_name(context))
            if served or caller.scope is None:
                authorize(rpc, caller, open_reflection=self._settings.is_loopback)
            self.gate.check(rpc)
            CURRENT.set(caller)
            # Health counts as anonymous whoever asks: a watcher must hold up neither calls nor the drain.
            place = ANONYMOUS if rpc.startswith(HEALTH) else caller
            with self.admission.admit(rpc, place), self._deadline(context):
                yield caller
        except BaseException as error:
            failure, error_id = to_error(error, rpc, context)
            code, fields["reason"] = failure.code.name, failure.reason
            if error_id is not None:
                fields["error_id"] = error_id
                self._telemetry.bug(rpc, error_id, error)
            if isinstance(error, GeneratorExit):
                raise
            self._abort(context, failure)
        finally:
            CURRENT.set(None)
            fields |= {"principal": caller.name, "scope": caller.scope or "none"}
            self._telemetry.finish(span, rpc, code, time.monotonic() - started, fields)

    def _abort(self, context: grpc.ServicerContext, failure: KonomiError) -> None:
        context.abort_with_status(rpc_status.to_status(status_of(failure)))

    @contextmanager
    def _deadline(self, context: grpc.ServicerContext) -> Iterator[None]:
        remaining = context.time_remaining()
        if remaining is not None and remaining < NO_DEADLINE_SECONDS:
            yield
            return
        cancel = self.deadlines.after(self._settings.default_deadline_seconds, context.cancel)
        try:
            yield
        finally:
            cancel()

    def _reader(self, rpc: str, handler: "grpc.RpcMethodHandler[Any, Any]") -> Any:
        rules, deserialize = self._services.get(rpc.split("/")[1]), handler.request_deserializer
        assert deserialize is not None, "generated handlers carry their deserializer"

        def parse(raw: bytes, caller: Principal) -> Any:
            self._check_size(len(raw), "A message")
            try:
                request = deserialize(raw)
            except Exception as error:
                raise InvalidArgument("The request is not a message of this rpc.", reason="MALFORMED") from error
            if rules is not None:
                confine(request, caller, rules.taste_of)
                check(request, rules.fields)
            return request

        def parse_each(raw: Iterator[bytes], caller: Principal) -> Iterator[Any]:
            for message in raw:
                yield parse(message, caller)

        return parse_each if handler.request_streaming else parse

    def _writer(self, handler: "grpc.RpcMethodHandler[Any, Any]") -> Callable[[Any], bytes]:
        serialize = handler.response_serializer
        assert serialize is not None, "generated handlers carry their serializer"

        def write(response: Any) -> bytes:
            data: bytes = serialize(response)
            self._check_size(len(data), "The answer")
            return data

        return write

    def _check_size(self, size: int, what: str) -> None:
        limit = self._settings.max_message_bytes
        if size > limit:
            raise ResourceExhausted(
                f"{what} has at most {limit} bytes; this one has {size}. Send or ask for less at once, "
                "or large bytes through ArtifactService.",
                reason="MESSAGE_TOO_LARGE",
            )


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _metadata(context: grpc.ServicerContext) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}


def _certificate_name(context: grpc.ServicerContext) -> str | None:
    names: Any = context.auth_context().get("x509_common_name")
    return str(names[0], "utf-8", "replace") if names else None
