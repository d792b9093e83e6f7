"""A Ray replica without Ray: when it is ready, when it is unwell, what an error of ours becomes."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from builders import make_group
from grpc_health.v1 import health_pb2
from published_policy import Policy
from typer.testing import CliRunner

from rlsd.cli.app import app
from rlsd.config import load
from rlsd.errors import ConfigError, EngineError, RlsdError, ServiceError, UnfitError
from rlsd.telemetry.metrics import ServiceMetrics
from rlsd.weights import FolderStore
from rlsd.wire.convert import group_from_proto, group_to_proto
from rlsd.wire.v1 import rollout_service_pb2 as rollout_pb
from rlsd.wire.v1 import verifier_service_pb2 as pb
from services.on_ray import replica as module
from services.on_ray.replica import Replica

SERVING = health_pb2.HealthCheckResponse.SERVING


class Context:
    """What Serve hands to a method."""

    code: grpc.StatusCode | None = None
    details = ""

    def __init__(self, application=""):
        self._application = application

    def application(self):
        return self._application

    def set_code(self, code):
        self.code = code

    def set_details(self, details):
        self.details = details


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Makes replicas of the example's services; each is closed by its test."""
    monkeypatch.setattr(module, "prepare_process", lambda *_, **__: None)
    monkeypatch.setattr(module.os, "chdir", lambda _: None)
    monkeypatch.setattr(module, "SERVICE", ServiceMetrics())

    def make(service, *overrides):
        overrides = (f'run.dir="{tmp_path}"', "run.transport=grpc", *overrides)
        return Replica(service, load(Path("examples/chain/rlsd.toml"), overrides), ".")

    return make


async def test_it_answers_as_the_services_own_process(opened):
    replica = opened("verifier")
    await replica.open()
    request = pb.VerifyRequest(group=group_to_proto(make_group()))
    answer = await replica.call("Verify", request, Context())
    verdicts = [t.verdict.outcome.value for t in group_from_proto(answer.group).trajectories]
    assert verdicts == ["scored"] * 4
    assert replica.health().status == SERVING
    replica.raise_if_unwell()
    await replica.close()
    replica.raise_if_unwell()  # a stop that was asked for is no failure


async def test_it_is_not_open_before_it_has_weights(opened, tmp_path):
    replica = opened("rollout")
    opening = asyncio.ensure_future(replica.open())
    await asyncio.sleep(1.5)
    assert not opening.done()
    assert replica.health().status != SERVING
    Policy(FolderStore(tmp_path / "run/weights", "run")).publish()
    await asyncio.wait_for(opening, 10)
    assert replica.health().status == SERVING
    await replica.close()


async def test_what_keeps_it_from_starting_is_the_error_that_serve_gets(opened, tmp_path):
    replica = opened("rollout", f'model.path="{tmp_path}/none"')
    with pytest.raises(RlsdError, match=f"{tmp_path}/none"):
        await replica.open()
    with pytest.raises(ServiceError, match=f"{tmp_path}/none"):
        replica.raise_if_unwell()


async def test_an_error_of_ours_becomes_its_status_and_line(opened, monkeypatch):
    replica, context = opened("verifier"), Context()
    await replica.open()

    async def fail(*_):
        raise EngineError("no room: give it more")

    monkeypatch.setattr(replica._service.servicer, "Verify", fail)
    with pytest.raises(EngineError):
        await replica.call("Verify", pb.VerifyRequest(), context)
    assert (context.code, context.details) == (EngineError.status, "no room: give it more")
    replica.raise_if_unwell()
    await replica.close()


@pytest.mark.parametrize(
    ("application", "method", "request_"),
    [
        ("rollout", "Check", health_pb2.HealthCheckRequest()),
        ("", "GetStatus", rollout_pb.RolloutServiceGetStatusRequest()),
        ("", "Generate", rollout_pb.GenerateRequest()),
    ],
)
async def test_a_call_for_another_service_is_not_answered(opened, application, method, request_):
    """Serve sends all calls to its only application, whichever they name."""
    replica, context = opened("verifier"), Context(application)
    await replica.open()
    with pytest.raises(Exception, match=r"not deployed; this is 'verifier'|it has no"):
        await replica.call(method, request_, context)
    assert context.code is grpc.StatusCode.NOT_FOUND
    await replica.close()


async def test_a_replica_that_cannot_be_trusted_is_unwell(opened, monkeypatch):
    replica, context = opened("verifier"), Context()
    await replica.open()

    async def fail(*_):
        raise UnfitError("the log-probs differ")

    monkeypatch.setattr(replica._service.servicer, "Verify", fail)
    with pytest.raises(UnfitError):
        await replica.call("Verify", pb.VerifyRequest(), context)
    assert context.code is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(ServiceError, match="verifier: the log-probs differ"):
        replica.raise_if_unwell()
    await replica.close()


async def test_a_background_loop_that_fails_makes_it_unwell(opened, monkeypatch):
    def broken(*_, **__):
        async def loop(_stopping):
            await asyncio.sleep(0.3)
            raise UnfitError("the queue's work cannot be done")

        return loop

    monkeypatch.setattr("services.verifier.start.stage_worker", broken)
    replica = opened("verifier", "run.transport=redis")
    await replica.open()
    replica.raise_if_unwell()
    await asyncio.sleep(0.5)
    with pytest.raises(ServiceError, match="the queue's work cannot be done"):
        replica.raise_if_unwell()
    with pytest.raises(ServiceError, match="this replica is closed"):
        await replica.call("Verify", pb.VerifyRequest(), Context())


async def test_a_part_that_stands_still_makes_it_unwell(opened, monkeypatch):
    replica = opened("verifier")
    await replica.open()
    activity = replica._service.probes.activity
    began = activity._clock()
    monkeypatch.setattr(activity, "_clock", lambda: began + 1000)
    with pytest.raises(ServiceError, match=r"verifier: .*STALLED: event loop"):
        replica.raise_if_unwell()
    await replica.close()


def test_a_node_without_the_runs_folder_is_told_to_share_it(tmp_path):
    with pytest.raises(ConfigError, match="storage that all nodes see"):
        module.enter(os.fspath(tmp_path / "none"))


def test_without_ray_the_line_names_the_extra():
    program = (
        "import sys; sys.modules['ray'] = None; sys.argv = ['x', 'rollout', '--config', 'c.toml'];"
        "from services.on_ray.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 78
    [line] = done.stderr.splitlines()
    assert line.startswith("rlsd rollout: --runtime ray: Ray Serve is not installed (")
    assert line.endswith("pip install 'rlsd[ray]'")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["learner", "--runtime=ray"], "no replicas"), (["rollout", "--runtime=x"], "process, ray")],
)
def test_a_runtime_that_cannot_be_is_wrong_usage(arguments, says):
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert done.exit_code == 2
    assert says in " ".join(done.output.replace("│", " ").split())
