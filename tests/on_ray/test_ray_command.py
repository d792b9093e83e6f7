"""`rlsd serve … --runtime ray` as users give it, on a real Ray."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

CONFIG = "examples/chain/rlsd.toml"


def command(service, *options, runtime="ray"):
    return [sys.executable, "-m", "rlsd", "serve", service, f"--runtime={runtime}", *options]


def refusal(*arguments, **environment):
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert done.returncode == 78, done.stderr
    lines = [
        x for x in done.stderr.splitlines() if not x.startswith("{") and "serve " not in x[:40]
    ]
    assert "Traceback" not in done.stderr
    return lines[-1]


@pytest.mark.parametrize("transport", ["grpc", "redis"])
def test_a_run_trains_with_its_three_stages_on_ray(ray_port, tmp_path, transport):
    """The learner is a process; what it calls, or what takes its work, are replicas."""
    sets = [
        f'run.dir="{tmp_path}"',
        f"run.transport={transport}",
        "run.steps=3",
        "run.groups_per_step=4",
        "evaluation.limit=8",
        "evaluation.samples=0",
        "evaluation.every=100",
    ]
    given = ["--config", CONFIG, *(x for o in sets for x in ("--set", o))]
    environment = dict(os.environ)
    stages, logs = {}, {}
    try:
        for name in ("rollout", "verifier", "teacher"):
            environment[f"RLSD_{name.upper()}_ADDRESS"] = f"127.0.0.1:{ray_port}/{name}"
            logs[name] = (tmp_path / f"{name}.log").open("wb")
            stages[name] = subprocess.Popen(
                command(name, *given, "--cpus=0.3", f"--port={ray_port}"), stderr=logs[name]
            )
        learner = command("learner", *given, runtime="process")
        done = subprocess.run(learner, env=environment, timeout=300, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    finally:
        for process in stages.values():
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(timeout=90) for process in stages.values()]
        for log in logs.values():
            log.close()
    assert codes == [0, 0, 0]
    [summary] = tmp_path.glob("*/summary.json")
    found = json.loads(summary.read_text())
    assert (found["steps"], found["identity_residual"]) == (3, 0)
    assert found["outcomes"]["failed"] == {}
    from ray import serve

    assert serve.status().applications == {}  # SIGTERM took them away


def test_without_a_ray_the_line_says_how_to_start_one():
    line = refusal("verifier", "--config", CONFIG, RAY_ADDRESS="127.0.0.1:1")
    assert line.startswith("rlsd verifier: no Ray to deploy on (")
    assert line.endswith("run `ray start --head`, or set RAY_ADDRESS")


def test_another_port_than_serves_is_named(ray_port):
    line = refusal(
        "verifier", "--config", CONFIG, "--set=run.transport=grpc", "--port=1", "--cpus=0.1"
    )
    assert "not with rlsd's gRPC proxy at 127.0.0.1:1" in line


def test_a_replica_that_cannot_start_ends_the_command_with_its_error(ray_port, tmp_path):
    began = time.monotonic()
    line = refusal(
        *("rollout", "--config", CONFIG, f'--set=model.path="{tmp_path}/none"'),
        *("--set=run.transport=grpc", f"--port={ray_port}", "--cpus=0.1"),
    )
    assert f"{tmp_path}/none" in line
    assert time.monotonic() - began < 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--replicas=1:3"], "take their work from the queues"),
        (["--replicas=3:1", "--set=run.transport=grpc"], "MIN not above MAX"),
        (["--replicas=x"], "--replicas x: give a number"),
        (["--set=run.stepz=1"], "unknown key"),
        (["--target=0"], "--target 0"),
    ],
)
def test_wrong_use_is_one_line(ray_port, arguments, says):
    assert says in refusal("verifier", "--config", CONFIG, *arguments)


def test_the_file_for_serve_deploy_is_what_the_command_deploys(ray_port, monkeypatch):
    import yaml
    from ray.serve.schema import ServeDeploySchema

    from services.on_ray import deployments

    file = ServeDeploySchema(**yaml.safe_load(Path("deploy/ray/serve.yaml").read_text()))
    assert file.grpc_options.grpc_servicer_functions == deployments.SERVICER_FUNCTIONS
    for application in file.applications:
        assert application.route_prefix == f"/{application.name}"
        assert application.import_path == f"services.on_ray.deployments:{application.name}"
        options = deployments.Options(
            **{**application.args, "folder": ".", "config": CONFIG}  # /shared is not here
        )
        assert getattr(deployments, application.name)(options)._bound_deployment.name
