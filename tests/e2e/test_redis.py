"""A Redis that goes away in mid-run takes nothing with it."""

import signal
import socket
import subprocess
import time

import pytest
from test_run import assert_account_is_whole, wait_for

from rlsd.streams.embedded import find_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def redis_port(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    servers = []

    def start():
        command = [str(find_server()), "--port", str(port), "--save", "", "--dir", str(tmp_path)]
        servers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        return servers[-1]

    yield port, start
    for server in servers:
        server.kill()
        server.wait()


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_redis_that_comes_back_empty_three_times_loses_no_group(run, redis_port, monkeypatch):
    port, start = redis_port
    server = start()
    monkeypatch.setenv("RLSD_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    wait_for(lambda: answers(port), timeout_s=10)
    process = run.start("run.steps=25")
    # A moment later the learner trains, later still groups are out.
    for step, later_s in ((3, 0.0), (9, 0.12), (15, 0.2)):
        wait_for(lambda step=step: run.steps_logged() >= step)
        time.sleep(later_s)
        server.send_signal(signal.SIGKILL)
        server.wait()
        time.sleep(0.5)
        server = start()
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert_account_is_whole(run.summary, steps=25)
