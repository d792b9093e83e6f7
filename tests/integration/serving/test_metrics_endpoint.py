import socket
import urllib.request

import pytest

from rlsd.errors import ConfigError
from rlsd.serving.http import Probes, probes_endpoint, split_address


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize(
    ("module", "metric"),
    [
        ("services.rollout.metrics", "rlsd_rollout_tokens_total"),
        ("services.teacher.metrics", "rlsd_teacher_tokens_total"),
        ("services.learner.metrics", "rlsd_learner_identity_residual"),
        ("services.verifier.metrics", "rlsd_verifier_verdicts_total"),
    ],
)
def test_each_service_declares_its_metrics_where_prometheus_reads_them(module, metric):
    __import__(module)
    address = f"127.0.0.1:{free_port()}"
    with (
        probes_endpoint(address, Probes()),
        urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer,
    ):
        assert metric in answer.read().decode()


def test_a_metrics_port_in_use_is_said_in_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(ConfigError, match=f"--metrics {address}: Address already in use"),
            probes_endpoint(address, Probes()),
        ):
            pass


@pytest.mark.parametrize("address", ["7000", "host:", "host:x", "host:70000"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ConfigError, match="write it as host:port"):
        split_address(address, "--bind")


@pytest.mark.parametrize(
    ("accept", "kind", "last"),
    [
        ("text/plain", "text/plain", ""),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# EOF"),
    ],
)
def test_the_scraper_gets_the_format_that_it_asks_for(accept, kind, last):
    address = f"127.0.0.1:{free_port()}"
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": accept})
    with (
        probes_endpoint(address, Probes()),
        urllib.request.urlopen(request, timeout=5) as answer,
    ):
        assert answer.headers["Content-Type"].startswith(kind)
        lines = answer.read().decode().splitlines()
    assert (lines[-1] == "# EOF") is bool(last)
    assert not [line for line in lines if "_created" in line]
