"""An engine's metrics through the service beside it, over real HTTP."""

import contextlib
import socket
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from rlsd.serving.http import Probes, probes_endpoint

SAYS = b"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 3.0\n"


class Engine(BaseHTTPRequestHandler):
    asked: ClassVar[list[tuple[str, str | None]]]
    content = SAYS

    def do_GET(self):
        self.asked.append((self.path, self.headers["Accept"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        with contextlib.suppress(OSError):  # who has enough hangs up
            self.wfile.write(self.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def engine():
    class Asked(Engine):
        asked: ClassVar = []

    server = HTTPServer(("127.0.0.1", 0), Asked)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", Asked
    server.shutdown()
    server.server_close()
    thread.join()


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def get(engine_url, route="/engine", accept="text/plain"):
    address = free_address()
    with probes_endpoint(address, Probes(engine_url=engine_url)):
        request = urllib.request.Request(f"http://{address}{route}", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers["Content-Type"]


def test_a_scrape_gets_what_the_engine_says_in_the_form_that_it_asks_for(engine):
    url, server = engine
    assert get(url, accept="application/openmetrics-text") == (
        200,
        SAYS,
        "text/plain; version=0.0.4",
    )
    assert server.asked == [("/metrics", "application/openmetrics-text")]


@pytest.mark.parametrize("route", ["/engine/pause", "/engine/../pause", "/engine?x=/pause"])
def test_no_other_route_of_the_engine_is_reached(engine, route):
    url, server = engine
    get(url, route)
    assert {path for path, _ in server.asked} <= {"/metrics"}


def test_an_engine_that_is_away_is_a_bad_gateway_and_says_why():
    status, words, _ = get(f"http://{free_address()}")
    assert status == 502
    assert b"no metrics (" in words


def test_an_answer_without_end_is_cut(engine):
    url, server = engine
    server.content = b"x" * (9 * 2**20)
    status, words, _ = get(url)
    assert status == 502
    assert words.endswith(b"more than 8 MiB of metrics\n")


def test_a_service_without_an_engine_server_has_no_such_route():
    assert get("")[0] == 404
