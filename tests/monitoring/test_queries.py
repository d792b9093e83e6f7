"""Every query of dashboards and rules asks for what there is, and what there is is asked for."""

import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml

from deploy.monitoring.__main__ import CHART, files
from deploy.monitoring.alerts import ALERTS
from deploy.monitoring.boards import BOARDS
from deploy.monitoring.recorded.engines import ENGINES
from deploy.monitoring.recorded.run import RECORDED
from deploy.monitoring.rules import rules
from tests.monitoring.expressions import (
    TARGET,
    closed,
    families,
    filled,
    grouped,
    known,
    samples,
    selectors,
)

RULES = [rule for group in rules()["groups"] for rule in group["rules"]]
ASKED = {
    **{
        f"{name}: {panel['title']} {target['refId']}": target["expr"]
        for name, board in BOARDS.items()
        for panel in board["panels"]
        for target in panel.get("targets", ())
    },
    **{
        f"{name}: annotation {x['name']}": x["expr"]
        for name, board in BOARDS.items()
        for x in board["annotations"]["list"]
    },
    **{f"rule {rule.get('record') or rule['alert']}": rule["expr"] for rule in RULES},
}
RECORDS = {**RECORDED, **ENGINES}
JOINED = {
    "rlsd:engine": {"engine"},
    "rlsd:gpu": {"service", "gpu"},
    "rlsd:group": {"kind"},
    "rlsd:verifier_errors": {"kind"},
    "rlsd:service_busy": {"service"},
}
"""Labels of recorded series beside run and pod, by how their names begin."""


def labels_of(metric):
    """All labels that a metric can have."""
    if metric in RECORDS:
        found = [labels for start, labels in JOINED.items() if metric.startswith(start)]
        return TARGET.union(*found)
    return TARGET | known()[metric]


@pytest.mark.parametrize("where", ASKED)
def test_a_query_is_promql_about_metrics_and_labels_that_there_are(where):
    for selector in selectors(ASKED[where]):
        assert selector.metric in known() or selector.metric in RECORDS, selector.metric
        for label, operator, value in selector.matchers:
            assert label in labels_of(selector.metric), f"{selector.metric}{{{label}}}"
            values = closed(selector.metric, label)
            if values and operator in ("Equal", "NotEqual"):
                assert value in values, f"{selector.metric}{{{label}={value}}}"
            if values and operator in ("Re", "NotRe") and re.fullmatch(r"[\w|]+", value):
                wrong = {x for x in value.split("|") if x not in values and not x.startswith("v")}
                assert not wrong, f"{selector.metric}{{{label}}}: {wrong}"
    for by, metrics in grouped(ASKED[where]):
        made = set(re.findall(r'"(\w+)", "\$1", "\w+"', ASKED[where]))  # by label_replace
        assert by <= made.union(*map(labels_of, metrics)), f"by {by}"


@pytest.mark.parametrize("where", [x for x in ASKED if not x.startswith("rule")])
def test_a_query_of_a_dashboard_asks_for_the_chosen_runs(where):
    for selector in selectors(ASKED[where]):
        assert ("run", "Re", "vrun") in selector.matchers, selector.metric


def test_a_legend_names_labels_that_its_query_returns():
    for board in BOARDS.values():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                named = set(re.findall(r"{{\s*(\w+)\s*}}", target.get("legendFormat", "")))
                groups = [by for by, _ in grouped(target["expr"])]
                assert not named or named <= set().union(*groups), panel["title"]


def test_every_metric_of_the_code_is_on_a_dashboard_or_in_a_rule():
    asked = {selector.metric for expr in ASKED.values() for selector in selectors(expr)}
    unseen = {f.name for f in families() if not asked & set(samples(f))}
    assert len(families()) > 70
    assert unseen == set()


def test_every_recorded_series_is_asked_for_by_an_alert_a_panel_or_another():
    asked = {selector.metric for expr in ASKED.values() for selector in selectors(expr)}
    assert set(RECORDS) - asked == {
        "rlsd:trained_tokens:rate5m",  # for those who compare runs over weeks
        "rlsd:sampled_tokens:rate5m",
        "rlsd:service_busy:ratio_rate5m",
    }


def test_everything_that_is_recorded_or_fires_has_the_label_run():
    for rule in RULES:
        outer = promql_parser.parse(rule["expr"])
        groups = [by for by, _ in grouped(outer.prettify())]
        reads = {s.metric for s in selectors(rule["expr"])}
        assert groups or reads <= set(RECORDS), rule
        if "DCGM" not in rule["expr"]:  # whose pods are joined with those of runs
            assert all("run" in by for by in groups), rule


@pytest.mark.parametrize("alert", ALERTS, ids=lambda x: x.name)
def test_an_alert_names_its_run_and_a_page_with_a_heading_of_its_name(alert):
    assert re.fullmatch("Rlsd[A-Z][A-Za-z]+", alert.name)
    assert "$labels.run" in alert.summary
    assert alert.description.endswith(".")
    page = Path(f"docs/runbooks/{alert.page}.md").read_text()
    assert f"\n## {alert.name}\n" in page


def test_severities_and_pillars_are_few():
    assert {x.severity for x in ALERTS} == {"critical", "warning", "info"}
    assert {x.pillar for x in ALERTS} == {"correctness", "progress", "reward", "learning"}


def test_the_page_behind_a_panel_exists():
    for board in BOARDS.values():
        for panel in board["panels"]:
            for link in panel.get("links", ()):
                assert Path(link["url"]).is_file(), link["url"]


def test_what_is_in_the_chart_is_what_is_generated():
    for path, text in files().items():
        assert path.read_text() == text, f"{path.name}: run `make monitoring`"
    assert {path.stem for path in CHART.glob("dashboards/*")} == set(BOARDS)


def test_a_scale_divides_every_duration_and_no_threshold():
    slow, fast = yaml.safe_dump(rules()), yaml.safe_dump(rules(60))
    assert re.findall(r"[\[ ](\d+[mhd])\b", fast) == []
    [patience] = [r for g in rules(60)["groups"] for r in g["rules"] if "patience" in str(r)][:1]
    assert "+ 15)" in patience["expr"]
    for threshold in ("14.4 * 0.005", "> 0.05", "0.95 *"):
        assert slow.count(threshold) == fast.count(threshold) > 0


def test_a_metric_by_another_name_would_be_noticed():
    assert "rlsd_learner_stepp" not in known()
    with pytest.raises(ValueError, match="unclosed"):
        selectors("sum by (run (up)")


def test_variables_are_filled_before_parsing():
    assert filled('rate(x{run=~"$run"}[$window])') == 'rate(x{run=~"vrun"}[5m])'


def test_dashboards_survive_json():
    for path in CHART.glob("dashboards/*.json"):
        assert json.loads(path.read_text())["uid"] == f"rlsd-{path.stem}"
