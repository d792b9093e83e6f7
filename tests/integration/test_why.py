"""`rlsd why` against services that answer, that are gone, that are stuck, and a real Redis."""

import asyncio
import contextlib
import json
import os
import signal
import socket

import pytest
from typer.testing import CliRunner

from rlsd.cli.app import app
from rlsd.cli.why import ask, ask_all, ask_redis, from_environment
from rlsd.errors import StreamError
from rlsd.local.addresses import RunAddresses
from rlsd.serving.http import Probes, probes_endpoint
from rlsd.serving.lifecycle import ServerConfig, serve
from rlsd.streams.embedded import embedded_redis
from rlsd.streams.redis import RedisStream
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Entry
from rlsd.telemetry.activity import Activity, State
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc
from services.verifier.service import VerifierService


@contextlib.asynccontextmanager
async def serving(activity):
    """A verifier without a verifier in it: its status is all that is asked for."""
    port = asyncio.get_running_loop().create_future()
    service = VerifierService(None, run_id="r", activity=activity)

    def register(server):
        rpc.add_VerifierServiceServicer_to_server(service, server)
        return service.name

    config = ServerConfig(drain_s=1)
    task = asyncio.ensure_future(serve(config, register, on_ready=port.set_result))
    yield f"127.0.0.1:{await port}"
    os.kill(os.getpid(), signal.SIGTERM)
    await task


@pytest.fixture
async def redis_url():
    try:
        async with embedded_redis() as url:
            yield url
    except StreamError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


async def test_a_service_says_what_it_waits_for():
    activity = Activity()
    activity.enter(State.WAITING_FOR_WORK, "groups from the rollout service")
    async with serving(activity) as address:
        line = await ask("verifier", address)
        assert (line.says, line.is_well, line.run_id) == (
            "waiting 0 s for groups from the rollout service",
            True,
            "r",
        )


async def test_a_stalled_service_is_not_well():
    now = [0.0]
    activity = Activity(clock=lambda: now[0])
    activity.tick()
    now[0] = 200.0
    async with serving(activity) as address:
        line = await ask("verifier", address)
    assert not line.is_well
    assert line.says.endswith("STALLED: loop: no progress for 3 min 20 s")


async def test_a_service_that_is_gone_is_said_with_its_address():
    line = await ask("rollout", "127.0.0.1:1")
    assert line.says == "not reachable at 127.0.0.1:1 (connection refused): is it running?"
    assert not line.is_well


async def test_a_silent_service_is_asked_over_its_other_thread():
    now = [0.0]
    activity = Activity(clock=lambda: now[0])
    activity.enter(State.BUSY, "train, step 4")
    activity.tick()
    now[0] = 200.0
    with socket.socket() as mute, socket.socket() as free:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        probes = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        with probes_endpoint(probes, Probes(activity=activity)):
            line = await ask("learner", address, probes, answer_s=0.5)
    assert line.says.startswith(f"no answer from {address} within 0.5 s; /livez: busy 3 min 20 s")
    assert "STALLED: loop" in line.says


async def test_redis_tells_its_backlog_and_its_dead(redis_url):
    stream = RedisStream.from_url(redis_url, "r")
    entries = [Entry(group_id=f"g{n}", payload=b"x") for n in range(3)]
    await stream.admit(entries, limit=9)
    [delivery] = await stream.claim(Stage.ROLLOUT, "ann", count=1, wait_s=0)
    await stream.bury(delivery, "EngineError: on fire", b"x")
    await stream.aclose()
    lines = await ask_redis(redis_url, "r")
    says = [line.says for line in lines]
    assert says[0] == "reachable; 2 at rollout (oldest 0 s), 1 at train (oldest 0 s)"
    assert says[1:] == ["1 dead letter", "1 × at rollout: EngineError: on fire"]


async def test_a_redis_that_is_down_is_said_with_its_address_and_not_its_password():
    [line] = await ask_redis("redis://:secret@127.0.0.1:1/0", "r")
    assert "127.0.0.1:1" in line.says
    assert "secret" not in line.says
    assert not line.is_well


async def test_the_run_is_learned_from_whoever_answers(redis_url):
    async with serving(Activity()) as address:
        known = RunAddresses(run_id="", services={"verifier": address}, redis_url=redis_url)
        lines = await ask_all(known)
    assert [line.says for line in lines[1:]] == [
        "reachable; nothing is at any stage",
        "no dead letters",
    ]


def test_addresses_keep_no_password_and_leave_with_the_run(tmp_path):
    known = RunAddresses(run_id="r", services={"learner": "127.0.0.1:2"}, redis_url="redis://h/0")
    known.write(tmp_path)
    assert RunAddresses.read(tmp_path) == known
    secret = RunAddresses(run_id="r", services={}, redis_url="redis://:secret@h/0")
    secret.write(tmp_path)
    assert "secret" not in (tmp_path / "addresses.json").read_text()
    RunAddresses.remove(tmp_path)
    assert RunAddresses.read(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_prometheus_finds_the_services_of_a_run_with_its_name(tmp_path):
    probes = {"learner": "127.0.0.1:2", "verifier": "127.0.0.1:3"}
    RunAddresses(run_id="r", services={}, probes=probes).write(tmp_path)
    assert json.loads((tmp_path / "prometheus_targets.json").read_text()) == [
        {"targets": ["127.0.0.1:2"], "labels": {"run": "r", "service": "learner"}},
        {"targets": ["127.0.0.1:3"], "labels": {"run": "r", "service": "verifier"}},
    ]


def test_without_a_folder_the_environment_says_where_to_ask(monkeypatch):
    monkeypatch.setenv("RLSD_LEARNER_ADDRESS", "learner:50051")
    monkeypatch.delenv("RLSD_REDIS_URL", raising=False)
    known = from_environment()
    assert known.services["learner"] == "learner:50051"
    assert known.redis_url is None


def test_without_a_folder_redis_may_be_named_by_a_file(monkeypatch, tmp_path):
    (tmp_path / "url").write_text("redis://:secret@h/0")
    monkeypatch.delenv("RLSD_REDIS_URL", raising=False)
    monkeypatch.setenv("RLSD_REDIS_URL_FILE", str(tmp_path / "url"))
    assert from_environment().redis_url == "redis://:secret@h/0"


def test_a_run_that_has_ended_waits_for_nothing(tmp_path):
    (tmp_path / "summary.json").write_text('{"run_id": "r", "steps": 7, "interrupted": false}')
    result = CliRunner().invoke(app, ["why", str(tmp_path)])
    assert result.exit_code == 0
    assert result.output == "run r ended at step 7: nothing runs, nothing waits\n"


def test_a_part_that_cannot_be_asked_is_exit_code_1(tmp_path):
    RunAddresses(run_id="r", services={"rollout": "127.0.0.1:1"}).write(tmp_path)
    result = CliRunner().invoke(app, ["why", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith("rollout   not reachable at 127.0.0.1:1")
