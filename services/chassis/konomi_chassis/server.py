"""The one server assembly of all roles: health, reflection, TLS, tokens, limits, graceful stop."""

import json
import os
import signal
import sys
import threading
import traceback
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from konomi.errors import FailedPrecondition, Internal, KonomiError
from konomi.v1 import artifact_pb2_grpc
from konomi_chassis.auth.authentication import Authenticator, ensure_owner_token
from konomi_chassis.auth.policy import POLICY, TasteOf
from konomi_chassis.early_port import REFUSED_CONFIGURATION, TAKEN
from konomi_chassis.process import die_with_parent, loading, switch_threads_often
from konomi_chassis.rpc.field_rules import RequestRules
from konomi_chassis.rpc.interceptors import Interceptor, Refuse, ServiceRules
from konomi_chassis.rpc.telemetry import RpcTelemetry, configure
from konomi_chassis.rpc.validation import ARTIFACT_RULES
from konomi_chassis.settings import ServerSettings
from konomi_chassis.storage.artifact_servicer import ArtifactServicer, BelongsTo
from konomi_chassis.storage.artifacts import ArtifactStore

DEVICE_FAILURE = 70
"""Exit code of a server whose GPU failed for good: a new process has it back."""
FAILED_TO_WARM = 1
"""Exit code of a server whose libraries could not be loaded."""
STUCK_SECONDS = 5.0


@dataclass(frozen=True)
class ServedService:
    """One proto service and who serves it.

    Attributes:
        name: full name, "konomi.v1.RaterService".
        add: the generated add_…Servicer_to_server.
        servicer: the object whose methods are the rpcs.
        rules: field rules of every request of the service.
        prepare: run before the server says SERVING, for example to load weights; may take long.
        warm: run in a thread of its own once the server says SERVING, for example to import torch: it makes what calls
            that need it would otherwise make at their first use. What it raises ends the server.
        drain: run as soon as the server begins to stop, so that long watches end themselves.
        close: run after the last call has ended.
        taste_of: finds the taste of a resource whose name does not say it, for callers bound to a taste.
        owns_artifact: says whether an artifact belongs to a taste; without it a caller bound to one reads none here.
        refuse: says why this process does not serve an rpc, by its full name, or None; artifacts go by it too.
        watch: run once the server says SERVING, with what says from then on whether it still does.
    """

    name: str
    add: Callable[[Any, grpc.Server], None]
    servicer: Any
    rules: RequestRules
    prepare: Callable[[], None] | None = None
    warm: Callable[[], None] | None = None
    drain: Callable[[], None] | None = None
    close: Callable[[], None] | None = None
    taste_of: TasteOf | None = None
    owns_artifact: BelongsTo | None = None
    refuse: Refuse | None = None
    watch: Callable[[Callable[[bool], None]], None] | None = None


class RunningServer:
    """A started server: its address, and the way to stop it."""

    def __init__(
        self,
        server: grpc.Server,
        interceptor: Interceptor,
        health_servicer: health.HealthServicer,
        services: Sequence[ServedService],
        address: str,
    ) -> None:
        self._server, self._interceptor, self._health = server, interceptor, health_servicer
        self._services = services
        self.address = address
        self.device_failed = False
        self.failure: BaseException | None = None
        """What kept the server from warming up; it is ending then."""
        self.ended = threading.Event()
        self._warming: threading.Thread | None = None
        interceptor.on_device_failure = self._fail

    @property
    def draining(self) -> threading.Event:
        """Set once the server stops; a long watch may end itself then."""
        return self._interceptor.gate.draining

    def prepare(self) -> None:
        """Lets every service get ready, says SERVING, then warms them up in the background."""
        for service in self._services:
            if service.prepare is not None:
                service.prepare()
        self._interceptor.gate.why = None
        self._say(serving=True)
        for service in self._services:
            if service.watch is not None:
                service.watch(lambda serving: self._say(serving=serving))
        if not any(service.warm is not None for service in self._services):
            self._interceptor.gate.warm.set()
        else:
            self._warming = threading.Thread(target=self._warm, name="warm", daemon=True)
            self._warming.start()

    def _say(self, *, serving: bool) -> None:
        """Tells probes of health whether calls can be answered; once the server is ending that stays as it is."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *(service.name for service in self._services)):
            self._health.set(name, status)

    def wait_until_warm(self, seconds: float | None = None) -> bool:
        """Waits until nothing is being warmed up any more, at most so many seconds; says whether that is so."""
        if self._warming is not None:
            self._warming.join(seconds)
        return self._warming is None or not self._warming.is_alive()

    def _warm(self) -> None:
        try:
            with loading():
                for service in self._services:
                    if service.warm is not None and not self.draining.is_set():
                        service.warm()
        except BaseException as error:  # noqa: BLE001  whatever it is, a server without its libraries is to end
            self.failure = error
            self._end()
        self._interceptor.gate.warm.set()

    def _fail(self) -> None:
        self.device_failed = True
        self._end()

    def _end(self) -> None:
        """Says NOT_SERVING and lets nobody in any more; whoever waits for `ended` is to end the process."""
        self._interceptor.gate.why = "ending"
        self._health.enter_graceful_shutdown()
        self.ended.set()

    def stop(self, grace: float | None = None, warm_seconds: float = STUCK_SECONDS) -> bool:
        """Says NOT_SERVING, refuses new calls with UNAVAILABLE, lets those in flight finish, then closes.

        Args:
            grace: seconds they are given; None means none.
            warm_seconds: given to what is being loaded in the background.

        Returns:
            True when every handler and the warming up have ended, False when one is stuck.
        """
        self._interceptor.gate.why = "draining"
        self._health.enter_graceful_shutdown()
        self.draining.set()
        for service in self._services:
            if service.drain is not None:
                service.drain()
        self._interceptor.admission.wait_until_idle(grace or 0.0)
        self._server.stop(0.1).wait()
        ended = self._interceptor.admission.wait_until_idle(STUCK_SECONDS) and self.wait_until_warm(warm_seconds)
        self._interceptor.close()
        if ended:
            for service in self._services:
                if service.close is not None:
                    service.close()
        return ended


def start(
    role: str, services: Sequence[ServedService], settings: ServerSettings, store: ArtifactStore
) -> RunningServer:
    """Binds, prepares and starts a server without blocking.

    Args:
        role: "rater", "generator" or "trainer"; goes into logs.
        services: the role's own services; ArtifactService, health and reflection are added.
        settings: the server's settings.
        store: the artifact store it serves.

    Raises:
        FailedPrecondition: an address that others can reach without TLS, a port in use, unreadable certificates.
    """
    running = bind(role, services, settings, store)
    try:
        running.prepare()
    except BaseException:
        running.stop()
        raise
    return running


def bind(role: str, services: Sequence[ServedService], settings: ServerSettings, store: ArtifactStore) -> RunningServer:
    """Starts a server that says NOT_SERVING until its `prepare` has run."""
    add_artifacts = artifact_pb2_grpc.add_ArtifactServiceServicer_to_server
    belongs = [service.owns_artifact for service in services if service.owns_artifact is not None]
    artifacts = ArtifactServicer(store, belongs)
    refuse = next((service.refuse for service in services if service.refuse is not None), None)
    artifact = ServedService("konomi.v1.ArtifactService", add_artifacts, artifacts, ARTIFACT_RULES, refuse=refuse)
    served = (*services, artifact)
    _refuse_open_address(settings)
    _check_tables(served)
    ensure_owner_token(settings.home)
    authenticator = Authenticator(settings.home, settings.auth_failures_per_minute)
    requests = {service.name: ServiceRules(service.rules, service.taste_of, service.refuse) for service in served}
    interceptor = Interceptor(settings, authenticator, RpcTelemetry(role), requests)
    server = grpc.server(
        ThreadPoolExecutor(1, thread_name_prefix="rpc"),  # idle: every lane brings threads of its own
        interceptors=[interceptor],
        options=_options(settings),
    )
    health_servicer = health.HealthServicer(experimental_non_blocking=False)
    for service in served:
        service.add(service.servicer, server)
        health_servicer.set(service.name, health_pb2.HealthCheckResponse.NOT_SERVING)
    health_servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = (*(service.name for service in served), health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    port = _listen(server, settings)
    server.start()
    return RunningServer(server, interceptor, health_servicer, served, f"{settings.bracketed_host}:{port}")


def serve(role: str, services: Sequence[ServedService], settings: ServerSettings, store: ArtifactStore) -> int:
    """Serves until SIGTERM or SIGINT, then drains; prints one JSON line with the address once healthy.

    Returns:
        The exit code: 0 after a graceful stop, 78 for a refused configuration, 70 after the device failed for good, 1
        where a library could not be loaded.
    """
    flush = configure(role)
    stop = threading.Event()
    _on_signal(stop)
    try:
        die_with_parent(os.environ)
        switch_threads_often()
        running = start(role, services, settings, store)
        running.ended = stop
        if running.device_failed or running.failure is not None:
            stop.set()
    except FailedPrecondition as error:
        print(error.message, file=sys.stderr, flush=True)
        return REFUSED_CONFIGURATION
    print(json.dumps({"role": role, "address": running.address}), flush=True)
    stop.wait()
    code = _exit_code(running)
    ended = running.stop(settings.drain_seconds, warm_seconds=0.0)
    flush()
    if not ended or running.device_failed:  # a handler that ignores its end, or a library, would keep the process alive
        os._exit(code)
    return code


def _exit_code(running: RunningServer) -> int:
    """Returns the exit code of a server that is to end, and says on stderr what kept it from warming up."""
    if running.failure is None:
        return DEVICE_FAILURE if running.device_failed else 0
    if isinstance(running.failure, KonomiError):
        print(running.failure, file=sys.stderr, flush=True)
        return REFUSED_CONFIGURATION
    traceback.print_exception(running.failure)
    return FAILED_TO_WARM


def _on_signal(stop: threading.Event) -> None:
    def handle(_number: int, _frame: Any) -> None:
        if stop.is_set():
            os._exit(0)
        # In a thread of its own: this one may be about to wait for the event and hold its lock, for ever.
        start_new_thread(stop.set, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def _refuse_open_address(settings: ServerSettings) -> None:
    if settings.is_loopback or settings.tls_certificate is not None:
        return
    raise FailedPrecondition(
        f"Refusing to listen on {settings.host} without TLS: other machines could reach it. "
        "Set tls_certificate and tls_key, or listen on 127.0.0.1.",
        reason="UNSAFE_BIND",
    )


def _check_tables(services: Sequence[ServedService]) -> None:
    """Refuses a service with an rpc nobody may call by the policy, or whose request no rules check."""
    pool = descriptor_pool.Default()
    for service in services:
        for method in pool.FindServiceByName(service.name).methods:
            if f"/{service.name}/{method.name}" not in POLICY:
                raise Internal(f"{service.name}/{method.name} is missing in the policy table; name who may call it.")
            if method.input_type.name not in service.rules:
                raise Internal(f"{method.input_type.name} is missing in the rules of {service.name}; say its fields'.")


def _options(settings: ServerSettings) -> list[tuple[str, Any]]:
    # https://grpc.github.io/grpc/core/group__grpc__arg__keys.html
    return [
        # Twice the limit, so that the interceptor can say what is wrong; grpc's own refusal carries no detail.
        ("grpc.max_receive_message_length", settings.max_message_bytes * 2),
        ("grpc.max_send_message_length", settings.max_message_bytes * 2),
        # Two servers must never share a port by accident.
        ("grpc.so_reuseport", 0),
        # Bounds hostile connections; well above admission, which refuses with a reason and a delay.
        ("grpc.max_concurrent_streams", max(256, settings.max_in_flight * 8)),
        # A stream's window stays at 64 KiB until its call is let in, when grpc widens it to the message: by probing it
        # would take in megabytes of a call that is about to be refused.
        ("grpc.http2.bdp_probe", 0),
        # Calls grpc keeps until they are taken in, of which it drops some beyond the first number and all beyond the
        # second, without a detail: far more than come at once unless somebody floods, so that a label is not dropped.
        ("grpc.server.max_pending_requests", 8192),
        ("grpc.server.max_pending_requests_hard_limit", 16384),
        # A connection that never gets as far as HTTP/2 is closed.
        ("grpc.server_handshake_timeout_ms", 20_000),
        ("grpc.max_metadata_size", 16 * 1024),
        # Notice peers that vanished; allow clients a ping every 30 s, idle or not.
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_idle_ms", 3_600_000),
    ]


def _listen(server: grpc.Server, settings: ServerSettings) -> int:
    target = f"{settings.bracketed_host}:{settings.port}"
    try:
        if settings.tls_certificate is None or settings.tls_key is None:
            return server.add_insecure_port(target)
        authority = settings.tls_client_ca.read_bytes() if settings.tls_client_ca is not None else None
        pair = (settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())
        credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
        return server.add_secure_port(target, credentials)
    except OSError as error:
        raise FailedPrecondition(
            f"A TLS file cannot be read ({error.strerror}); check tls_certificate, tls_key and tls_client_ca.",
            reason="TLS_FILES",
        ) from error
    except RuntimeError as error:
        raise FailedPrecondition(TAKEN.format(target=target), reason="PORT_TAKEN") from error
