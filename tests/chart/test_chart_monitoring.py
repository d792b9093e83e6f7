"""What Prometheus and Grafana are given by the chart."""

import json
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import CHART, configuration, named, of_kind, pods, refusal, rendered

pytestmark = pytest.mark.chart

ON = ("monitoring.dashboards.enabled=true", "monitoring.rules.enabled=true")
RUNBOOKS = "https://docs.example.com/rlsd/runbooks"
MIB = 1 << 20


def boards(documents):
    """Every dashboard in a ConfigMap, by the name of its file."""
    maps = [x for x in of_kind(documents, "ConfigMap") if "config.json" not in x["data"]]
    return {name: json.loads(text) for x in maps for name, text in x["data"].items()}


def test_nothing_of_it_is_made_unless_asked_for():
    documents = rendered("default")
    assert of_kind(documents, "PodMonitor", "PrometheusRule") == []
    assert boards(documents) == {}
    assert configuration(documents)


def test_scraped_pods_carry_the_name_of_their_run_as_the_label_run():
    documents = rendered("multi-gpu")
    monitor = named(documents, "PodMonitor", "r")
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    labels = {x["targetLabel"]: x["sourceLabels"] for x in endpoint["relabelings"]}
    assert labels["run"] == ["__meta_kubernetes_pod_label_rlsd_run"]
    assert "service" not in labels  # the services set it themselves
    scraped = [x for _, x in pods(documents) if "rlsd/run" in x["metadata"]["labels"]]
    assert {x["metadata"]["labels"]["rlsd/run"] for x in scraped} == {"support-sql-7b-1"}


def test_engine_servers_are_scraped_through_the_service_beside_them():
    documents = rendered("multi-gpu")
    served = named(documents, "PodMonitor", "r-engines")["spec"]
    [chosen] = served["selector"]["matchExpressions"]
    assert chosen["values"] == ["rollout"]
    [endpoint] = served["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("metrics", "/engine")
    off = rendered("default", "monitoring.podMonitor.enabled=true")
    assert [x["metadata"]["name"] for x in of_kind(off, "PodMonitor")] == ["r"]


def test_on_ray_the_page_of_each_node_is_scraped_as_the_job_for_any_prometheus_says():
    """That job's relabeling is tried on a real Ray, in tests/on_ray."""
    documents = rendered("ray", "monitoring.podMonitor.enabled=true")
    monitor = named(documents, "PodMonitor", "r-ray")["spec"]
    assert monitor["selector"]["matchLabels"]["app.kubernetes.io/component"] == "ray"
    [endpoint] = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    assert [x["targetLabel"] for x in endpoint["relabelings"]] == ["run"]
    config = yaml.safe_load(Path("deploy/monitoring/prometheus.yml").read_text())
    [job] = [x for x in config["scrape_configs"] if x["job_name"] == "ray"]
    in_file = {"source_labels": "sourceLabels", "target_label": "targetLabel"}
    wanted = [{in_file.get(k, k): v for k, v in x.items()} for x in job["metric_relabel_configs"]]
    assert endpoint["metricRelabelings"] == wanted
    names = {x["metadata"]["name"] for x in of_kind(documents, "PodMonitor")}
    assert names == {"r", "r-ray"}  # the learner is a process, as elsewhere
    off = rendered("default", "monitoring.podMonitor.enabled=true")
    assert [x["metadata"]["name"] for x in of_kind(off, "PodMonitor")] == ["r"]


def test_on_ray_every_pod_says_its_metrics_on_the_port_that_is_scraped():
    [service] = of_kind(rendered("ray"), "RayService")
    cluster = service["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        [container] = group["template"]["spec"]["containers"]
        [port] = [x["containerPort"] for x in container["ports"] if x["name"] == "metrics"]
        assert group["rayStartParams"]["metrics-export-port"] == str(port) == "9464"
        assert group["template"]["metadata"]["labels"]["rlsd/run"]


def test_dashboards_arrive_as_they_were_generated_but_for_the_runbooks():
    arrived = boards(rendered("default", *ON))
    generated = {f"rlsd-{x.name}": json.loads(x.read_text()) for x in CHART.glob("dashboards/*")}
    assert arrived == generated
    assert len(arrived) == 6
    before = json.dumps(generated)
    assert "docs/runbooks" in before
    moved = before.replace("docs/runbooks", RUNBOOKS)
    assert boards(rendered("multi-gpu")) == json.loads(moved)


def test_grafanas_sidecar_finds_them():
    for found in of_kind(rendered("default", *ON), "ConfigMap"):
        if "config.json" not in found["data"]:
            assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
            assert found["metadata"]["annotations"]["grafana_folder"] == "RLSD"


def test_no_config_map_is_near_the_limit_of_1_mib():
    for found in of_kind(rendered("multi-gpu"), "ConfigMap"):
        assert len(yaml.safe_dump(found)) < MIB / 4, found["metadata"]["name"]


def test_the_rules_arrive_as_they_were_generated_but_for_the_runbooks():
    generated = yaml.safe_load(Path(CHART / "rules/rlsd.yaml").read_text())
    arrived = named(rendered("default", *ON), "PrometheusRule", "r")
    assert arrived["spec"] == generated
    moved = named(rendered("multi-gpu"), "PrometheusRule", "r")
    assert moved["metadata"]["labels"]["release"] == "prometheus"
    links = [
        rule["annotations"]["runbook_url"]
        for group in moved["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert links
    assert all(link.startswith(f"{RUNBOOKS}/") for link in links)


def test_rules_need_the_operator_and_dashboards_do_not():
    assert "Prometheus operator" in refusal("default", ON[1], apis=())
    assert len(boards(rendered("default", ON[0]))) == 6
