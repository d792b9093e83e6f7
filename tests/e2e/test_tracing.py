"""Traces of whole runs, as a collector receives them: OTLP over gRPC from every process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from e2e.test_run import assert_account_is_whole, children_of, wait_for
from otlp_receiver import Receiver, Span, receiving

from rlsd.local.processes import free_ports
from rlsd.trajectory import group_id_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECRET = "canary"
"""In the prompt, the reference and the privileged context, and so in what the verifier answers."""
QUEUED = [
    "queue.wait",
    "rollout.generate",
    "queue.wait",
    "verify",
    "queue.wait",
    "teach",
    "queue.wait",
    "seal",
    "train",
    "publish",
]
CALLED = [name for name in QUEUED if name != "queue.wait"]


@pytest.fixture
def collector(monkeypatch):
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        yield receiver


@pytest.fixture
def outside(tmp_path, collector):
    """Settings of a run whose verifier is a process of somebody else's."""
    port = free_ports(1)[0]
    data = tmp_path / "train.jsonl"
    with open("examples/chain/train.jsonl") as lines:
        records = [json.loads(next(lines)) for _ in range(40)]
    for record in records:
        record["prompt"] += f" {SECRET}-prompt"
        record["reference"] = f"{SECRET}-reference"
        record["privileged"] += f" {SECRET}-privileged"
        record["verifier"] = {"kind": "http", "params": {"verifier": "outside"}}
    data.write_text("".join(json.dumps(r) + "\n" for r in records))
    process = subprocess.Popen(
        [sys.executable, "tests/echoing_verifier.py", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield [
            f'data.train="{data}"',
            f'data.held_out="{data}"',
            'verifier.kinds=["http"]',
            f'verifier.http.outside.url="http://127.0.0.1:{port}"',
            'verifier.http.outside.allow_cidrs=["127.0.0.0/8"]',
        ]
    finally:
        process.terminate()
        process.wait(10)


def trace_of(receiver: Receiver, run_id: str, group_id: str) -> list[Span]:
    """What a link from the batch log shows, without having been stored anywhere."""
    trace_id = hashlib.sha256(f"{run_id}/{group_id}".encode()).hexdigest()[:32]
    return receiver.traces().get(trace_id, [])


def root_of(trace: list[Span]) -> Span:
    (root,) = [s for s in trace if not s.parent_id]
    assert root.name == "group"
    return root


def chain(trace: list[Span]) -> list[Span]:
    """What lies directly under the root, and for calls what lies under each call."""
    root, below = root_of(trace), []
    for span in trace:
        if span.parent_id == root.span_id:
            callees = [s for s in trace if s.parent_id == span.span_id and s.service != "echoing"]
            is_call = span.name.startswith("rlsd.wire.v1.")
            below += callees if is_call else [span]
    return below


def assert_one_after_the_other(spans: list[Span]) -> None:
    """By the clocks of this one machine."""
    for before, after in pairwise(spans):
        assert before.end_ns <= after.start_ns, (before.name, after.name)


def assert_whole(receiver: Receiver, trace: list[Span], names: list[str]) -> None:
    root = root_of(trace)
    parents = {s.span_id for s in trace}
    assert all(s.parent_id in parents for s in trace if s is not root)
    below = chain(trace)
    assert [s.name for s in below] == names
    assert_one_after_the_other(below)
    assert below[0].start_ns >= root.start_ns
    assert below[-1].end_ns <= root.end_ns
    assert {s.attributes.get("rlsd.run_id", "r") for s in trace} == {"r"}
    services = {s.service for s in trace}
    assert services == {"rlsd-learner", "rlsd-rollout", "rlsd-verifier", "rlsd-teacher", "echoing"}
    assert_checks_are_followed(trace)
    assert_ends_with_its_version(receiver, trace)


def assert_checks_are_followed(trace: list[Span]) -> None:
    """Eight completions: eight requests by the verifier, each continued by who is asked."""
    (verify,) = [s for s in trace if s.name == "verify"]
    asked = [s for s in trace if s.name == "verifier.http"]
    assert [s.parent_id for s in asked] == [verify.span_id] * 8
    assert {s.attributes["rlsd.result"] for s in asked} == {"scored"}
    judged = [s for s in trace if s.name == "verifier.judge"]
    assert {s.parent_id for s in judged} == {s.span_id for s in asked}
    assert len(judged) == 8
    by_id = {s.span_id: s for s in asked}
    assert all(by_id[s.parent_id].start_ns <= s.start_ns < s.end_ns for s in judged)
    assert verify.attributes["rlsd.verdicts.scored"] == 8


def assert_ends_with_its_version(receiver: Receiver, trace: list[Span]) -> None:
    root, below = root_of(trace), {s.name: s for s in chain(trace)}
    step = below["publish"].attributes["rlsd.step"]
    assert below["publish"].attributes["rlsd.policy_version"] == step
    assert root.attributes["rlsd.policy_version"] == step
    assert root.attributes["rlsd.outcome"] == "trained"
    assert below["rollout.generate"].attributes["rlsd.max_policy_version"] == step - 1
    step_id = hashlib.sha256(f"r/step/{step}".encode()).hexdigest()[:32]
    (of_step,) = [s for s in receiver.traces()[step_id] if not s.parent_id]
    assert below["train"].links == below["publish"].links == [(step_id, of_step.span_id)]
    assert of_step.name == "step"
    assert of_step.links == []


def trained(run) -> list[str]:
    """Of `trained` groups, by the run's own audit of its batch log."""
    from rlsd.batch_log import BatchLog

    log = BatchLog(run.folder / "batches", "r")
    return [g.group_id for s in log.steps() for g in log.read(s).groups if g.outcome == "trained"]


@pytest.mark.parametrize(
    ("transport", "names"),
    [("redis", QUEUED), pytest.param("grpc", CALLED, marks=pytest.mark.long)],
    ids=["redis", "grpc"],
)
def test_each_group_has_one_trace_from_its_prompt_to_its_weight_version(
    run, collector, outside, transport, names
):
    result = run("run.steps=3", f"run.transport={transport}", *outside)
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=3)
    groups = trained(run)
    assert len(groups) > 12
    for group_id in groups:
        assert_whole(collector, trace_of(collector, "r", group_id), names)
    rejected = {group_id_of(i) for i in range(24)} - set(groups)
    for group_id in rejected:
        root = root_of(trace_of(collector, "r", group_id))
        assert root.attributes["rlsd.outcome"] == "rejected"
        assert root.attributes["rlsd.reason"] == "zero_variance"
    assert len(collector.traces()) == 24 + 3  # of groups and of steps; nobody else's
    assert_nothing_is_told(collector)


def assert_nothing_is_told(receiver: Receiver) -> None:
    """No text, of which the prompt, the reference and the privileged context are known here."""
    told = receiver.resources + "".join(s.raw for s in receiver.spans)
    assert "rlsd.group_id" in told
    for words in (SECRET, "Question", " ; ", "is not"):
        assert words not in told
    for span in receiver.spans:
        assert {k.split(".")[0] for k in span.attributes} <= {"rlsd", "rpc", "error"}


def test_a_worker_killed_in_the_middle_leaves_one_trace_with_two_deliveries(
    run, collector, outside
):
    def waiting(stage: str) -> set[str]:
        found = [s for s in collector.named("queue.wait") if s.attributes["rlsd.stage"] == stage]
        return {s.attributes["rlsd.group_id"] for s in found}

    process = run.start("run.steps=4", "run.abandoned_after_s=2", *outside)
    wait_for(lambda: waiting("rollout") >= {group_id_of(8)})  # the second step's first
    in_hand = waiting("rollout") - waiting("verify")
    for pid in children_of(process, "rollout"):
        os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert in_hand
    again = [
        s.attributes["rlsd.group_id"]
        for s in collector.named("rollout.generate")
        if s.attributes["rlsd.deliveries"] == 2
    ]
    assert set(again) <= in_hand
    assert len(again) == len(set(again)) > 0
    for group_id in again:
        trace = trace_of(collector, "r", group_id)
        waits = [s for s in trace if s.attributes.get("rlsd.stage") == "rollout"]
        counts = [(s.name, s.attributes["rlsd.deliveries"]) for s in waits]
        assert counts == [("queue.wait", 1), ("queue.wait", 2), ("rollout.generate", 2)]
        assert waits[0].start_ns == waits[1].start_ns  # it waited since it was sent, twice
        assert root_of(trace).attributes["rlsd.outcome"] in ("trained", "rejected")


def test_a_learner_that_dies_and_goes_on_adds_to_the_same_traces(
    run, collector, outside, tmp_path, monkeypatch
):
    monkeypatch.setenv("RLSD_FAILPOINT", "settle/train:2")
    monkeypatch.setenv("RLSD_FAILPOINT_ONCE", str(tmp_path / "passed"))
    result = run("run.steps=3", "learner.checkpoint_every=100", *outside)
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=3)
    found = set()
    for group_id in trained(run):
        trace = trace_of(collector, "r", group_id)
        root = root_of(trace)  # one, by whichever process
        # What was not sent yet when the process died is gone: it died just behind the seal.
        assert set(QUEUED) - {"seal"} <= {s.name for s in chain(trace)}
        (publish,) = [s for s in trace if s.name == "publish"]
        version = root.attributes["rlsd.policy_version"]
        assert publish.attributes["rlsd.policy_version"] == version
        trains = tuple("rlsd.resumed" in s.attributes for s in trace if s.name == "train")
        found.add((version, "rlsd.resumed" in root.attributes, trains))
    # Step 1 was published before and is trained twice; step 2 was logged and not trained yet.
    assert found == {(1, False, (False, True)), (2, True, (True,)), (3, False, (False,))}


def test_a_run_is_not_held_up_by_a_collector_that_is_not_there(run, monkeypatch):
    port = free_ports(1)[0]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    started = time.monotonic()
    result = run("run.steps=2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=2)
    assert time.monotonic() - started < 240
