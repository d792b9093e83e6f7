"""`rlsd status` against services that answer, over gRPC and HTTP, and against what is gone."""

import asyncio
import contextlib
import json
import socket

import pytest
from test_why import redis_url, serving  # noqa: F401  a fixture
from typer.testing import CliRunner

from rlsd.cli.app import app
from rlsd.local.addresses import RunAddresses
from rlsd.serving.http import Probes, probes_endpoint
from rlsd.streams.redis import RedisStream
from rlsd.streams.stream import Entry
from rlsd.telemetry.activity import Activity, State
from rlsd.watching.health import problems
from rlsd.watching.reading import metrics_address, take_reading
from rlsd.watching.view import make_view


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextlib.asynccontextmanager
async def watched(activity, **more):
    """A verifier with its metrics, and where they are."""
    probes = free_address()
    async with serving(activity) as address:
        with probes_endpoint(probes, Probes(activity=activity)):
            yield RunAddresses(
                run_id="r", services={"verifier": address}, probes={"verifier": probes}, **more
            )


async def test_a_service_is_asked_over_both_its_doors(redis_url):  # noqa: F811
    stream = RedisStream.from_url(redis_url, "r")
    await stream.admit([Entry(group_id="g", payload=b"x")], limit=9)
    await stream.aclose()
    activity = Activity()
    activity.enter(State.WAITING_FOR_WORK, "groups from the rollout service")
    async with watched(activity, redis_url=redis_url) as known:
        reading = await take_reading(known, None)
    told = reading.services["verifier"]
    assert told.answer.activity.state is State.WAITING_FOR_WORK
    assert told.samples.value("process_start_time_seconds") > 0
    view = make_view(reading)
    assert (view.run_id, view.queue[0].stage, view.queue[0].entries) == ("r", "rollout", 1)
    assert problems(view) == []


async def test_metrics_that_cannot_be_read_are_a_problem_of_a_service_that_answers():
    async with serving(Activity()) as address:
        silent = RunAddresses(
            run_id="r", services={"verifier": address}, probes={"verifier": "::1:1"}
        )
        refused = RunAddresses(
            run_id="r", services={"verifier": address}, probes={"verifier": "127.0.0.1:1"}
        )
        [line] = problems(make_view(await take_reading(refused, None)))
        assert line == (
            "verifier's metrics cannot be read: http://127.0.0.1:1/metrics: Connection refused"
        )
        [line] = problems(make_view(await take_reading(silent, None)))
        assert line.startswith("verifier's metrics cannot be read: http://::1:1/metrics: ")


async def test_something_else_at_the_port_of_the_metrics_is_told_apart():
    async def other(reader, writer):
        await reader.readline()
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n<html>hello</html>\n")
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, serving(Activity()) as address:
        known = RunAddresses(
            run_id="r", services={"verifier": address}, probes={"verifier": f"127.0.0.1:{port}"}
        )
        [line] = problems(make_view(await take_reading(known, None)))
    assert line.startswith("verifier's metrics cannot be read")


def test_without_a_folder_metrics_are_at_the_port_of_the_images():
    services = {"learner": "learner.training:50054", "rollout": "ray:9000/rollout"}
    known = RunAddresses(run_id="", services=services)
    assert metrics_address(known, "learner", 9464) == "learner.training:9464"
    assert metrics_address(known, "rollout", 9464) is None


async def test_lines_that_are_being_written_are_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"reward_mean": 0.25}\n{"reward_m')
    (tmp_path / "evaluations.jsonl").write_text('{"greedy_accuracy": 0.5}\n')
    reading = await take_reading(RunAddresses(run_id="r", services={}), tmp_path)
    view = make_view(reading)
    assert (view.rewards, view.accuracies) == ([0.25], [0.5])


SUMMARY = {
    "run_id": "r",
    "steps": 7,
    "interrupted": False,
    "held_out_accuracy": {"start": 0.1, "end": 0.9},
    "outcomes": {
        "admitted": 9,
        "trained": 5,
        "rejected": {"zero_variance": 3},
        "failed": {},
        "in_flight": 1,
    },
    "identity_residual": 0,
    "trained_twice": 0,
}


@pytest.mark.parametrize("command", ["status", "why"])
def test_a_part_that_cannot_be_asked_is_exit_code_1(tmp_path, command):
    RunAddresses(run_id="r", services={"rollout": "127.0.0.1:1"}).write(tmp_path)
    result = CliRunner().invoke(app, [command, str(tmp_path)])
    assert result.exit_code == 1
    assert "not reachable at 127.0.0.1:1" in result.output


def test_a_run_that_has_ended_says_how(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    result = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "run r ended at step 7",
        "held-out accuracy 10.0% → 90.0%",
        "9 groups admitted = 5 trained + 3 rejected + 0 failed + 1 in flight "
        "(residual 0, trained twice 0)",
    ]


def test_a_run_that_ended_with_a_residual_is_exit_code_1(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY | {"identity_residual": 1}))
    assert CliRunner().invoke(app, ["status", str(tmp_path)]).exit_code == 1


def test_json_is_one_object_without_a_word_that_json_does_not_have(tmp_path):
    RunAddresses(run_id="r", services={"rollout": "127.0.0.1:1"}).write(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"reward_mean": NaN}\n')
    result = CliRunner().invoke(app, ["status", str(tmp_path), "--json"])

    def refuse(word):
        raise AssertionError(word)

    found = json.loads(result.output, parse_constant=refuse)
    assert result.exit_code == 1
    assert found["healthy"] is False
    assert found["problems"] == [
        "rollout: not reachable at 127.0.0.1:1 (connection refused): is it running?"
    ]
    assert found["rewards"] == [None]


def test_top_without_a_terminal_is_wrong_usage(tmp_path):
    result = CliRunner().invoke(app, ["top", str(tmp_path)])
    assert result.exit_code == 2
    assert "this is no terminal" in result.output
