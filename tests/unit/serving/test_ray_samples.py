"""What of a process' metrics Ray is handed, without a Ray."""

import logging
import math
import threading

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rlsd.telemetry.metrics import LateGauge
from scripts import metrics_page
from services.on_ray import metrics as module
from services.on_ray.metrics import Reporter, shown


@pytest.fixture
def registry():
    return CollectorRegistry()


class Page:
    """Ray's, but for what it does by itself: what was set since `clear`."""

    def __init__(self):
        self.values, self.declared = {}, []

    def new_gauge(self, name, description, labels):
        page = self

        class One:
            def set(self, value, tags):
                assert set(tags) == set(labels)
                page.values[name, frozenset(tags.items())] = value

        self.declared.append((name, description))
        return One()

    def value(self, name, **labels):
        return self.values.get((name, frozenset(labels.items())))


def reporter(page, registry, where=lambda: "127.0.0.1:1"):
    return Reporter(page.new_gauge, where, registry=registry, run="r", replica="verifier-x1")


OWN = {"run": "r", "replica": "verifier-x1"}


def test_a_counter_keeps_its_name_its_labels_and_its_value(registry):
    verdicts = Counter("rlsd_verdicts", "Verdicts.", ["kind", "outcome"], registry=registry)
    verdicts.labels("exact", "pass").inc(3)
    verdicts.labels("exact", "").inc(0)
    page = Page()
    reporter(page, registry).report()
    assert page.value("rlsd_verdicts_total", kind="exact", outcome="pass", **OWN) == 3
    assert page.value("rlsd_verdicts_total", kind="exact", outcome="", **OWN) == 0
    assert page.declared == [("rlsd_verdicts_total", "Verdicts.")]  # no time of creation


def test_a_histogram_comes_bucket_by_bucket_with_its_sum_and_its_count(registry):
    duration = Histogram("rlsd_check_seconds", "One.", ["kind"], buckets=(1, 5), registry=registry)
    for seconds in (0.5, 2, 2, 9):
        duration.labels("exact").observe(seconds)
    page = Page()
    reporter(page, registry).report()
    found = {
        bound: page.value("rlsd_check_seconds_bucket", kind="exact", le=bound, **OWN)
        for bound in ("1.0", "5.0", "+Inf")
    }
    assert found == {"1.0": 1, "5.0": 3, "+Inf": 4}
    assert page.value("rlsd_check_seconds_sum", kind="exact", **OWN) == 13.5
    assert page.value("rlsd_check_seconds_count", kind="exact", **OWN) == 4


def test_all_of_it_is_set_again_each_time_and_what_has_no_value_is_not(registry):
    version = LateGauge("rlsd_version", "Newest.", registry=registry)
    places = Gauge("rlsd_places", "Free.", ["state"], registry=registry)
    places.labels("busy").set(2)
    page = Page()
    reports = reporter(page, registry)
    reports.report()
    assert page.value("rlsd_version", **OWN) is None
    version.set(7)
    page.values.clear()
    reports.report()
    assert page.value("rlsd_version", **OWN) == 7
    assert page.value("rlsd_places", state="busy", **OWN) == 2
    places.clear()
    page.values.clear()
    reports.report()
    assert set(page.values) == {("rlsd_version", frozenset(OWN.items()))}
    assert len(page.declared) == 2  # each gauge once


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_left_out(registry, value):
    Gauge("rlsd_loss", "Of the step.", registry=registry).set(value)
    assert list(shown(registry.collect())) == []


def test_an_engines_colon_becomes_an_underscore_and_other_libraries_stay_out(registry):
    for name in ("vllm:num_requests_running", "process_open_fds", "python_info", "of_others"):
        Gauge(name, "One.", registry=registry).set(1)
    names = {x.name for x in shown(registry.collect())}
    assert names == {"vllm_num_requests_running", "process_open_fds"}


def test_no_metric_of_ours_has_the_labels_that_tell_replicas_apart():
    used = {label for _, _, labels in metrics_page.families() for label in labels}
    assert used
    assert not used & {"run", "replica", "component"}
    assert not {x for x in used if x[0].isupper() or x.startswith("otel_")}  # Ray's, dropped


def run_until(reports, done):
    reports.start()
    assert done.wait(10)
    reports.stop()


def test_a_metric_that_raises_is_said_once_and_the_reports_go_on(registry, monkeypatch, caplog):
    monkeypatch.setattr(module, "_EVERY_S", 0.01)
    page, rounds, enough = Page(), [], threading.Event()

    def broken():
        rounds.append(1)
        if len(rounds) > 4:
            enough.set()
        raise RuntimeError("no such thing")

    Gauge("rlsd_broken", "One.", registry=registry).set_function(broken)
    with caplog.at_level(logging.INFO, module.__name__):
        run_until(reporter(page, registry), enough)
    said = [x for x in caplog.records if x.message == "metrics not reported"]
    assert [x.reason for x in said] == ["RuntimeError('no such thing')"]


def test_where_ray_has_no_agent_one_line_says_so(registry, monkeypatch, caplog):
    monkeypatch.setattr(module, "_EVERY_S", 0.01)
    monkeypatch.setattr(module, "_PAGE_WITHIN_S", 0.05)
    Gauge("rlsd_ready", "One.", registry=registry).set(1)
    asked, said = [], threading.Event()

    def nowhere():
        asked.append(1)
        raise ValueError("Ray has no agent here")

    class Heard(logging.Handler):
        def emit(self, record):
            said.set()

    heard = Heard(logging.WARNING)
    log = logging.getLogger(module.__name__)
    log.addHandler(heard)
    page = Page()
    try:
        reports = reporter(page, registry, nowhere)
        with caplog.at_level(logging.INFO, module.__name__):
            run_until(reports, said)
    finally:
        log.removeHandler(heard)
    assert len(asked) > 1  # it may start late
    lines = [(x.levelname, x.message, x.reason) for x in caplog.records]
    assert lines == [("WARNING", "no page of metrics on this node", "Ray has no agent here")]
    assert page.values  # and the reports went on
