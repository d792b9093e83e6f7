"""Each alert fires when it should, and is silent when it should be, in Prometheus itself."""

import subprocess
from dataclasses import replace

import pytest
import yaml

from deploy.monitoring.__main__ import CHART
from deploy.monitoring.alerts import ALERTS
from deploy.monitoring.rules import RUNBOOKS, rules
from tests.monitoring.alert_cases import CASES
from tests.monitoring.tools import tool

pytestmark = pytest.mark.monitoring


def promtool(*arguments):
    command = [tool("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def expected(alert, case):
    """What promtool compares an alert with."""
    own = {"run": "a", "severity": alert.severity, "pillar": alert.pillar}
    page = f"{RUNBOOKS}/{alert.page}.md#{alert.name.lower()}"
    return {
        "exp_labels": own | case.labels,
        "exp_annotations": {
            "summary": case.summary,
            "description": alert.description,
            "runbook_url": page,
        },
    }


def unit_test(alert, case, *, fires):
    """A test of promtool's."""
    series = case.fires if fires else {**case.fires, **case.silent}
    wanted = [expected(alert, case)] if fires else []
    return {
        "interval": "1m",
        "input_series": [{"series": k, "values": v} for k, v in series.items()],
        "alert_rule_test": [
            {"eval_time": case.at, "alertname": alert.name, "exp_alerts": wanted},
        ],
    }


def of_gpus(tmp_path, series, samples):
    """Whether `rlsd:gpu_busy:ratio` comes of these series as these samples."""
    return outcome(
        tmp_path,
        {
            "interval": "1m",
            "input_series": [{"series": k, "values": v} for k, v in series.items()],
            "promql_expr_test": [
                {
                    "expr": "rlsd:gpu_busy:ratio",
                    "eval_time": "5m",
                    "exp_samples": [{"labels": k, "value": v} for k, v in samples.items()],
                }
            ],
        },
    )


def outcome(tmp_path, *tests):
    file = tmp_path / "test.yaml"
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    whole = {"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": list(tests)}
    file.write_text(yaml.safe_dump(whole))
    return promtool("test", "rules", file)


@pytest.mark.parametrize("scale", [1, 60, 600])
def test_prometheus_takes_the_rules(scale, tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rules(scale)))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "63 rules found" in done.stdout


def test_prometheus_takes_the_file_in_the_chart():
    done = promtool("check", "rules", CHART / "rules/rlsd.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_scrape_configuration():
    done = promtool("check", "config", "--syntax-only", "deploy/monitoring/prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case():
    assert set(CASES) == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda x: x.name)
def test_it_fires(alert, tmp_path):
    done = outcome(tmp_path, unit_test(alert, CASES[alert.name], fires=True))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda x: x.name)
def test_it_is_silent_when_it_should_be(alert, tmp_path):
    done = outcome(tmp_path, unit_test(alert, CASES[alert.name], fires=False))
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_runs_are_told_apart(tmp_path):
    [alert] = [x for x in ALERTS if x.name == "RlsdIdentityResidual"]
    case = CASES[alert.name]
    whole = unit_test(alert, case, fires=True)
    whole["input_series"].append(
        {"series": 'rlsd_learner_identity_residual{run="b"}', "values": "0x60"}
    )
    assert outcome(tmp_path, whole).returncode == 0


@pytest.mark.parametrize("whose", ['exported_pod="p",pod="dcgm-7"', 'pod="p"'])
def test_a_gpu_belongs_to_the_run_of_its_pod_whichever_way_labels_are_honoured(whose, tmp_path):
    series = {
        f'DCGM_FI_DEV_GPU_UTIL{{gpu="0",{whose}}}': "80x10",
        'DCGM_FI_DEV_GPU_UTIL{gpu="1",pod="of-others"}': "10x10",
        'rlsd_build_info{run="a",service="rollout",pod="p",version="1"}': "1x10",
    }
    labels = 'rlsd:gpu_busy:ratio{gpu="0", pod="p", run="a", service="rollout"}'
    done = of_gpus(tmp_path, series, {labels: 0.8})
    assert done.returncode == 0, done.stdout


def test_replicas_that_share_a_pod_on_ray_share_its_gpus(tmp_path):
    series = {
        'DCGM_FI_DEV_GPU_UTIL{gpu="0",pod="r"}': "60x10",
        'DCGM_FI_DEV_GPU_UTIL{gpu="0",pod="p"}': "80x10",
        'rlsd_build_info{run="a",service="rollout",pod="r/rollout-1",version="1"}': "1x10",
        'rlsd_build_info{run="a",service="rollout",pod="r/rollout-2",version="1"}': "1x10",
        'rlsd_build_info{run="a",service="teacher",pod="r/teacher-3",version="1"}': "1x10",
        'rlsd_build_info{run="a",service="learner",pod="p",version="1"}': "1x10",
    }
    of_ray = 'rlsd:gpu_busy:ratio{gpu="0", pod="r", run="a", service="ray"}'
    own = 'rlsd:gpu_busy:ratio{gpu="0", pod="p", run="a", service="learner"}'
    done = of_gpus(tmp_path, series, {of_ray: 0.6, own: 0.8})
    assert done.returncode == 0, done.stdout


def test_both_engines_are_one_fleet(tmp_path):
    series = {
        'vllm:num_requests_running{run="a",pod="p",model_name="m"}': "3x10",
        'sglang:num_running_reqs{run="a",pod="q",model_name="m"}': "5x10",
    }
    name = "rlsd:engine_requests_running"
    done = outcome(
        tmp_path,
        {
            "interval": "1m",
            "input_series": [{"series": k, "values": v} for k, v in series.items()],
            "promql_expr_test": [
                {
                    "expr": name,
                    "eval_time": "5m",
                    "exp_samples": [
                        {"labels": f'{name}{{engine="vllm", pod="p", run="a"}}', "value": 3},
                        {"labels": f'{name}{{engine="sglang", pod="q", run="a"}}', "value": 5},
                    ],
                }
            ],
        },
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("alert", "series", "values"),
    [
        ("RlsdLogprobMismatch", 'rlsd_learner_mismatch_kl_nats{run="a"}', "0.1 0.04"),
        ("RlsdCreditSaturated", 'rlsd_credit_weight_clip_ratio{run="a",side="low"}', "1 0.6"),
        ("RlsdEntropyCollapse", 'rlsd_learner_sampled_entropy_nats{run="a"}', "0.35 0.01"),
    ],
)
def test_a_gauge_that_jumps_from_step_to_step_fires_by_its_mean(alert, series, values, tmp_path):
    high = "2 " * 30 if alert == "RlsdEntropyCollapse" else ""
    reward = 'rlsd_learner_reward_{}{{run="a",kind="math"}}'
    of_reward = {reward.format("sum"): "0+3x200", reward.format("count"): "0+10x200"}
    series_ = {series: high + f"{values} " * 60, **of_reward}
    done = outcome(
        tmp_path,
        {
            "interval": "1m",
            "input_series": [{"series": k, "values": v} for k, v in series_.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                    "eval_time": "100m",
                    "exp_samples": [{"labels": "{}", "value": 1}],
                }
            ],
        },
    )
    assert done.returncode == 0, done.stdout


def test_a_reward_of_few_groups_is_none_to_fall_from(tmp_path):
    [alert] = [x for x in ALERTS if x.name == "RlsdRewardCollapse"]
    few = {'rlsd_learner_groups_judged_total{run="a",kind="math",outcome="mixed"}': "0+1x300"}
    case = replace(CASES[alert.name], silent=few)
    done = outcome(tmp_path, unit_test(alert, case, fires=False))
    assert done.returncode == 0, done.stdout


UP = 'rlsd_build_info{{run="a",service="{}",version="1"}}'


@pytest.mark.parametrize(
    "series",
    [
        pytest.param(  # its rollout stays up, with the weights that it has
            {
                UP.format("rollout"): "1x200",
                UP.format("learner"): "1x30 stale",
                'rlsd_rollout_policy_version{run="a"}': "_ 0+1x28 28x170",
            },
            id="a run that ended",
        ),
        pytest.param(
            {
                UP.format("rollout"): "1x200",
                'rlsd_rollout_policy_version{run="a"}': "7x200",
            },
            id="a rollout that serves an evaluation, and waits",
        ),
        pytest.param({UP.format("verifier"): "1x200"}, id="a verifier by itself"),
        pytest.param({UP.format("learner"): "1x200"}, id="stages on Ray, which nobody scrapes"),
        pytest.param(
            {
                UP.format("rollout"): "1x200",
                UP.format("learner"): "_x14 1x200",
                UP.format("learner").replace('"a"', '"b"'): "1x200",
            },
            id="a start that takes its time",
        ),
    ],
)
def test_a_learner_that_need_not_be_there_is_not_missed(series, tmp_path):
    [alert] = [x for x in ALERTS if x.name == "RlsdLearnerMissing"]
    whole = {
        "interval": "1m",
        "input_series": [{"series": k, "values": v} for k, v in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{at}m", "alertname": alert.name, "exp_alerts": []}
            for at in range(5, 180, 5)
        ],
    }
    done = outcome(tmp_path, whole)
    assert done.returncode == 0, done.stdout


def test_a_learner_of_another_run_is_none_of_this_one(tmp_path):
    [alert] = [x for x in ALERTS if x.name == "RlsdLearnerMissing"]
    case = CASES[alert.name]
    whole = unit_test(alert, case, fires=True)
    whole["input_series"].append(
        {"series": UP.format("learner").replace('"a"', '"b"'), "values": "1x60"}
    )
    assert outcome(tmp_path, whole).returncode == 0
