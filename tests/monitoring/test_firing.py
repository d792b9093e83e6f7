"""Alerts fire in a real Prometheus within seconds, by the same rules with time divided."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.monitoring.serving import prometheus, write_targets

pytestmark = pytest.mark.monitoring

SCALE = 60  # a quarter of an hour is 15 s


class Learner:
    """`/metrics` of a learner that did its last step a moment ago and does not wait."""

    def __init__(self):
        self.started = time.time()
        self.last_step = self.started
        self.residual = 0

    def text(self):
        busy = time.time() - self.started
        state = 'rlsd_service_state_seconds_total{service="learner",state='
        return "\n".join(
            (
                f"rlsd_learner_last_step_timestamp_seconds {self.last_step}",
                "rlsd_learner_step 7",
                "rlsd_learner_num_steps 100",
                f"rlsd_learner_identity_residual {self.residual}",
                f'{state}"busy"}} {busy}',
                f'{state}"waiting_for_work"}} 0',
                "",
            )
        )


@contextlib.contextmanager
def served(learner):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(learner.text().encode())

        def log_message(self, *_):
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def firing(asked):
    return {a["labels"]["alertname"] for a in asked.alerts() if a["state"] == "firing"}


def wait_for(asked, wanted, *, seconds):
    """What fires, once it is as wanted or time is up."""
    deadline = time.monotonic() + seconds
    while firing(asked) != wanted and time.monotonic() < deadline:
        time.sleep(0.5)
    return firing(asked)


def test_a_learner_that_stands_still_is_told_and_one_that_goes_on_is_not(tmp_path):
    learner = Learner()
    with served(learner) as address, prometheus(tmp_path, scale=SCALE) as asked:
        write_targets(tmp_path / "targets/a.json", {"learner": address}, run="a")
        deadline = time.monotonic() + 25
        while time.monotonic() < deadline:  # longer than it may stand still
            learner.last_step = time.time()
            assert firing(asked) == set()
            time.sleep(0.5)
        assert wait_for(asked, {"RlsdLearnerStalled"}, seconds=40) == {"RlsdLearnerStalled"}
        learner.residual = 2
        both = {"RlsdLearnerStalled", "RlsdIdentityResidual"}
        assert wait_for(asked, both, seconds=20) == both
        learner.last_step, learner.residual = time.time() + 60, 0
        assert wait_for(asked, set(), seconds=20) == set()
