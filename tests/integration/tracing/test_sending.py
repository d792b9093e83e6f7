"""What becomes of spans: sent, sampled, dropped, or not made at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from prometheus_client import REGISTRY, Histogram

from rlsd.errors import ConfigError
from rlsd.local.processes import free_ports
from rlsd.serving.http import Probes, probes_endpoint
from rlsd.telemetry import tracing
from rlsd.telemetry.tracing import Attribute, Mark, start_tracing, stop_tracing
from rlsd.telemetry.tracing.mark import group_ids, is_sampled, traceparent_of
from services.learner.traces import Traces

ROOT = traceparent_of(group_ids("r", "g"), sampled=True)
DURATION = Histogram("test_tracing_duration_seconds", "Of nothing.", buckets=(1.0,))


def dropped() -> float:
    return REGISTRY.get_sample_value("rlsd_spans_dropped_total") or 0.0


def test_a_group_has_the_trace_id_that_its_ids_hash_to(collector):
    mark = Mark.read(Traces("r").dispatched("g00000007"))
    expected = hashlib.sha256(b"r/g00000007").hexdigest()[:32]
    assert mark.traceparent.split("-")[1] == expected == f"{group_ids('r', 'g00000007').trace_id:x}"
    assert mark.traceparent.endswith("-01")


def test_the_root_takes_the_place_that_its_parts_have_named(collector):
    ids = group_ids("r", "g00000007")
    parent = tracing.root_traceparent(ids)
    tracing.record("seal", parent=parent, start_ns=5, end_ns=9)
    tracing.record_root("group", parent, start_ns=1, attributes={Attribute.OUTCOME: "trained"})
    with tracing.span("verify", parent=parent):
        pass
    collector.wait_for(lambda r: len(r.spans) == 3)
    (root,) = collector.named("group")
    assert (root.trace_id, root.span_id, root.parent_id) == (
        f"{ids.trace_id:032x}",
        f"{ids.span_id:016x}",
        "",
    )
    for name in ("seal", "verify"):
        (part,) = collector.named(name)
        assert (part.trace_id, part.parent_id) == (root.trace_id, root.span_id)
    assert len({s.span_id for s in collector.spans}) == 3
    assert collector.named("seal")[0].attributes == {"rlsd.run_id": "r"}


def test_what_belongs_to_no_group_has_no_span(collector):
    with tracing.span("verifier.http"):
        assert tracing.headers() == {}
    with tracing.span("verifier.judge", parent="00-what-somebody-sends-01"):
        assert tracing.headers() == {}
    tracing.record("seal", parent="", start_ns=1)
    stop_tracing()
    assert collector.spans == []


def test_an_error_leaves_its_type_and_none_of_its_words(collector):
    parent = tracing.root_traceparent(group_ids("r", "g"))
    with pytest.raises(ConfigError), tracing.span("verify", parent=parent):
        raise ConfigError("the model wrote: canary")
    collector.wait_for(lambda r: r.spans)
    (span,) = collector.spans
    assert span.is_error
    assert span.attributes["error.type"] == "ConfigError"
    assert "canary" not in span.raw


def test_without_an_endpoint_we_import_nothing_of_opentelemetry(monkeypatch):
    script = """
import sys
from rlsd.telemetry.process import prepare_process
prepare_process("rollout")
import rlsd.serving.service, rlsd.serving.process, rlsd.inference.server.connection
import rlsd.verifier_client.client, services.verifier.service, services.learner.stages
from rlsd.telemetry import tracing
from services.learner.traces import Traces
with tracing.span("verify", parent="00-" + "1" * 32 + "-" + "2" * 16 + "-01"):
    assert tracing.traceparent() == "" and tracing.exemplar() is None
assert Traces("r").dispatched("g") == ""
ours = ("rlsd.telemetry.tracing.sdk", "opentelemetry.sdk.trace", "opentelemetry.exporter")
print([m for m in sys.modules if m.startswith(ours)])
"""  # redis imports its metrics where it finds them
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr[-2000:]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_the_standard_switches_leave_it_off(environment):
    start_tracing("rlsd-test", environment=environment)
    assert not tracing.is_on()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "write http://HOST:4317"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            "by grpc only",
        ),
    ],
)
def test_what_cannot_be_sent_is_said_at_the_start(environment, words):
    with pytest.raises(ConfigError, match=words):
        start_tracing("rlsd-test", environment=environment)


def test_a_missing_package_is_said_at_the_start(monkeypatch):
    monkeypatch.setitem(sys.modules, "rlsd.telemetry.tracing.sdk", None)
    with pytest.raises(ConfigError, match=r"pip install 'rlsd\[tracing\]'"):
        start_tracing("rlsd-test", environment={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"})


def test_the_environment_names_the_service(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    start_tracing("rlsd-test")
    tracing.record_root("group", ROOT, start_ns=1, attributes={})
    receiver.wait_for(lambda r: r.spans)
    assert receiver.spans[0].service == "ours"
    assert "staging" in receiver.resources


def test_a_share_of_the_groups_is_sampled_and_every_process_takes_the_same(receiver, monkeypatch):
    groups = [f"g{i:08d}" for i in range(400)]
    kept = []
    for sampler in ("traceidratio", "parentbased_traceidratio"):
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
        start_tracing(f"rlsd-{sampler}")
        marks = {g: Mark.read(Traces("r").dispatched(g)).traceparent for g in groups}
        for group_id in groups:
            with tracing.span("verify", parent=marks[group_id]):
                assert tracing.headers() != {}
        stop_tracing()
        kept.append({g for g, parent in marks.items() if parent.endswith("-01")})
    assert kept[0] == kept[1]
    assert 70 < len(kept[0]) < 130
    sent = {f"{group_ids('r', g).trace_id:032x}" for g in kept[0]}
    for sampler in ("traceidratio", "parentbased_traceidratio"):
        found = {s.trace_id for s in receiver.spans if s.service == f"rlsd-{sampler}"}
        assert found == sent


def test_without_a_sampler_a_fast_run_has_a_share_of_its_traces_and_these_are_whole(collector):
    traces = Traces("r")
    marks = [Mark.read(traces.dispatched(f"g{i:08d}")).traceparent for i in range(1500)]
    for mark in marks:
        tracing.record("seal", parent=mark, start_ns=1)
        tracing.record_root("group", mark, start_ns=1, attributes={})
    kept = {mark.split("-")[1] for mark in marks if is_sampled(mark)}
    assert 150 < len(kept) < 800
    stop_tracing()
    for name in ("seal", "group"):
        assert {s.trace_id for s in collector.named(name)} == kept


def test_spans_that_find_no_receiver_are_counted_and_hold_nobody_up(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    before = dropped()
    start_tracing("rlsd-test")
    for _ in range(10):
        tracing.record_root("group", ROOT, start_ns=1, attributes={})
    deadline = time.monotonic() + 20
    while dropped() < before + 10:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert dropped() == before + 10
    stop_tracing()


def test_a_receiver_that_does_not_answer_keeps_no_process_from_ending(receiver):
    ended = threading.Event()
    receiver.before_answering = lambda: ended.wait(30)
    start_tracing("rlsd-test")
    tracing.record_root("group", ROOT, start_ns=1, attributes={})
    started = time.monotonic()
    stop_tracing(within_s=0.5)
    took_s = time.monotonic() - started
    ended.set()
    assert 0.4 < took_s < 4


def test_a_full_queue_drops_and_counts_what_it_drops(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    receiver.before_answering = lambda: time.sleep(0.2)
    before, started = dropped(), time.monotonic()
    start_tracing("rlsd-test")
    for _ in range(500):
        tracing.record_root("group", ROOT, start_ns=1, attributes={})
    assert time.monotonic() - started < 1.0
    stop_tracing()
    num_dropped = dropped() - before
    assert num_dropped > 300
    assert len(receiver.spans) + num_dropped == 500


def test_a_measurement_within_a_sampled_span_has_its_trace_as_exemplar(collector):
    assert tracing.exemplar() is None
    parent = tracing.root_traceparent(group_ids("r", "g"))
    with tracing.span("verify", parent=parent):
        exemplar = tracing.exemplar()
        DURATION.observe(0.5, exemplar)
    assert exemplar["trace_id"] == f"{group_ids('r', 'g').trace_id:032x}"
    with tracing.span("verify", parent=parent[:-2] + "00"):
        assert tracing.exemplar() is None
    address = f"127.0.0.1:{free_ports(1)[0]}"
    asked = urllib.request.Request(
        f"http://{address}/metrics", headers={"Accept": "application/openmetrics-text"}
    )
    with probes_endpoint(address, Probes()), urllib.request.urlopen(asked, timeout=5) as answer:
        text = answer.read().decode()
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    (line,) = [x for x in text.splitlines() if "test_tracing" in x and "#" in x[1:]]
    assert line.startswith('test_tracing_duration_seconds_bucket{le="1.0"} 1.0 # {')
    assert f'trace_id="{exemplar["trace_id"]}"' in line
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize("text", ["", "00-ab-cd-01", "00-" + "1" * 32 + "-" + "2" * 16 + "-01 x y"])
def test_a_mark_that_cannot_be_read_is_none(text):
    assert Mark.read(text) is None


def test_a_mark_survives_its_way_with_a_new_moment_of_sending():
    mark = Mark("00-" + "1" * 32 + "-" + "2" * 16 + "-01", 5, 6)
    assert Mark.read(str(mark)) == mark
    sent = Mark.read(str(mark.sent()))
    assert (sent.traceparent, sent.dispatched_ns) == (mark.traceparent, 5)
    assert abs(sent.sent_ns - time.time_ns()) < 1e9
