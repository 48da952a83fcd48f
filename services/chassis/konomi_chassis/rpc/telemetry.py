"""Logs, traces and metrics: one JSON line, one span and one measurement per rpc; tokens never reach any of them."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import structlog
from opentelemetry import metrics, propagate, trace
from structlog.typing import Processor

REDACTED = ("authorization", "token", "password", "secret", "cookie")
MAX_TEXT = 2000

REFUSALS = ("UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED")
REFUSALS_WRITTEN = 50
"""Log lines of refusals in a second; the next line says how many came beyond."""


def configure(role: str) -> Callable[[], None]:
    """Sends logs to stderr as JSON lines; sends spans and metrics out only where OTEL_EXPORTER_OTLP_ENDPOINT is set.

    Returns:
        A function that flushes what has not been sent yet.
    """

    def add_role(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {"role": role, **event}

    structlog.configure(
        processors=[add_role, *PROCESSORS],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    return _export(role) if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") else lambda: None


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hides values under telling keys and cuts long ones; a structlog processor."""
    for key, value in event.items():
        if any(word in key.lower() for word in REDACTED):
            event[key] = "[redacted]"
        elif isinstance(value, str) and len(value) > MAX_TEXT and key != "exception":
            event[key] = value[:MAX_TEXT] + "…"
    return event


PROCESSORS: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    redact,
    structlog.processors.JSONRenderer(),
)


class RefusalCount:
    """Which refusals get a log line: a burst each second, so that writing is no work a flood can buy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._second, self._written, self._unwritten = -1, 0, 0

    def unwritten(self, now: float) -> int | None:
        """Counts one refusal; None where it gets no line, else how many before it got none.

        Args:
            now: seconds of any clock that never goes back.
        """
        with self._lock:
            if int(now) != self._second:
                self._second, self._written = int(now), 0
            if self._written >= REFUSALS_WRITTEN:
                self._unwritten += 1
                return None
            self._written += 1
            unwritten, self._unwritten = self._unwritten, 0
            return unwritten


class RpcTelemetry:
    """Spans, counters and the log line of rpcs."""

    def __init__(self, role: str) -> None:
        self._role, self._refusals = role, RefusalCount()
        # Its own processors, whatever the process configured: a default traceback would show local variables.
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(sys.stderr),
            processors=list(PROCESSORS),
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        )
        self._tracer = trace.get_tracer("konomi")
        meter = metrics.get_meter("konomi")
        self._duration = meter.create_histogram("rpc.server.duration", unit="s", description="Time from call to answer")

    def start(self, rpc: str, metadata: Mapping[str, str]) -> trace.Span:
        """Opens the span of a call, under the caller's trace if it sent one."""
        return self._tracer.start_span(
            rpc.lstrip("/"),
            context=propagate.extract(dict(metadata)),
            kind=trace.SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "konomi.role": self._role},
        )

    def finish(self, span: trace.Span, rpc: str, code: str, seconds: float, fields: Mapping[str, Any]) -> None:
        """Closes the span, measures the time, writes the log line; of a flood of refusals only some get one."""
        span.set_attribute("rpc.grpc.status", code)
        if code != "OK":
            span.set_status(trace.StatusCode.ERROR, fields.get("reason"))
        span.end()
        self._duration.record(seconds, {"rpc": rpc, "code": code})
        if code in REFUSALS:
            unwritten = self._refusals.unwritten(time.monotonic())
            if unwritten is None:
                return
            fields = {**fields, "unwritten": unwritten} if unwritten else fields
        level = self._log.info if code in ("OK", "CANCELLED") else self._log.warning
        with suppress(OSError, ValueError):  # a call is answered also where stderr is closed or its disk is full
            level("rpc", role=self._role, rpc=rpc, code=code, seconds=round(seconds, 4), **fields)

    def bug(self, rpc: str, error_id: str, error: BaseException) -> None:
        """Writes an unexpected exception with its traceback under the id its caller got."""
        with suppress(OSError, ValueError):
            self._log.error("bug", role=self._role, rpc=rpc, error_id=error_id, exc_info=error)


def _export(role: str) -> Callable[[], None]:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": f"konomi-{role}"})
    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracing)
    measuring = MeterProvider(resource, [PeriodicExportingMetricReader(OTLPMetricExporter())])
    metrics.set_meter_provider(measuring)

    def flush() -> None:
        tracing.shutdown()
        measuring.shutdown()

    return flush
