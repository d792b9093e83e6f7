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
    [monitor] = of_kind(documents, "PodMonitor")
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    labels = {x["targetLabel"]: x["sourceLabels"] for x in endpoint["relabelings"]}
    assert labels["run"] == ["__meta_kubernetes_pod_label_rlsd_run"]
    assert "service" not in labels  # the services set it themselves
    scraped = [x for _, x in pods(documents) if "rlsd/run" in x["metadata"]["labels"]]
    assert {x["metadata"]["labels"]["rlsd/run"] for x in scraped} == {"support-sql-7b-1"}


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
