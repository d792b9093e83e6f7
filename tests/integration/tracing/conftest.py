"""This process sends its spans to a receiver of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from otlp_receiver import Receiver, receiving

from rlsd.telemetry.tracing import start_tracing, stop_tracing


@pytest.fixture
def receiver(monkeypatch) -> Iterator[Receiver]:
    with receiving() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        yield found
        stop_tracing()


@pytest.fixture
def collector(receiver) -> Receiver:
    start_tracing("rlsd-test", run_id="r")
    return receiver
