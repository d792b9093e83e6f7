"""The replicas' own metrics: on Ray's page of the node, and in a Prometheus that scrapes it."""

import asyncio
import json
import os
import signal
import time
import urllib.request
from collections import Counter
from dataclasses import replace

import pytest
from builders import make_group

from rlsd.watching.samples import Samples
from tests.monitoring.serving import prometheus
from tests.on_ray.test_ray_calls import replicas, verify

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.asyncio(loop_scope="session"),
]

VERDICTS = "rlsd_verifier_verdicts_total"
FORGOTTEN_WITHIN_S = 40
"""Ray reports every ten seconds and forgets after twenty; the rest is this machine's."""


def page_address():
    import ray

    [node] = ray.nodes()
    return f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"


def page():
    with urllib.request.urlopen(f"http://{page_address()}/metrics", timeout=20) as answer:
        return Samples.parse(answer.read().decode())


def by_replica(name, **labels):
    """Of the page; what an earlier test has left of its own is still there for a while."""
    return page().by("replica", f"ray_{name}", **labels)


async def until(holds, *, within_s, every_s=0.5):
    deadline = time.monotonic() + within_s
    while not (found := await asyncio.to_thread(holds)):
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(every_s)
    return found


def half_right():
    """A group of four, two of which are right."""
    group = make_group()
    texts = ("# 4", "# 5", "# 4", "# 6")
    told = [replace(t, text=x) for t, x in zip(group.trajectories, texts, strict=True)]
    return replace(group, trajectories=tuple(told))


async def two_busy_replicas(deploy, run):
    """An address, and the outcomes that two replicas have given between them."""
    address = deploy("verifier", f"run.id={run}", replicas="2")
    outcomes = Counter()
    for _ in range(4):  # by chance one could get all calls of a round
        for judged in await asyncio.gather(*(verify(address, half_right()) for _ in range(8))):
            for trajectory in judged.trajectories:
                outcomes["pass" if trajectory.verdict.reward == 1 else "fail"] += 1
    assert outcomes["pass"] == outcomes["fail"] == 4 * 8 * 2
    return address, outcomes


async def test_each_replica_is_on_rays_page_and_vanishes_with_its_death(deploy):
    _, outcomes = await two_busy_replicas(deploy, "paged")

    def told():
        found = {x: by_replica(VERDICTS, run="paged", outcome=x) for x in outcomes}
        return found if all(sum(found[x].values()) == n for x, n in outcomes.items()) else None

    found = await until(told, within_s=30)
    verified = found["pass"]
    assert len(verified) == 2
    assert all(x.startswith("verifier-") and number > 0 for x, number in verified.items())
    assert found["fail"] == verified  # of each group two are right and two are wrong
    buckets = by_replica("rlsd_verifier_check_duration_seconds_bucket", run="paged", le="+Inf")
    counts = by_replica("rlsd_verifier_check_duration_seconds_count", run="paged")
    assert buckets == counts
    assert sum(counts.values()) == sum(outcomes.values())
    ready = by_replica("rlsd_service_ready", run="paged", service="verifier")
    assert set(ready.values()) == {1.0}

    pids = {pid for pid in replicas("verifier")}
    started = by_replica("process_start_time_seconds", run="paged")
    os.kill(min(pids), signal.SIGKILL)
    killed_at = time.monotonic()
    gone = await until(
        lambda: set(verified) - set(by_replica(VERDICTS, run="paged")),
        within_s=FORGOTTEN_WITHIN_S,
    )
    print(f"\ngone from the page after {time.monotonic() - killed_at:.0f} s")  # noqa: T201
    assert len(gone) == 1
    await until(
        lambda: set(by_replica("process_start_time_seconds", run="paged")) - set(started),
        within_s=60,
    )
    assert len(by_replica("rlsd_service_ready", run="paged")) == 2


async def test_a_prometheus_has_them_by_the_names_and_labels_that_rules_ask_for(deploy, tmp_path):
    """With the job `ray` of deploy/monitoring/prometheus.yml; the chart relabels as it does."""
    _, outcomes = await two_busy_replicas(deploy, "scraped")
    (tmp_path / "targets").mkdir()
    targets = [  # as Ray's own file has it, and with the label that a pod of the chart gives it
        {"targets": [page_address()], "labels": {"job": "ray", **more}}
        for more in ({}, {"run": "of-the-pod"})
    ]
    (tmp_path / "targets/ray.json").write_text(json.dumps(targets))
    with prometheus(tmp_path, scale=20, job="ray") as asked:

        def told():
            found = asked.at(f'{VERDICTS}{{run="scraped"}}', time.time())
            return found if sum(x.newest() for x in found) == sum(outcomes.values()) else None

        found = await until(told, within_s=40)
        host = page_address().rpartition(":")[0]
        [pods] = [{x.labels["pod"] for x in found}]
        assert len(pods) == 2
        assert all(x.startswith(f"{host}/verifier-") for x in pods)
        of_pod = asked.at(f'{VERDICTS}{{run="of-the-pod"}}', time.time())
        assert pods <= {x.labels["pod"] for x in of_pod}
        assert {x for each in (*found, *of_pod) for x in each.labels} == {
            *("__name__", "instance", "job", "pod", "component", "run", "kind", "outcome")
        }
        assert {x.labels["component"] for x in found} == {"verifier"}
        known = "(rlsd|process)_.+|rlsd:.+|up|ALERTS.*|scrape_.+"
        foreign = f'{{__name__=~".+", __name__!~"{known}"}}'
        assert [x.labels for x in asked.at(foreign, time.time())] == []

        def busy():
            share = 'rlsd:service_busy:ratio_rate5m{run="scraped", service="verifier"}'
            return asked.at(f"{share} >= 0", time.time())  # not 0/0

        [share] = await until(busy, within_s=40)
        assert 0 <= share.newest() <= 1
        middle = asked.at(
            "histogram_quantile(0.5, sum by (run, le) "
            '(rlsd_verifier_check_duration_seconds_bucket{run="scraped"}))',
            time.time(),
        )
        assert 0 < middle[0].newest() < 30
        assert {x["health"] for x in asked.rules()} == {"ok"}
        assert [(x["health"], x["lastError"]) for x in asked.targets()] == 2 * [("up", "")]
    assert "duplicate" not in (tmp_path / "prometheus.log").read_text().lower()
