"""A verifier that fails never becomes a reward, and one that is away is waited for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from rlsd.batch_log import BatchLog
from rlsd.local.processes import Child, free_ports
from rlsd.trajectory import VerdictOutcome
from tests.chaos.account import audit
from tests.chaos.faulty_verifier import Fault, fault_of, reward_of
from tests.chaos.system import (
    chain_run,
    has_ended,
    num_logged,
    supervised,
    system,
    until,
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

PERCENT = 20
TOLD = {
    Fault.STATUS_500: "chain: status 500",
    Fault.HANG: "chain: no answer within ",
    Fault.TEN_MEGABYTES: "chain: an answer of more than 65536 bytes",
    Fault.MALFORMED: "chain: not JSON",
    Fault.NAN: "chain: not JSON",
}
"""What the verdict says of each."""


def http_run(folder: Path, port: int, *, steps: int):
    """The chain task, checked by the server at `port`."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [json.loads(x) for x in Path("examples/chain/train.jsonl").read_text().splitlines()]
    verifier = {"kind": "http", "params": {"verifier": "chain"}}
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps({**r, "verifier": verifier}) + "\n" for r in records))
    return chain_run(
        folder,
        f'data.train="{data}"',
        f"run.steps={steps}",
        "run.groups_per_step=8",
        'verifier.kinds=["http"]',
        f'verifier.http.chain.url="http://127.0.0.1:{port}/{PERCENT}"',
        'verifier.http.chain.allow_cidrs=["127.0.0.0/8"]',
        "verifier.http.chain.try_timeout_s=0.5",
        "verifier.http.chain.total_timeout_s=1.5",
        "verifier.http.chain.retries=1",
    )


def server(port: int, folder: Path) -> Child:
    return Child(
        name="server",
        command=[sys.executable, "-m", "tests.chaos.faulty_verifier", f"--port={port}"],
        environment=os.environ,
        log_path=folder / "server.log",
    )


def trajectories(config):
    log = BatchLog(config.run_dir / "batches", config.run.id)
    for step in log.steps():
        for group in log.read(step).groups:
            for t in group.trajectories:
                yield group, t, fault_of(f"{group.run_id}/{group.group_id}/{t.member}", PERCENT)


def test_no_failed_check_becomes_a_reward(tmp_path):
    (port,) = free_ports(1)
    config, path = http_run(tmp_path, port, steps=12)
    parts = system(config, path, instances={"rollout": 1, "verifier": 1, "teacher": 1})

    async def trained():
        children = (server(port, tmp_path), *parts.children)
        async with supervised(children, is_finished=has_ended(config)) as supervisor:
            await asyncio.wait_for(supervisor.finished.wait(), 240)
            return supervisor.exits

    assert asyncio.run(trained()) == []
    met = Counter()
    for group, trajectory, fault in trajectories(config):
        verdict = trajectory.verdict
        met[fault] += 1
        if fault is None:
            right = reward_of(trajectory.text, group.prompt.reference)
            assert (verdict.outcome, verdict.reward) == (VerdictOutcome.SCORED, right)
        else:
            assert not verdict.is_scored
            assert verdict.reason.startswith(TOLD[fault]), verdict.reason
    assert set(met) == {None, *Fault}
    account = audit(config)
    assert (account.lost, account.trained_twice, account.residual) == (0, 0, 0)
    assert (account.failed, account.faults) == ({}, [])


def test_a_verifier_that_is_away_is_waited_for(tmp_path):
    (port,) = free_ports(1)
    config, path = http_run(tmp_path, port, steps=12)
    parts = system(config, path, instances={"rollout": 1, "verifier": 1, "teacher": 1})

    async def trained():
        children = (server(port, tmp_path), *parts.children)
        async with supervised(children, is_finished=has_ended(config)) as supervisor:
            await until(lambda: num_logged(config) >= 4, timeout_s=120)
            supervisor.signal("server", signal.SIGSTOP)
            await asyncio.sleep(10)  # longer than any one check may take
            supervisor.signal("server", signal.SIGCONT)
            await asyncio.wait_for(supervisor.finished.wait(), 120)
            return supervisor.exits

    assert asyncio.run(trained()) == []
    assert all(t.verdict.is_scored for _, t, fault in trajectories(config) if fault is None)
    account = audit(config)
    assert (account.lost, account.trained_twice, account.residual) == (0, 0, 0)
    assert account.failed == {}
