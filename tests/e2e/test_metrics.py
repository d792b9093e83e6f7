"""The metrics of a whole run, as a Prometheus reads them: names, labels, figures, their number."""

import json
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_run import wait_for

from rlsd.telemetry.metrics import label_values
from scripts import metrics_page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BUDGET = 400
"""Series of one pod."""
STEPS = 8


def targets(run):
    path = run.folder / "prometheus_targets.json"
    return {t["labels"]["service"]: t["targets"][0] for t in json.loads(path.read_text())}


def scrape(address):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


def samples(families):
    return {(s.name, *sorted(s.labels.items())): s.value for f in families for s in f.samples}


def closed(families):
    """Labels whose value is none of those that the catalogue has."""
    for family in families:
        for sample in family.samples if family.name.startswith("rlsd_") else ():
            for label, found in sample.labels.items():
                values = label_values(family.name).get(label, ())
                if label != "le" and not isinstance(values, str) and found not in values:
                    yield family.name, label, found


def test_a_run_says_all_that_the_catalogue_promises_within_its_budget(run):
    process = run.start(
        f"run.steps={STEPS + 200}", "learner.checkpoint_every=2", "run.max_staleness=1"
    )
    wait_for(lambda: run.steps_logged() >= STEPS)
    found, began = {s: scrape(a) for s, a in targets(run).items()}, time.monotonic()
    wait_for(lambda: time.monotonic() > began + 3)
    later = {s: samples(scrape(a)) for s, a in targets(run).items()}
    wall_s = time.monotonic() - began

    names = {m.name for _, m, _ in metrics_page.families()}
    sizes = {}
    for service, families in found.items():
        ours = {f.name for f in families if f.name.startswith("rlsd_")}
        assert ours <= names
        assert list(closed(families)) == []
        sizes[service] = sum(len(f.samples) for f in families)
        states = [
            sum(v for k, v in source.items() if k[0] == "rlsd_service_state_seconds_total")
            for source in (samples(families), later[service])
        ]
        assert states[1] - states[0] == pytest.approx(wall_s, abs=1.0), service
    assert set(sizes) == {"learner", "rollout", "verifier", "teacher"}
    assert max(sizes.values()) <= BUDGET, sizes

    learner = later["learner"]
    assert learner["rlsd_learner_step",] >= STEPS
    for name in (
        "rlsd_learner_identity_residual",
        "rlsd_learner_trained_twice_total",
        "rlsd_learner_nonfinite_steps_total",
        "rlsd_credit_sign_flips_total",
    ):
        assert learner[name,] == 0
    assert 0 < learner["rlsd_credit_weight_entropy_ratio",] <= 1
    assert learner["rlsd_learner_importance_ess_ratio",] == pytest.approx(1, abs=1e-3)
    assert learner["rlsd_queue_memory_used_bytes",] > 1e5
    assert ("rlsd_queue_entries", ("stage", "teach")) in learner
    assert learner["rlsd_learner_trained_tokens_total",] > 0
    taken = {
        s: later[s]["rlsd_weight_bytes_total", ("direction", "taken"), ("service", s)]
        for s in ("rollout", "teacher")
    }
    assert min(taken.values()) > 1e5
    waits = {"rollout": "rollout", "verifier": "verify", "teacher": "teach", "learner": "train"}
    for service, stage in waits.items():
        assert later[service]["rlsd_queue_wait_seconds_count", ("stage", stage)] > 0
    verdicts = [v for k, v in later["verifier"].items() if k[0] == "rlsd_verifier_verdicts_total"]
    assert sum(verdicts) > 0

    process.terminate()
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert not (run.folder / "prometheus_targets.json").exists()
