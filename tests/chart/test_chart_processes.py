"""What the chart says of our processes is so: arguments, ports, probes, exit codes, drain times."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from rlsd.config import RunConfig
from rlsd.errors import STOPPED_EXIT_CODE, ConfigError, UnfitError
from rlsd.serving import lifecycle
from rlsd.serving.http import Probes, probes_app
from rlsd.serving.process import service_parser
from rlsd.streams.keys import Keys
from rlsd.streams.stage import Stage
from tests.chart.rendering import VALUE_SETS, containers, named, of_kind, pods, rendered

pytestmark = pytest.mark.chart

SERVICES = ("rollout", "verifier", "teacher", "learner")


def container(documents, name):
    [found] = [
        c
        for _, pod in pods(documents)
        for c in pod["spec"]["containers"]
        if c["name"] == name and pod["metadata"]["labels"]["app.kubernetes.io/component"] == name
    ]
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_arguments_are_those_of_the_service(service):
    found = container(rendered("default"), service)
    assert found["command"] == ["python", "-m", f"services.{service}"]
    parsed = service_parser(service, "").parse_args(found["args"])
    assert str(parsed.config) == "/etc/rlsd/config.json"
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    assert (parsed.bind, parsed.metrics) == (
        f"0.0.0.0:{ports['grpc']}",
        f"0.0.0.0:{ports['metrics']}",
    )


@pytest.mark.parametrize("service", SERVICES)
def test_services_are_where_the_environment_says(service):
    documents = rendered("default")
    given = {x["name"]: x["value"] for x in container(documents, "learner")["env"]}
    host, port = given[f"RLSD_{service.upper()}_ADDRESS"].split(":")
    found = named(documents, "Service", host)["spec"]
    assert found["clusterIP"] == "None"  # no port is translated: both must be the same
    assert [x["port"] for x in found["ports"]] == [int(port)]
    ports = {x["name"]: x["containerPort"] for x in container(documents, service)["ports"]}
    assert ports[found["ports"][0]["targetPort"]] == int(port)


def test_probes_are_the_three_paths_that_there_are():
    asked = {
        c[probe]["httpGet"]["path"]
        for _, pod in pods(rendered("default"))
        for c in pod["spec"]["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        if "httpGet" in c.get(probe, {})
    }
    assert asked == {"/livez", "/readyz"}
    app = probes_app(Probes())
    for path in asked:
        said = []
        app({"PATH_INFO": path}, lambda status, _, said=said: said.append(status))
        assert said[0][:3] in ("200", "503")


def test_a_model_has_the_time_to_load_that_was_given():
    probe = container(rendered("default", "rollout.startupSeconds=1234"), "rollout")["startupProbe"]
    assert 1234 <= probe["periodSeconds"] * probe["failureThreshold"] < 1250


def test_a_pod_is_killed_after_it_has_drained():
    stage_s = 2 * lifecycle.ServerConfig().drain_s  # loops, then calls
    for _, pod in pods(rendered("default")):
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        if component in ("rollout", "verifier", "teacher"):
            assert pod["spec"]["terminationGracePeriodSeconds"] > stage_s
    defaults = RunConfig(model={"path": "m"}, data={"train": "t"})
    for sets, timeout_s in (
        ([], defaults.learner.stage_timeout_s),
        (["config.learner.stage_timeout_s=90"], 90),
    ):
        [job] = of_kind(rendered("default", *sets), "Job")
        assert job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > timeout_s


def test_a_group_has_the_time_that_a_learner_has():
    [job] = of_kind(rendered("default", "config.learner.ranks=2"), "Job")
    pod = job["spec"]["template"]["spec"]
    [given] = [
        int(x["value"])
        for x in pod["containers"][0]["env"]
        if x["name"] == "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
    ]
    assert 600 < given < pod["terminationGracePeriodSeconds"]


def test_exit_codes_tell_what_to_try_again():
    [job] = of_kind(rendered("default"), "Job")
    rules = job["spec"]["podFailurePolicy"]["rules"]
    by_code = {
        code: rule["action"]
        for rule in rules
        for code in rule.get("onExitCodes", {}).get("values", [])
    }
    assert by_code == {ConfigError.exit_code: "FailJob", STOPPED_EXIT_CODE: "Ignore"}
    assert {"type": "DisruptionTarget", "status": "True"} in rules[1]["onPodConditions"]
    assert UnfitError.exit_code not in by_code  # counted, and tried again
    assert (
        job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    )  # else codes are not looked at


def test_several_ranks_are_a_group_on_one_node():
    [job] = of_kind(rendered("default", "config.learner.ranks=4"), "Job")
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command == [
        *("python", "-m", "services.learner.group", "--nproc-per-node=4", "--standalone"),
        *("-m", "services.learner"),
    ]


def test_over_nodes_rank_0_is_on_the_leader_which_alone_is_called():
    documents = rendered("multi-gpu")
    [work] = of_kind(documents, "JobSet")
    leader, worker = work["spec"]["replicatedJobs"]
    assert (leader["name"], leader["template"]["spec"]["completions"]) == ("leader", 1)
    assert worker["template"]["spec"]["completions"] == 1
    commands = [
        " ".join(x["template"]["spec"]["template"]["spec"]["containers"][0]["command"])
        for x in (leader, worker)
    ]
    host = f"{work['metadata']['name']}-leader-0-0.{work['metadata']['name']}"
    assert all(
        f"--master-addr={host} --master-port=29500" in re.sub(r"\s+", " ", x) for x in commands
    )
    assert "--node-rank=0 " in commands[0]
    assert "--node-rank=$((JOB_COMPLETION_INDEX + 1)) " in commands[1]
    selector = named(documents, "Service", "r-learner")["spec"]["selector"]
    labels = [x["template"]["spec"]["template"]["metadata"]["labels"] for x in (leader, worker)]
    assert [selector.items() <= x.items() for x in labels] == [True, False]


def test_scaling_reads_the_streams_of_the_run():
    streams = {
        trigger["metadata"]["stream"]: trigger["metadata"]
        for scaled in of_kind(rendered("multi-gpu"), "ScaledObject")
        for trigger in scaled["spec"]["triggers"]
    }
    keys = Keys("Support-SQL_7b.1")
    assert set(streams) == {keys.entries(Stage.ROLLOUT), keys.entries(Stage.TEACH)}
    # Without a consumer group KEDA takes XLEN, which deletion on settling keeps true.
    assert not any({"consumerGroup", "lagCount"} & set(x) for x in streams.values())


def test_an_engine_server_has_the_devices_and_knows_no_queues():
    for _, pod in pods(rendered("multi-gpu")):
        found = {c["name"]: c for c in pod["spec"]["containers"]}
        if "engine" in found:
            assert found["engine"]["resources"]["limits"]["nvidia.com/gpu"] == 8
            assert "redis" not in {m["name"] for m in found["engine"]["volumeMounts"]}
            assert not [x for x in found["engine"]["env"] if "REDIS" in x["name"]]
            assert found["engine"]["resources"]["requests"]["memory"] == "256Gi"
            service = found.get("rollout", {"resources": {"limits": {}}})
            assert "nvidia.com/gpu" not in service["resources"]["limits"]


def test_no_service_of_ours_stands_where_a_controller_makes_its_own():
    for name in VALUE_SETS:
        documents = rendered(name)
        services = {x["metadata"]["name"] for x in of_kind(documents, "Service")}
        sets = of_kind(documents, "LeaderWorkerSet", "JobSet", "RayService")
        taken = {
            x["metadata"]["name"] + end for x in sets for end in ("", "-serve-svc", "-head-svc")
        }
        assert not services & (taken - {"r-ray"}), name  # KubeRay's have an ending


def test_what_scales_says_no_number_of_replicas():
    documents = rendered("multi-gpu")
    for scaled in of_kind(documents, "ScaledObject", "HorizontalPodAutoscaler"):
        target = scaled["spec"]["scaleTargetRef"]
        kind = target.get("kind", "Deployment")
        assert "replicas" not in named(documents, kind, target["name"])["spec"]


def test_a_single_replica_has_no_disruption_budget():
    budgets = {x["metadata"]["name"] for x in of_kind(rendered("default"), "PodDisruptionBudget")}
    assert budgets == {"r-verifier"}


def test_on_ray_the_applications_are_those_of_the_serve_file():
    [service] = of_kind(rendered("ray"), "RayService")
    serve = yaml.safe_load(service["spec"]["serveConfigV2"])
    file = yaml.safe_load(Path("deploy/ray/serve.yaml").read_text())
    for key in ("proxy_location", "http_options", "grpc_options"):
        assert serve[key] == file[key]
    for ours, theirs in zip(serve["applications"], file["applications"], strict=True):
        for key in ("name", "route_prefix", "import_path"):
            assert ours[key] == theirs[key]
        assert set(ours["args"]) <= {"folder", "config", "replicas", "cpus", "gpus"}


def test_on_ray_the_learner_calls_the_proxy():
    [job] = of_kind(rendered("ray"), "Job")
    env = {x["name"]: x["value"] for x in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["RLSD_VERIFIER_ADDRESS"] == "r-ray:9000/verifier"
    assert not of_kind(rendered("ray"), "Deployment")


def test_the_commands_of_helm_test_exist():
    for name in ("default", "multi-gpu", "ray"):
        for pod in of_kind(rendered(name), "Pod"):
            for each in containers(pod):
                modules = re.findall(r"python -m ([\w.]+)", " ".join(each["command"]))
                assert modules, pod["metadata"]["name"]
                assert all(importlib.util.find_spec(module) for module in modules), modules


def test_every_outside_verifier_is_examined_with_what_the_run_has_of_it():
    pod = named(rendered("multi-gpu"), "Pod", "r-test-contract-checks")
    assert pod["spec"]["containers"][0]["command"][3:] == [
        *("verifier", "check", "https://checks.verifiers.svc.cluster.local/v1/verify"),
        "--adapter=native",
        "--bearer-file=/run/secrets/checks/token",
        "--ca-file=/run/secrets/checks/ca.crt",
        "--allow-cidr=10.96.0.0/12",
    ]
