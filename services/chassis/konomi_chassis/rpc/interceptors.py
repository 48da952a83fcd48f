"""The one interceptor around every rpc, unary and streams: admits callers, checks messages, translates errors.

Nothing of a call is read before its caller was let in: who calls is known from the metadata, so a caller that is
refused, or that sends no message, keeps no thread that another caller needs.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import grpc

from konomi.errors import Cancelled, InvalidArgument, KonomiError, ResourceExhausted, Unavailable
from konomi_chassis.auth.authentication import ANONYMOUS, CURRENT, Authenticator, Principal
from konomi_chassis.auth.policy import POLICY, REFLECTION, WATCHES, TasteOf, authorize, confine
from konomi_chassis.rpc.admission import Admission, Place, load_of
from konomi_chassis.rpc.calls import Send, ServedCall
from konomi_chassis.rpc.deadlines import DeadlineWatch
from konomi_chassis.rpc.error_translation import DEVICE_FAILED, to_error, unimplemented
from konomi_chassis.rpc.field_rules import RequestRules
from konomi_chassis.rpc.lanes import HEALTH_RPCS, PROBE_SECONDS, PROBES, CallLane, lane_of, thread_pools
from konomi_chassis.rpc.telemetry import RpcTelemetry
from konomi_chassis.rpc.validation import check
from konomi_chassis.settings import ServerSettings

WARM_SECONDS = 0.1
"""Between two looks whether a call that waits for libraries is still wanted."""
NO_DEADLINE_SECONDS = 1e9
"""grpc tells of a call without a deadline that it has some centuries left."""

Behaviour = Callable[[Iterator[bytes], grpc.ServicerContext, Send], None]
Serve = Callable[[ServedCall, Principal, Place], None]
Refuse = Callable[[str], KonomiError | None]
"""Says why this process does not serve an rpc, by its full name; None where it does."""


class Gate:
    """Open while the server serves: closed before it is ready and while it drains.

    Work waits behind it for `warm` besides: while one thread imports torch, a library that another one imports takes
    the half of torch that is there for the whole, and fails.
    """

    def __init__(self) -> None:
        self.why: str | None = "starting"
        self.draining, self.warm = threading.Event(), threading.Event()

    def check(self, rpc: str) -> None:
        """Raises Unavailable while closed, except for health."""
        if self.why is not None and not rpc.startswith(HEALTH_RPCS):
            raise Unavailable(f"The server is {self.why}; try again.", reason=self.why.upper(), retry_after=1.0)

    def wait_until_warm(self, rpc: str, waits: Callable[[], bool]) -> None:
        """Waits until the services' libraries are loaded.

        Raises:
            Unavailable: the server is ending meanwhile.
            Cancelled: its caller no longer waits.
        """
        if self.warm.is_set():
            return
        while not self.warm.wait(WARM_SECONDS):
            self.check(rpc)
            if not waits():
                raise Cancelled("The caller went away.", reason="CANCELLED")
        self.check(rpc)


@dataclass(frozen=True)
class ServiceRules:
    """How requests of a service are checked: rules of fields, the taste of a resource, what is not served here."""

    fields: RequestRules
    taste_of: TasteOf | None = None
    refuse: Refuse | None = None


class Interceptor(grpc.ServerInterceptor):
    """Wraps every handler; a message is read, and parsed, only after the caller was let in."""

    def __init__(
        self,
        settings: ServerSettings,
        authenticator: Authenticator,
        telemetry: RpcTelemetry,
        services: Mapping[str, ServiceRules],
    ) -> None:
        self._settings, self._authenticator, self._telemetry = settings, authenticator, telemetry
        self._services = services
        self._pools = thread_pools(settings.max_in_flight)
        self._probes: OrderedDict[ServedCall, None] = OrderedDict()
        self._lock = threading.Lock()
        self._wrapped: dict[tuple[str, CallLane], grpc.RpcMethodHandler[Any, Any]] = {}
        self.gate, self.admission, self.deadlines = Gate(), Admission(settings), DeadlineWatch()
        self.on_device_failure: Callable[[], None] = lambda: None
        """Called when a handler met a device that fails from now on at every call."""

    def close(self) -> None:
        """Lets go of the threads; those in a call end with it."""
        self.deadlines.close()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Returns the wrapped handler; for an rpc nobody serves, one that says so.

        It runs on the one thread that takes every call in, so it only chooses whose threads serve this one.
        """
        rpc = str(handler_call_details.method)
        handler = continuation(handler_call_details)
        lane = self._lane(rpc, _texts(handler_call_details.invocation_metadata))
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(self._behaviour(rpc, lane, None))
        wrapped = self._wrapped.get((rpc, lane))
        if wrapped is None:  # what the table of rpcs holds, so there are few
            serve = self._serve(rpc, handler)
            wrapped = grpc.stream_stream_rpc_method_handler(self._behaviour(rpc, lane, serve))
            self._wrapped[rpc, lane] = wrapped
        return wrapped

    def _lane(self, rpc: str, metadata: Mapping[str, str]) -> CallLane:
        if rpc.startswith(HEALTH_RPCS):
            return lane_of(rpc)
        if self._settings.tls_client_ca is not None:
            return lane_of(rpc)  # whoever got this far has shown a certificate
        try:
            holder = self._authenticator.holder(metadata)
        except (KonomiError, OSError):
            return CallLane.REFUSED  # a token file that cannot be read lets nobody in; `_run` says so
        if holder is not None and holder.scope in POLICY.get(rpc, ()):
            return lane_of(rpc)
        open_reflection = self._settings.is_loopback and rpc.startswith(REFLECTION)
        return CallLane.OPEN if open_reflection else CallLane.REFUSED

    def _behaviour(self, rpc: str, lane: CallLane, serve: Serve | None) -> Behaviour:
        seconds = min(self._settings.message_seconds, PROBE_SECONDS if lane is CallLane.HEALTH else math.inf)

        def behave(requests: Iterator[bytes], context: grpc.ServicerContext, send: Send) -> None:
            self._run(rpc, lane, ServedCall(requests, context, send, self.deadlines, seconds), serve)

        behave.experimental_non_blocking = True  # type: ignore[attr-defined]  # see calls.py
        behave.experimental_thread_pool = self._pools[lane]  # type: ignore[attr-defined]
        return behave

    def _serve(self, rpc: str, handler: "grpc.RpcMethodHandler[Any, Any]") -> Serve:
        many = bool(handler.request_streaming)
        read, write = self._reader(rpc, handler), self._writer(handler)
        behaviour: Any = (
            (handler.stream_stream or handler.unary_stream)
            if handler.response_streaming
            else (handler.stream_unary or handler.unary_unary)
        )

        def argument(call: ServedCall, caller: Principal, place: Place) -> Any:
            if many:
                return (read(raw, caller) for raw in call.messages())
            raw = call.message()
            place.weigh(len(raw))
            return read(raw, caller)

        def single(call: ServedCall, caller: Principal, place: Place) -> None:
            call.answer_once(write(behaviour(argument(call, caller, place), call.context)))

        def streaming(call: ServedCall, caller: Principal, place: Place) -> None:
            responses = iter(behaviour(argument(call, caller, place), call.context))
            with closing(responses) if hasattr(responses, "close") else nullcontext():
                for response in responses:
                    call.answer(write(response))
                    if rpc in WATCHES and self.gate.draining.is_set():
                        self.gate.check(rpc)

        return streaming if handler.response_streaming else single

    def _run(self, rpc: str, lane: CallLane, call: ServedCall, serve: Serve | None) -> None:
        """Serves one call to its end, whatever that is; nothing is raised, because grpc would end it once more."""
        started, context = time.monotonic(), call.context
        metadata = _texts(context.invocation_metadata())
        span = self._telemetry.start(rpc, metadata)
        code, fields, caller = "OK", {"peer": context.peer()}, ANONYMOUS
        try:
            caller = self._authenticator.authenticate(metadata, context.peer(), _certificate_name(context))
            self._let_in(rpc, lane, caller, serve is not None)
            CURRENT.set(caller)
            admitted = self.admission.admit(lane, caller, load_of(metadata))
            with self._probing(lane, call), self._deadline(context), admitted as place:
                assert serve is not None, "_let_in refuses what nobody serves"
                if lane is CallLane.WORK:
                    self.gate.wait_until_warm(rpc, context.is_active)
                serve(call, caller, place)
            failure = None
        except BaseException as error:  # noqa: BLE001
            failure, error_id = to_error(error, rpc, context)
            code, fields["reason"] = failure.code.name, failure.reason
            if error_id is not None:
                fields["error_id"] = error_id
                self._telemetry.bug(rpc, error_id, error)
            if failure.reason == DEVICE_FAILED:
                self.on_device_failure()
        CURRENT.set(None)
        fields |= {"principal": caller.name, "scope": caller.scope or "none"}
        self._telemetry.finish(span, rpc, code, time.monotonic() - started, fields)
        call.end(failure)

    def _let_in(self, rpc: str, lane: CallLane, caller: Principal, served: bool) -> None:
        if served or caller.scope is None:
            authorize(rpc, caller, open_reflection=self._settings.is_loopback)
        self.gate.check(rpc)
        if not served:
            raise unimplemented(rpc)
        rules = self._services.get(rpc.split("/")[1])
        refused = rules.refuse(rpc) if rules is not None and rules.refuse is not None else None
        if refused is not None:
            raise refused
        if lane is CallLane.REFUSED:
            raise Unavailable("Your token has just changed; try again.", reason="TOKEN_CHANGED", retry_after=1.0)

    @contextmanager
    def _probing(self, lane: CallLane, call: ServedCall) -> Iterator[None]:
        """Makes room for a probe of health: the oldest one that keeps the server waiting gives way."""
        if lane is not CallLane.HEALTH:
            yield
            return
        with self._lock:
            self._probes[call] = None
            waiting = [probe for probe in self._probes if probe.unread]
        if len(waiting) > PROBES:
            message = "Too many probes of health wait for their message; send it with the call."
            waiting[0].fail(ResourceExhausted(message, reason="BUSY", retry_after=1.0))
        try:
            yield
        finally:
            with self._lock:
                self._probes.pop(call, None)

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

    def _reader(self, rpc: str, handler: "grpc.RpcMethodHandler[Any, Any]") -> Callable[[bytes, Principal], Any]:
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

        return parse

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


def _texts(metadata: Any) -> dict[str, str]:
    return {key: value for key, value in metadata if isinstance(value, str)}


def _certificate_name(context: grpc.ServicerContext) -> str | None:
    names: Any = context.auth_context().get("x509_common_name")
    return str(names[0], "utf-8", "replace") if names else None
