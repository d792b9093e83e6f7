"""The training step of `helm test`: what its pod may do, and that its commands train.

The pod's containers run here as plain processes: the same commands and arguments, with free ports
for its own and this checkout in the place of the images.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from rlsd.errors import ConfigError
from rlsd.local.processes import free_ports
from tests.chart.rendering import containers, of_kind, rendered

pytestmark = pytest.mark.chart

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv/bin/python"  # with torch, which the chart's environment has not
PORTS = ("50051", "50052", "50053", "50054")


def step_pods(*sets, version="", name="default"):
    pods = of_kind(rendered(name, *sets, version=version), "Pod")
    return [x for x in pods if x["metadata"]["name"] == "r-test-step"]


def test_the_four_images_are_containers_of_one_pod_and_the_stages_end_with_the_learner():
    [pod] = step_pods()
    images = [x["image"].split("/")[-1].split(":")[0] for x in containers(pod)]
    assert images == ["rlsd-rollout", "rlsd-verifier", "rlsd-teacher", "rlsd-learner"]
    assert {x["restartPolicy"] for x in pod["spec"]["initContainers"]} == {"Always"}
    [learner] = pod["spec"]["containers"]
    assert "restartPolicy" not in learner
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["activeDeadlineSeconds"] == 600


def test_it_has_nothing_of_the_run_of_its_release():
    [pod] = step_pods("inputs[0].claim=c", "inputs[0].mountPath=/m", "rollout.gpus=4", name="cpu")
    assert {key for volume in pod["spec"]["volumes"] for key in volume} == {"name", "emptyDir"}
    for container in containers(pod):
        assert not re.search(r"redis|demo|/etc/rlsd|nvidia", str(container)), container["name"]
        assert sum("127.0.0.1" in x for x in container["args"]) == 1  # it listens nowhere else
        assert "ports" not in container


def test_no_policy_opens_it_and_no_service_leads_to_it():
    [pod] = step_pods()
    labels = pod["metadata"]["labels"]
    documents = rendered("default")
    for policy in of_kind(documents, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        names = {
            selector["matchLabels"].get("app.kubernetes.io/component"),
            *(x for e in selector.get("matchExpressions", []) for x in e["values"]),
        }
        is_deny = policy["metadata"]["name"] == "r-nothing"
        assert is_deny or labels["app.kubernetes.io/component"] not in names
    for service in of_kind(documents, "Service"):
        assert not service["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize(
    ("sets", "version", "num"),
    [((), "1.29.0", 1), ((), "1.28.9", 0), (("tests.step=false",), "1.32.0", 0)],
)
def test_it_is_there_where_sidecars_are_and_it_is_wanted(sets, version, num):
    assert len(step_pods(*sets, version=version)) == num


def test_on_ray_the_stages_have_no_images_of_their_own():
    assert step_pods(name="ray") == []


class Pod:
    """The step's containers as processes of this machine, in a folder of their own."""

    def __init__(self, pod, folder):
        self._folder = folder
        self._ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        self._containers = {x["name"]: x for x in containers(pod)}
        self._stages = []

    def start_stages(self, names):
        for name in names:
            argv, environment = self._process(name)
            self._stages.append(subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL))

    def run(self, name, *further):
        argv, environment = self._process(name)
        return subprocess.run(
            [*argv, *further],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def stop(self):
        for stage in self._stages:
            stage.terminate()
        return [stage.wait(timeout=30) for stage in self._stages]

    def _process(self, name):
        container = self._containers[name]
        argv = [*container["command"], *container["args"]]
        given = {x["name"]: self._here(x["value"]) for x in container["env"]}
        path = f"{PYTHON.parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return [self._here(x) for x in argv], environment | given

    def _here(self, text):
        text = re.sub(r"\b5005\d\b", lambda found: self._ports[found[0]], text)
        text = text.replace("/opt/rlsd/examples", str(ROOT / "examples"))
        return re.sub(r"(?<![\w./])/(runs|cache)\b", rf"{self._folder}/\1", text)


@pytest.mark.timeout(240)
def test_its_commands_train_two_steps_and_an_audit_of_them_holds(tmp_path):
    assert PYTHON.exists(), "the services need the environment of `make setup`"
    [found] = step_pods()
    (tmp_path / "runs").mkdir()
    pod = Pod(found, tmp_path)
    try:
        pod.start_stages(x["name"] for x in found["spec"]["initContainers"])
        done = pod.run("learner")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "run step: everything holds"
        assert "2 steps from the base model give version 2 to the bit" in done.stdout
        summary = json.loads((tmp_path / "runs/step/summary.json").read_text())
        assert (summary["steps"], summary["identity_residual"]) == (2, 0)
        assert summary["outcomes"]["trained"] > 0

        # What fails is the pod's exit code, and its last line.
        failed = pod.run("learner", "--set=model.path=/nowhere")
        assert failed.returncode == ConfigError.exit_code
        assert failed.stderr.splitlines()[-1].startswith("rlsd learner: ")
    finally:
        ended = pod.stop()
    assert ended == [0, 0, 0]
