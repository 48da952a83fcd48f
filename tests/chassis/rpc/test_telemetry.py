"""Log lines hide what is secret and stay one line; spans and metrics carry code and rpc."""

import json
import subprocess
import sys

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from konomi_chassis.rpc.telemetry import RpcTelemetry, redact

LOGGING = """
import structlog
from konomi_chassis.rpc.telemetry import configure
flush = configure("rater")
log = structlog.get_logger("konomi.rater")
log.info("fitted", prompt="two\\nlines \\x1b[31m", token="konomi_secret", authorization="Bearer x", labels=64)
log.debug("unseen")
flush()
"""


def test_telling_keys_are_hidden_and_long_values_cut():
    event = redact(None, "info", {"Authorization": "Bearer x", "owner_token": "y", "prompt": "z" * 9000, "labels": 3})
    assert event["Authorization"] == event["owner_token"] == "[redacted]"
    assert len(event["prompt"]) == 2001 and event["labels"] == 3


def test_a_roles_own_log_lines_are_json_on_stderr():
    ran = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    logged = json.loads(line)
    assert (logged["role"], logged["event"], logged["labels"]) == ("rater", "fitted", 64)
    assert logged["prompt"] == "two\nlines \x1b[31m" and "secret" not in line


@pytest.fixture
def exported(monkeypatch):
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer", tracing.get_tracer)
    monkeypatch.setattr(metrics, "get_meter", MeterProvider([reader]).get_meter)
    return spans, reader


def test_a_call_is_one_span_under_its_callers_trace_and_one_measurement(exported):
    spans, reader = exported
    telemetry, rpc = RpcTelemetry("rater"), "/konomi.v1.RaterService/ScoreImages"
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    span = telemetry.start(rpc, {"traceparent": caller, "authorization": "Bearer konomi_secret"})
    telemetry.finish(span, rpc, "NOT_FOUND", 0.25, {"reason": "TASTE_NOT_FOUND"})
    (finished,) = spans.get_finished_spans()
    assert f"{finished.context.trace_id:032x}" == caller.split("-")[1]
    assert finished.attributes["rpc.grpc.status"] == "NOT_FOUND" and "secret" not in finished.to_json()
    (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert (point.sum, point.count, point.attributes["rpc"]) == (0.25, 1, rpc)
